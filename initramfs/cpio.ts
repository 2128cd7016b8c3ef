/**
 * Writer for the "newc" cpio format, the one the kernel unpacks into its first root file system
 * (Documentation/driver-api/early-userspace/buffer-format.rst). Deterministic: same entries, same bytes.
 */

export type CpioEntry =
  | { kind: 'directory'; path: string; mode: number }
  | { kind: 'file'; path: string; mode: number; bytes: Uint8Array }
  | { kind: 'symlink'; path: string; target: string }
  | { kind: 'characterDevice'; path: string; mode: number; major: number; minor: number };

const HEADER_BYTES = 110;
const S_IFCHR = 0o020000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const TRAILER_NAME = 'TRAILER!!!';
/** GNU cpio pads its archives to this; the kernel takes any multiple of four, but tools complain less. */
const BLOCK_BYTES = 512;

const encoder = new TextEncoder();

interface Record {
  inode: number;
  mode: number;
  linkCount: number;
  name: Uint8Array;
  body: Uint8Array;
  deviceMajor: number;
  deviceMinor: number;
}

/**
 * Archive of the entries in the order given; a directory must come before what is in it. Owner is root, times are 0.
 * Paths are relative (`dev/console`), without `.` and `..`; the root directory itself is the path `.`.
 * Throws RangeError on a path that breaks these rules or occurs twice.
 */
export function writeCpio(entries: readonly CpioEntry[]): Uint8Array<ArrayBuffer> {
  const seen = new Set<string>();
  const records = entries.map((entry, index) => {
    checkPath(entry.path, seen);
    seen.add(entry.path);
    // Inode 0 would make every file a hard link of the others.
    return toRecord(entry, index + 1);
  });
  records.push({ inode: 0, mode: 0, linkCount: 1, name: encoder.encode(TRAILER_NAME), body: new Uint8Array(0), deviceMajor: 0, deviceMinor: 0 });

  const contentBytes = records.reduce((sum, record) => sum + recordSize(record), 0);
  const archive = new Uint8Array(roundUp(contentBytes, BLOCK_BYTES));
  let offset = 0;
  for (const record of records) {
    archive.set(encodeHeader(record), offset);
    archive.set(record.name, offset + HEADER_BYTES);
    archive.set(record.body, offset + bodyOffset(record));
    offset += recordSize(record);
  }
  return archive;
}

function checkPath(path: string, seen: ReadonlySet<string>): void {
  if (seen.has(path)) throw new RangeError(`cpio: path "${path}" occurs twice`);
  if (path === '.') return;
  const parts = path.split('/');
  if (path === TRAILER_NAME || path.includes('\0') || parts.some((part) => part === '' || part === '.' || part === '..')) {
    throw new RangeError(`cpio: "${path}" is not a plain relative path`);
  }
  const parent = parts.slice(0, -1).join('/');
  // The kernel silently drops what has no directory to go to.
  if (parent !== '' && !seen.has(parent)) throw new RangeError(`cpio: directory of "${path}" must come before it`);
}

function toRecord(entry: CpioEntry, inode: number): Record {
  const base = { inode, linkCount: 1, name: encoder.encode(entry.path), body: new Uint8Array(0) as Uint8Array, deviceMajor: 0, deviceMinor: 0 };
  switch (entry.kind) {
    case 'directory':
      return { ...base, mode: S_IFDIR | entry.mode, linkCount: 2 };
    case 'file':
      return { ...base, mode: S_IFREG | entry.mode, body: entry.bytes };
    case 'symlink':
      return { ...base, mode: S_IFLNK | 0o777, body: encoder.encode(entry.target) };
    case 'characterDevice':
      return { ...base, mode: S_IFCHR | entry.mode, deviceMajor: entry.major, deviceMinor: entry.minor };
  }
}

function encodeHeader(record: Record): Uint8Array {
  const fields = [
    record.inode,
    record.mode,
    0, // uid
    0, // gid
    record.linkCount,
    0, // mtime
    record.body.length,
    0, // device the file was on
    0,
    record.deviceMajor,
    record.deviceMinor,
    record.name.length + 1,
    0, // checksum: not used by newc
  ];
  return encoder.encode('070701' + fields.map((field) => field.toString(16).toUpperCase().padStart(8, '0')).join(''));
}

/** Name ends with NUL; name and body are each padded to a multiple of four, counted from the header's start. */
function bodyOffset(record: Record): number {
  return roundUp(HEADER_BYTES + record.name.length + 1, 4);
}

function recordSize(record: Record): number {
  return bodyOffset(record) + roundUp(record.body.length, 4);
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}
