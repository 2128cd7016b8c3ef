import { byteStringFrom } from './bytes.ts';
import type { PaxRecord } from './pax.ts';
import type { Extent } from './tar-entry.ts';
import { parseDecimal, parseNumberField } from './tar-number.ts';

/**
 * GNU tar's four ways to store a sparse file (GNU tar manual, "Storing Sparse Files"). A map lists where data is; the entry's
 * body holds only that data, one piece after the other. All parsers return undefined for what is no map.
 */

/** The old format keeps the map in header blocks: 24 bytes an extent, the first four in the header itself. */
export const OLD_SPARSE = {
  header: { mapOffset: 386, extents: 4, continuedOffset: 482, realSizeOffset: 483 },
  /** A block behind the header, as long as the one before says `continued`. */
  extension: { mapOffset: 0, extents: 21, continuedOffset: 504 },
} as const;

const NUMBER_BYTES = 12;

export function parseOldSparseMap(block: Uint8Array, place: { mapOffset: number; extents: number }): Extent[] | undefined {
  const extents: Extent[] = [];
  for (let i = 0; i < place.extents; i++) {
    const start = place.mapOffset + i * 2 * NUMBER_BYTES;
    const field = block.subarray(start, start + 2 * NUMBER_BYTES);
    // An unused slot is empty; a slot of the text "0" and "0" is an extent without data.
    if (field[0] === 0) break;
    const offsetBytes = parseNumberField(field.subarray(0, NUMBER_BYTES));
    const lengthBytes = parseNumberField(field.subarray(NUMBER_BYTES));
    if (offsetBytes === undefined || lengthBytes === undefined) return undefined;
    extents.push({ offsetBytes, lengthBytes });
  }
  return extents;
}

export function parseOldRealSize(header: Uint8Array): number | undefined {
  const start = OLD_SPARSE.header.realSizeOffset;
  return parseNumberField(header.subarray(start, start + NUMBER_BYTES));
}

/** What PAX records say about a sparse file. */
export interface PaxSparse {
  /** `GNU.sparse.name`: the file's name; `path` then holds a made-up one. */
  path: Uint8Array | undefined;
  realSizeBytes: number | undefined;
  /** `body`: format 1.0, the map is text at the beginning of the body. */
  map: 'body' | Extent[] | undefined;
}

/** Formats 0.0 (repeated offset/numbytes), 0.1 (`GNU.sparse.map`) and 1.0. Undefined: the file is not sparse. `map: undefined`: broken. */
export function parsePaxSparse(records: readonly PaxRecord[]): PaxSparse | undefined {
  const values = new Map<string, Uint8Array>();
  const repeated: number[] = [];
  let broken = false;
  for (const { key, value } of records) {
    if (!key.startsWith('GNU.sparse.')) continue;
    values.set(key, value);
    if (key !== 'GNU.sparse.offset' && key !== 'GNU.sparse.numbytes') continue;
    const isOffset = key === 'GNU.sparse.offset';
    const number = parseDecimal(byteStringFrom(value));
    if (number === undefined || isOffset !== (repeated.length % 2 === 0)) broken = true;
    repeated.push(number ?? 0);
  }
  if (values.size === 0) return undefined;
  const number = (key: string): number | undefined => {
    const value = values.get(key);
    return value === undefined ? undefined : parseDecimal(byteStringFrom(value));
  };
  const path = values.get('GNU.sparse.name');
  if (values.has('GNU.sparse.major') || values.has('GNU.sparse.minor')) {
    const known = number('GNU.sparse.major') === 1 && number('GNU.sparse.minor') === 0;
    return { path, realSizeBytes: number('GNU.sparse.realsize'), map: known ? 'body' : undefined };
  }
  const list = values.get('GNU.sparse.map');
  const numbers = list === undefined ? repeated : parseNumberList(list);
  return { path, realSizeBytes: number('GNU.sparse.size'), map: broken ? undefined : pairUp(numbers) };
}

function parseNumberList(value: Uint8Array): number[] | undefined {
  if (value.length === 0) return [];
  const numbers: number[] = [];
  for (const text of byteStringFrom(value).split(',')) {
    const number = parseDecimal(text);
    if (number === undefined) return undefined;
    numbers.push(number);
  }
  return numbers;
}

function pairUp(numbers: readonly number[] | undefined): Extent[] | undefined {
  if (numbers === undefined || numbers.length % 2 !== 0) return undefined;
  const extents: Extent[] = [];
  for (let i = 0; i < numbers.length; i += 2) extents.push({ offsetBytes: numbers[i] ?? 0, lengthBytes: numbers[i + 1] ?? 0 });
  return extents;
}

const NEWLINE = 0x0a;

/** Reads the map of format 1.0: decimal numbers, one a line: the count, then offset and length of each extent. Feed it block by block. */
export class BodyMapParser {
  readonly #numbers: number[] = [];
  #digits = '';

  /** `more`: another block is needed. */
  push(block: Uint8Array): Extent[] | 'more' | undefined {
    for (const byte of block) {
      if (byte !== NEWLINE) {
        this.#digits += String.fromCharCode(byte);
        if (this.#digits.length > 16) return undefined;
        continue;
      }
      const number = parseDecimal(this.#digits);
      if (number === undefined) return undefined;
      this.#digits = '';
      this.#numbers.push(number);
      const count = this.#numbers[0] ?? 0;
      if (this.#numbers.length === 1 + 2 * count) return pairUp(this.#numbers.slice(1));
    }
    return 'more';
  }
}

/**
 * Checks a map: ascending, apart, inside the file, as much data as the body has. Returns the extents that hold data,
 * or what is wrong.
 */
export function checkSparseMap(map: readonly Extent[], file: { sizeBytes: number; dataBytes: number }): Extent[] | string {
  const extents: Extent[] = [];
  let end = 0;
  let dataBytes = 0;
  for (const { offsetBytes, lengthBytes } of map) {
    if (offsetBytes < 0 || lengthBytes < 0) return 'sparse map has a negative number';
    if (offsetBytes < end) return 'sparse map has extents that overlap or go backwards';
    end = offsetBytes + lengthBytes;
    if (end > file.sizeBytes) return 'sparse map goes beyond the end of the file';
    dataBytes += lengthBytes;
    if (lengthBytes > 0) extents.push({ offsetBytes, lengthBytes });
  }
  if (dataBytes !== file.dataBytes) return `sparse map lists ${dataBytes} bytes of data, the entry has ${file.dataBytes}`;
  return extents;
}
