import { bytesOf, copyByteString } from './bytes.ts';
import type { TarEntry, TarEntryType } from './tar-entry.ts';
import { TAR_BLOCK_BYTES } from './tar-header.ts';
import { zeros } from './tar-recipe.ts';

/**
 * Writes tar archives (POSIX.1-2017 pax, "ustar Interchange Format"); what does not fit into a plain header goes into an
 * extended one. The same entries give the same bytes.
 */
const FLAGS: Readonly<Record<TarEntryType, string>> = { file: '0', hardlink: '1', symlink: '2', character: '3', block: '4', directory: '5', fifo: '6' };

const NAME_BYTES = 100;
const PREFIX_BYTES = 155;
const ID_MAX = 0o7777777;
const SIZE_MAX = 0o77777777777;
const END_BLOCKS = 2;

/** The whole archive. Bodies are read as they are written; sparse files are written out. */
export async function* writeTar(entries: AsyncIterable<TarEntry>): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const entry of entries) {
    yield headersOf(entry);
    let at = 0;
    for await (const { offsetBytes, data } of entry.body) {
      yield* zeros(offsetBytes - at);
      yield data;
      at = offsetBytes + data.length;
    }
    yield* zeros(paddedBytes(entry.sizeBytes) - at);
  }
  yield new Uint8Array(END_BLOCKS * TAR_BLOCK_BYTES);
}

function paddedBytes(sizeBytes: number): number {
  return Math.ceil(sizeBytes / TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES;
}

function headersOf(entry: TarEntry): Uint8Array {
  const records = extendedRecords(entry);
  const split = splitName(entry.path);
  const plain = headerBlock({
    ...entry,
    flag: FLAGS[entry.type],
    name: split?.name ?? entry.path.slice(-NAME_BYTES),
    prefix: split?.prefix ?? '',
    link: entry.linkPath.slice(0, NAME_BYTES),
    seconds: entry.mtime.seconds,
  });
  if (records.length === 0) return plain;
  const extended = new Uint8Array(paddedBytes(records.length));
  extended.set(records);
  const front = headerBlock({ flag: 'x', name: 'PaxHeaders/entry', prefix: '', link: '', mode: 0o644, uid: 0, gid: 0, sizeBytes: records.length, seconds: 0, device: { major: 0, minor: 0 } });
  const whole = new Uint8Array(front.length + extended.length + plain.length);
  whole.set(front);
  whole.set(extended, front.length);
  whole.set(plain, front.length + extended.length);
  return whole;
}

interface Header {
  flag: string;
  name: string;
  prefix: string;
  link: string;
  mode: number;
  uid: number;
  gid: number;
  sizeBytes: number;
  seconds: number;
  device: { major: number; minor: number };
}

/** Undefined: the name fits into no plain header. */
function splitName(path: string): { name: string; prefix: string } | undefined {
  if (path.length <= NAME_BYTES) return { name: path, prefix: '' };
  const slash = path.indexOf('/', path.length - NAME_BYTES - 1);
  if (slash <= 0 || slash > PREFIX_BYTES || slash === path.length - 1) return undefined;
  return { name: path.slice(slash + 1), prefix: path.slice(0, slash) };
}

function headerBlock(header: Header): Uint8Array {
  const block = new Uint8Array(TAR_BLOCK_BYTES);
  const text = (offset: number, value: string): void => copyByteString(value, block, offset);
  const octal = (offset: number, digits: number, value: number): void => text(offset, `${value.toString(8).padStart(digits, '0')}\0`);
  text(0, header.name);
  octal(100, 7, header.mode);
  octal(108, 7, clamped(header.uid, ID_MAX));
  octal(116, 7, clamped(header.gid, ID_MAX));
  octal(124, 11, clamped(header.sizeBytes, SIZE_MAX));
  octal(136, 11, clamped(header.seconds, SIZE_MAX));
  text(156, header.flag);
  text(157, header.link);
  text(257, 'ustar\x0000');
  octal(329, 7, header.device.major);
  octal(337, 7, header.device.minor);
  text(345, header.prefix);
  text(148, ' '.repeat(8));
  const sum = block.reduce((total, byte) => total + byte, 0);
  text(148, `${sum.toString(8).padStart(6, '0')}\0 `);
  return block;
}

/** What does not fit is in the extended header, which counts. */
function clamped(value: number, maximum: number): number {
  return value >= 0 && value <= maximum ? value : 0;
}

function extendedRecords(entry: TarEntry): Uint8Array {
  const { mtime, path, linkPath } = entry;
  const records: [string, Uint8Array][] = [];
  const add = (key: string, value: string): number => records.push([key, bytesOf(value)]);
  if (splitName(path) === undefined) add('path', path);
  if (linkPath.length > NAME_BYTES) add('linkpath', linkPath);
  if (entry.uid > ID_MAX) add('uid', String(entry.uid));
  if (entry.gid > ID_MAX) add('gid', String(entry.gid));
  if (entry.sizeBytes > SIZE_MAX) add('size', String(entry.sizeBytes));
  if (mtime.nanoseconds !== 0 || mtime.seconds < 0 || mtime.seconds > SIZE_MAX) add('mtime', timeText(mtime));
  const names = [...entry.xattrs.keys()].sort();
  for (const name of names) records.push([`SCHILY.xattr.${name}`, entry.xattrs.get(name) ?? new Uint8Array(0)]);
  return joined(records.map(([key, value]) => recordBytes(key, value)));
}

/** Nanoseconds count upwards from the second, which may be before 1970. */
function timeText({ seconds, nanoseconds }: TarEntry['mtime']): string {
  if (nanoseconds === 0) return String(seconds);
  const isNegative = seconds < 0;
  const [whole, fraction] = isNegative ? [-seconds - 1, 1_000_000_000 - nanoseconds] : [seconds, nanoseconds];
  const digits = String(fraction).padStart(9, '0');
  return `${isNegative ? '-' : ''}${whole}.${digits}`;
}

/** `LENGTH KEY=VALUE\n`, where the length counts its own digits. */
function recordBytes(key: string, value: Uint8Array): Uint8Array {
  const rest = key.length + value.length + 3;
  let length = rest + String(rest).length;
  if (String(length).length > String(rest).length) length = rest + String(length).length;
  const head = bytesOf(`${length} ${key}=`);
  const record = new Uint8Array(length);
  record.set(head);
  record.set(value, head.length);
  record[length - 1] = 0x0a;
  return record;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
