/** The runtime's C bindings under Node: addresses are handles that can be followed back, calls succeed and do nothing. */
import { createHash } from 'node:crypto';
import type { Bytes, Sys } from '../../runtime/sys.ts';

const FIRST_ADDRESS = 0x10000;
const buffers: Bytes[] = [];

const fake: Sys = {
  call: () => 0,
  spawn: () => 42,
  prepare: () => new Uint8Array(),
  address: (buffer) => FIRST_ADDRESS + buffers.push(buffer) - 1,
  map: (_address, lengthBytes) => new ArrayBuffer(lengthBytes),
  detach() {},
  utf8: (text) => new Uint8Array(Buffer.from(`${text}\0`)),
  text: (bytes) => Buffer.from(bytes).toString(),
  environment: () => [],
  lines() {},
  hooks() {},
  hex: (bytes) => Buffer.from(bytes).toString('hex'),
  unhex: (text, bytes) => Buffer.from(text, 'hex').copy(bytes) * 2 === text.length,
  hash: (bits, bytes) => new Uint8Array(createHash(`sha${bits}`).update(bytes).digest()),
  argv: [],
};

globalThis.sys = fake;

/** What an address stored in a structure points to. */
export function pointee(struct: Uint8Array, offset: number): Bytes {
  const address = Number(new DataView(struct.buffer, struct.byteOffset).getBigUint64(offset, true));
  const buffer = buffers[address - FIRST_ADDRESS];
  if (buffer === undefined) throw new Error(`no buffer at ${address}`);
  return buffer;
}
