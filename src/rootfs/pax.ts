import { byteStringFrom } from './bytes.ts';
import { parseDecimal } from './tar-number.ts';

/** One `LENGTH KEY=VALUE\n` of an extended header; the key is a byte string, the value any bytes. */
export interface PaxRecord {
  key: string;
  value: Uint8Array;
}

const SPACE = 0x20;
const NEWLINE = 0x0a;
const EQUALS = 0x3d;
const MAX_LENGTH_DIGITS = 10;

/**
 * The records of an extended header in their order (POSIX.1-2017 pax, "pax Extended Header").
 * Values are copies. Returns undefined if the bytes are not records from the first to the last byte.
 */
export function parsePaxRecords(bytes: Uint8Array): PaxRecord[] | undefined {
  const records: PaxRecord[] = [];
  let at = 0;
  while (at < bytes.length) {
    const space = bytes.subarray(at, at + MAX_LENGTH_DIGITS + 1).indexOf(SPACE);
    if (space < 1) return undefined;
    const length = parseDecimal(byteStringFrom(bytes.subarray(at, at + space)));
    if (length === undefined || length > bytes.length - at) return undefined;
    const record = bytes.subarray(at + space + 1, at + length);
    const equals = record.indexOf(EQUALS);
    if (equals < 1 || record[record.length - 1] !== NEWLINE) return undefined;
    records.push({ key: byteStringFrom(record.subarray(0, equals)), value: record.slice(equals + 1, -1) });
    at += length;
  }
  return records;
}
