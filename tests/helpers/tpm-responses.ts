import { ByteWriter, fromHex } from '../../src/tpm/bytes.ts';

/** A response around a body given in hexadecimal, with a wrong head where the test wants one. */
export function responseFrame(bodyHex: string, head: { tag?: number; size?: number; code?: number } = {}): Uint8Array {
  const body = fromHex(bodyHex, 'body');
  return new ByteWriter('big').u16(head.tag ?? 0x8001).u32(head.size ?? 10 + body.length).u32(head.code ?? 0).raw(body).bytes;
}
