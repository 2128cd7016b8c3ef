/** Bytes in and out: TPM structures are big-endian, event logs little-endian. Every read is bounded, every failure an RktError. */
import { RktError } from '../error.ts';

export type ByteOrder = 'big' | 'little';

const FIRST_CAPACITY_BYTES = 256;

export class ByteWriter {
  readonly #little: boolean;
  #bytes = new Uint8Array(FIRST_CAPACITY_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #size = 0;

  constructor(order: ByteOrder) {
    this.#little = order === 'little';
  }

  u8(value: number): this {
    const at = this.#size;
    if ((this.#size = at + 1) > this.#bytes.length) this.#grow(at);
    this.#bytes[at] = value;
    return this;
  }

  u16(value: number): this {
    const at = this.#size;
    if ((this.#size = at + 2) > this.#bytes.length) this.#grow(at);
    this.#view.setUint16(at, value, this.#little);
    return this;
  }

  u32(value: number): this {
    const at = this.#size;
    if ((this.#size = at + 4) > this.#bytes.length) this.#grow(at);
    this.#view.setUint32(at, value, this.#little);
    return this;
  }

  raw(bytes: Uint8Array): this {
    const at = this.#size;
    if ((this.#size = at + bytes.length) > this.#bytes.length) this.#grow(at);
    this.#bytes.set(bytes, at);
    return this;
  }

  /** u16 length, then the bytes: every TPM2B structure. */
  sized16(bytes: Uint8Array): this {
    if (bytes.length > 0xffff) throw new RktError('LIMIT', `${bytes.length} bytes do not fit a TPM2B structure`);
    return this.u16(bytes.length).raw(bytes);
  }

  /** u32 length, then the bytes. */
  sized32(bytes: Uint8Array): this {
    return this.u32(bytes.length).raw(bytes);
  }

  /** A copy of what has been written. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#size);
  }

  /** Makes room for the size that was just set. Not called for each value: where the agent runs, a call costs as much as the rest. */
  #grow(usedBytes: number): void {
    const larger = new Uint8Array(Math.max(this.#size, 2 * this.#bytes.length));
    larger.set(this.#bytes.subarray(0, usedBytes));
    this.#bytes = larger;
    this.#view = new DataView(larger.buffer);
  }
}

/** Reads views of the given bytes, not copies. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #little: boolean;
  readonly #name: string;
  #at = 0;

  /** @param name what is read, the beginning of every message */
  constructor(bytes: Uint8Array, order: ByteOrder, name: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#little = order === 'little';
    this.#name = name;
  }

  get positionBytes(): number {
    return this.#at;
  }

  get leftBytes(): number {
    return this.#bytes.length - this.#at;
  }

  u8(): number {
    const at = this.#at;
    if ((this.#at = at + 1) > this.#bytes.length) this.#failAt(at);
    return this.#view.getUint8(at);
  }

  u16(): number {
    const at = this.#at;
    if ((this.#at = at + 2) > this.#bytes.length) this.#failAt(at);
    return this.#view.getUint16(at, this.#little);
  }

  u32(): number {
    const at = this.#at;
    if ((this.#at = at + 4) > this.#bytes.length) this.#failAt(at);
    return this.#view.getUint32(at, this.#little);
  }

  u64(): bigint {
    const at = this.#at;
    if ((this.#at = at + 8) > this.#bytes.length) this.#failAt(at);
    return this.#view.getBigUint64(at, this.#little);
  }

  take(sizeBytes: number): Uint8Array {
    const at = this.#at;
    if ((this.#at = at + sizeBytes) > this.#bytes.length) this.#failAt(at);
    return this.#bytes.subarray(at, this.#at);
  }

  sized16(): Uint8Array {
    return this.take(this.u16());
  }

  /** A count that is checked before anything of that number is read. */
  count(maximum: number, what: string): number {
    const count = this.u32();
    if (count > maximum) this.fail(`${count} ${what}, at most ${maximum} are accepted`);
    return count;
  }

  expectEnd(): void {
    if (this.#at < this.#bytes.length) this.fail(`${this.leftBytes} bytes too many`);
  }

  fail(message: string): never {
    throw new RktError('BAD_INPUT', `${this.#name}: ${message} (byte ${this.#at})`);
  }

  /** For a step that led beyond the end: the checks are with each read, as in ByteWriter. @param at where it began */
  #failAt(at: number): never {
    const sizeBytes = this.#at - at;
    this.#at = at;
    this.fail(`${sizeBytes} bytes expected, ${this.leftBytes} left`);
  }
}

export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** Not in constant time: nothing compared here is secret. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

const HEX_DIGITS = '0123456789abcdef';

/** Of newer engines (ECMAScript 2026); where a byte costs a microsecond, loops over them are too slow. */
interface NativeHex {
  fromHex?(text: string): Uint8Array<ArrayBuffer>;
  prototype: { toHex?(this: Uint8Array): string };
}
const native = Uint8Array as unknown as NativeHex;

export function toHex(bytes: Uint8Array): string {
  const { toHex: ofEngine } = native.prototype;
  if (ofEngine !== undefined) return ofEngine.call(bytes);
  let text = '';
  for (const byte of bytes) text += HEX_DIGITS.charAt(byte >> 4) + HEX_DIGITS.charAt(byte & 15);
  return text;
}

/**
 * @param what names the field in the message
 * @throws RktError BAD_INPUT
 */
export function fromHex(text: string, what: string): Uint8Array<ArrayBuffer> {
  try {
    return native.fromHex?.(text) ?? fromDigits(text);
  } catch (cause) {
    throw new RktError('BAD_INPUT', `${what}: expected an even number of hexadecimal digits`, { cause });
  }
}

function fromDigits(text: string): Uint8Array<ArrayBuffer> {
  if (text.length % 2 !== 0) throw new SyntaxError('half a byte');
  const bytes = new Uint8Array(text.length >> 1);
  const digits = text.toLowerCase();
  for (let i = 0; i < digits.length; i++) {
    const value = HEX_DIGITS.indexOf(digits.charAt(i));
    if (value < 0) throw new SyntaxError('no hexadecimal digit');
    bytes[i >> 1] = ((bytes[i >> 1] ?? 0) << 4) | value;
  }
  return bytes;
}

/** Lower-case digits only: what this project writes. */
export function isHex(text: string, length: number): boolean {
  if (text.length !== length) return false;
  for (const digit of text) if (!HEX_DIGITS.includes(digit)) return false;
  return true;
}
