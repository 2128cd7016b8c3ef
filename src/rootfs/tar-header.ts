import { byteStringFrom } from './bytes.ts';
import { parseNumberField } from './tar-number.ts';

export const TAR_BLOCK_BYTES = 512;

/** A header block as it stands in the archive; numbers are undefined where the field holds none. Strings are byte strings. */
export interface TarHeader {
  /** The type flag; NUL (old archives) reads as `0`. */
  flag: string;
  path: string;
  linkPath: string;
  mode: number | undefined;
  uid: number | undefined;
  gid: number | undefined;
  sizeBytes: number | undefined;
  mtimeSeconds: number | undefined;
  deviceMajor: number | undefined;
  deviceMinor: number | undefined;
  isGnu: boolean;
}

/** POSIX.1-2017 pax, "ustar Interchange Format"; `length` in bytes. */
const FIELDS = {
  path: { offset: 0, length: 100 },
  mode: { offset: 100, length: 8 },
  uid: { offset: 108, length: 8 },
  gid: { offset: 116, length: 8 },
  size: { offset: 124, length: 12 },
  mtime: { offset: 136, length: 12 },
  checksum: { offset: 148, length: 8 },
  flag: { offset: 156, length: 1 },
  linkPath: { offset: 157, length: 100 },
  magic: { offset: 257, length: 8 },
  deviceMajor: { offset: 329, length: 8 },
  deviceMinor: { offset: 337, length: 8 },
  prefix: { offset: 345, length: 155 },
  /** star keeps times behind a shorter prefix and signs with `tar` at the end. */
  starPrefix: { offset: 345, length: 131 },
  starMagic: { offset: 508, length: 4 },
} as const;

interface Field {
  offset: number;
  length: number;
}

function fieldBytes(block: Uint8Array, field: Field): Uint8Array {
  return block.subarray(field.offset, field.offset + field.length);
}

/** Text up to the first NUL or the end of the field. */
function fieldText(block: Uint8Array, field: Field): string {
  let end = field.offset;
  while (end < field.offset + field.length && block[end] !== 0) end++;
  return byteStringFrom(block.subarray(field.offset, end));
}

function fieldNumber(block: Uint8Array, field: Field): number | undefined {
  return parseNumberField(fieldBytes(block, field));
}

export function isZeroBlock(block: Uint8Array): boolean {
  for (let i = 0; i < block.length; i++) if (block[i] !== 0) return false;
  return true;
}

/** The sum of all bytes with the checksum field read as spaces; some old writers summed signed bytes. */
export function hasValidChecksum(block: Uint8Array): boolean {
  const expected = fieldNumber(block, FIELDS.checksum);
  const { offset, length } = FIELDS.checksum;
  let unsigned = 0x20 * length;
  let signed = unsigned;
  for (let i = 0; i < TAR_BLOCK_BYTES; i++) {
    if (i >= offset && i < offset + length) continue;
    const byte = block[i] ?? 0;
    unsigned += byte;
    signed += byte < 0x80 ? byte : byte - 0x100;
  }
  return expected === unsigned || expected === signed;
}

export function parseHeader(block: Uint8Array): TarHeader {
  const magic = byteStringFrom(fieldBytes(block, FIELDS.magic));
  const isGnu = magic === 'ustar  \0';
  const isUstar = magic.startsWith('ustar\0');
  const path = fieldText(block, FIELDS.path);
  const flag = fieldText(block, FIELDS.flag);
  return {
    flag: flag === '' ? '0' : flag,
    path: isUstar ? joinPrefix(block, path) : path,
    linkPath: fieldText(block, FIELDS.linkPath),
    mode: fieldNumber(block, FIELDS.mode),
    uid: fieldNumber(block, FIELDS.uid),
    gid: fieldNumber(block, FIELDS.gid),
    sizeBytes: fieldNumber(block, FIELDS.size),
    mtimeSeconds: fieldNumber(block, FIELDS.mtime),
    deviceMajor: isUstar || isGnu ? fieldNumber(block, FIELDS.deviceMajor) : 0,
    deviceMinor: isUstar || isGnu ? fieldNumber(block, FIELDS.deviceMinor) : 0,
    isGnu,
  };
}

function joinPrefix(block: Uint8Array, path: string): string {
  const isStar = byteStringFrom(fieldBytes(block, FIELDS.starMagic)) === 'tar\0';
  const prefix = fieldText(block, isStar ? FIELDS.starPrefix : FIELDS.prefix);
  return prefix === '' ? path : `${prefix}/${path}`;
}
