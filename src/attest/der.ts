/** DER (X.690), as far as certificates need it. */
import { RktError } from '../error.ts';
import { concatBytes, equalBytes } from '../tpm/bytes.ts';

export const DER = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8String: 0x0c,
  sequence: 0x30,
  set: 0x31,
  utcTime: 0x17,
  generalizedTime: 0x18,
} as const;

/** A context-specific tag with contents of its own. */
export function explicitTag(number: number): number {
  return 0xa0 | number;
}

export interface DerValue {
  tag: number;
  content: Uint8Array;
  /** With tag and length. */
  whole: Uint8Array;
}

const LONG_FORM = 0x80;
const MAX_LENGTH_BYTES = 3;

function fail(message: string): never {
  throw new RktError('BAD_INPUT', `certificate: ${message}`);
}

/** The values one behind the other in these bytes. @throws RktError BAD_INPUT */
export function derValues(bytes: Uint8Array): DerValue[] {
  const values: DerValue[] = [];
  for (let at = 0; at < bytes.length;) {
    const value = valueAt(bytes, at);
    values.push(value);
    at += value.whole.length;
  }
  return values;
}

/** The one value these bytes are. @throws RktError BAD_INPUT */
export function derValue(bytes: Uint8Array, tag: number): DerValue {
  const value = valueAt(bytes, 0);
  if (value.whole.length !== bytes.length) fail('bytes behind its end');
  return expectTag(value, tag);
}

export function expectTag(value: DerValue | undefined, tag: number): DerValue {
  if (value === undefined) fail(`a value with tag 0x${tag.toString(16)} is missing`);
  if (value.tag !== tag) fail(`found tag 0x${value.tag.toString(16)}, expected 0x${tag.toString(16)}`);
  return value;
}

function valueAt(bytes: Uint8Array, at: number): DerValue {
  const tag = bytes[at];
  const first = bytes[at + 1];
  if (tag === undefined || first === undefined) return fail('ends in the middle of a value');
  if ((tag & 0x1f) === 0x1f) fail('tags of several bytes are not read');
  let length = first;
  let headBytes = 2;
  if (first >= LONG_FORM) {
    const lengthBytes = first & ~LONG_FORM;
    // 0 would be the indefinite form, which DER has not.
    if (lengthBytes === 0 || lengthBytes > MAX_LENGTH_BYTES) fail('length of a value out of range');
    length = bytes.subarray(at + 2, at + 2 + lengthBytes).reduce((sum, byte) => sum * 256 + byte, 0);
    if (length < LONG_FORM || length < 256 ** (lengthBytes - 1)) fail('length of a value not in its shortest form');
    headBytes += lengthBytes;
  }
  const end = at + headBytes + length;
  if (end > bytes.length) fail('ends in the middle of a value');
  return { tag, content: bytes.subarray(at + headBytes, end), whole: bytes.subarray(at, end) };
}

export function encodeDer(tag: number, ...contents: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const content = concatBytes(...contents);
  return concatBytes(new Uint8Array([tag, ...encodeLength(content.length)]), content);
}

function encodeLength(length: number): number[] {
  if (length < LONG_FORM) return [length];
  const bytes: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256);
  return [LONG_FORM | bytes.length, ...bytes];
}

/** A number that is not negative, from its bytes, most significant first. */
export function encodeUnsigned(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const start = bytes.findIndex((byte) => byte !== 0);
  const digits = start < 0 ? new Uint8Array(1) : bytes.subarray(start);
  return (digits[0]! & 0x80) === 0 ? encodeDer(DER.integer, digits) : encodeDer(DER.integer, new Uint8Array(1), digits);
}

/** The bytes of a number that is not negative, without leading zeros. */
export function unsignedOf(value: DerValue): Uint8Array {
  const { content } = expectTag(value, DER.integer);
  if (content.length === 0 || (content[0]! & 0x80) !== 0) fail('a number is negative');
  return content[0] === 0 && content.length > 1 ? content.subarray(1) : content;
}

/** A bit string that ends at a byte's end. */
export function encodeBits(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return encodeDer(DER.bitString, new Uint8Array(1), bytes);
}

export function wholeBytesOf(value: DerValue): Uint8Array {
  const { content } = expectTag(value, DER.bitString);
  if (content[0] !== 0) fail('a bit string does not end at a byte\'s end');
  return content.subarray(1);
}

/** `1.2.840.10045.2.1` */
export function encodeOid(text: string): Uint8Array<ArrayBuffer> {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  const bytes: number[] = [];
  for (const arc of [40 * first + second, ...rest]) {
    const digits = [arc & 0x7f];
    for (let left = arc >>> 7; left > 0; left >>>= 7) digits.unshift(0x80 | (left & 0x7f));
    bytes.push(...digits);
  }
  return encodeDer(DER.oid, new Uint8Array(bytes));
}

/** The name among these whose OID the value is; undefined: none of them. */
export function oidName<T extends string>(value: DerValue | undefined, oids: Readonly<Record<T, string>>): T | undefined {
  const { whole } = expectTag(value, DER.oid);
  return (Object.keys(oids) as T[]).find((name) => equalBytes(encodeOid(oids[name]), whole));
}
