/**
 * Reads an uncompressed EROFS file system, written from the format's description and apart from the writer, strict about
 * everything that Linux relies on. Names are byte strings (latin1).
 */
export type ReadAt = (offsetBytes: number, lengthBytes: number) => Uint8Array;

export interface ErofsFile {
  nid: number;
  type: 'file' | 'directory' | 'symlink' | 'character' | 'block' | 'fifo' | 'socket';
  mode: number;
  uid: number;
  gid: number;
  mtimeSeconds: bigint;
  mtimeNanoseconds: number;
  links: number;
  sizeBytes: number;
  device: { major: number; minor: number };
  layout: 'plain' | 'inline' | 'chunked';
  xattrs: Map<string, Uint8Array>;
  read(offsetBytes: number, lengthBytes: number): Uint8Array;
  /** By name, `.` and `..` not included. */
  children(): Map<string, ErofsFile>;
}

const BLOCK = 4096;
const TYPES: Readonly<Record<number, { type: ErofsFile['type']; code: number }>> = {
  0o100000: { type: 'file', code: 1 },
  0o040000: { type: 'directory', code: 2 },
  0o020000: { type: 'character', code: 3 },
  0o060000: { type: 'block', code: 4 },
  0o010000: { type: 'fifo', code: 5 },
  0o140000: { type: 'socket', code: 6 },
  0o120000: { type: 'symlink', code: 7 },
};
const LAYOUTS: Readonly<Record<number, ErofsFile['layout']>> = { 0: 'plain', 2: 'inline', 4: 'chunked' };
const XATTR_PREFIXES: Readonly<Record<number, string>> = { 1: 'user.', 2: 'system.posix_acl_access', 3: 'system.posix_acl_default', 4: 'trusted.', 6: 'security.' };

function check(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(`EROFS: ${message}`);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

/** The root directory. Checks the superblock. */
export function openErofs(readAt: ReadAt): ErofsFile {
  const first = readAt(0, BLOCK);
  const superblock = viewOf(first.subarray(1024));
  check(superblock.getUint32(0, true) === 0xe0f5e1e2, 'magic');
  check(superblock.getUint8(12) === 12, 'block size');
  check((superblock.getUint32(8, true) & 1) === 1, 'checksum feature');
  const expected = superblock.getUint32(4, true);
  const area = first.slice(1024);
  area.fill(0, 4, 8);
  check(crc32c(area) === expected, 'superblock checksum');
  const usesChunks = (superblock.getUint32(80, true) & 4) !== 0;
  check((superblock.getUint32(80, true) & ~4) === 0, 'incompatible features');
  const blocks = superblock.getUint32(36, true);
  const metadata = superblock.getUint32(40, true) * BLOCK;
  const rootNid = superblock.getUint16(14, true);
  const readChecked: ReadAt = (offset, length) => {
    check(offset + length <= blocks * BLOCK, `read of ${length} at ${offset} beyond the file system`);
    return readAt(offset, length);
  };
  const root = readInode({ readAt: readChecked, metadata, usesChunks }, rootNid);
  check(root.type === 'directory', 'root is no directory');
  return root;
}

interface FileSystem {
  readAt: ReadAt;
  metadata: number;
  usesChunks: boolean;
}

function readInode(fs: FileSystem, nid: number): ErofsFile {
  const offset = fs.metadata + nid * 32;
  check((offset % BLOCK) + 64 <= BLOCK, `inode ${nid} crosses a block`);
  const inode = viewOf(fs.readAt(offset, 64));
  const format = inode.getUint16(0, true);
  check((format & 1) === 1, 'inode is not extended');
  const layout = LAYOUTS[format >> 1];
  const kind = TYPES[inode.getUint16(4, true) & 0o170000];
  check(layout !== undefined && kind !== undefined, `inode ${nid} of unknown layout or type`);
  const { type } = kind;
  check(layout !== 'chunked' || fs.usesChunks, 'chunks without their feature');
  const sizeBytes = Number(inode.getBigUint64(8, true));
  const union = inode.getUint32(16, true);
  const xattrCount = inode.getUint16(2, true);
  const xattrBytes = xattrCount === 0 ? 0 : 12 + (xattrCount - 1) * 4;
  check(xattrCount !== 1, 'xattr area without entries');
  const behind = offset + 64 + xattrBytes;
  const blockCount = Math.ceil(sizeBytes / BLOCK);
  if (layout === 'inline') check((behind % BLOCK) + (sizeBytes - (blockCount - 1) * BLOCK) <= BLOCK, `inline data of inode ${nid} crosses a block`);
  const blockAt = (index: number, length: number): Uint8Array => {
    if (layout === 'inline' && index === blockCount - 1) return fs.readAt(behind, length);
    if (layout !== 'chunked') return fs.readAt((union + index) * BLOCK, length);
    const bits = union & 0x1f;
    const entry = viewOf(fs.readAt(behind + Math.floor(index / 2 ** bits) * 4, 4)).getUint32(0, true);
    return entry === 0xffff_ffff ? new Uint8Array(length) : fs.readAt((entry + (index % 2 ** bits)) * BLOCK, length);
  };
  const read: ErofsFile['read'] = (from, length) => {
    const end = Math.min(from + length, sizeBytes);
    const result = new Uint8Array(Math.max(0, end - from));
    for (let at = from; at < end; ) {
      const index = Math.floor(at / BLOCK);
      const count = Math.min(BLOCK - (at % BLOCK), end - at);
      result.set(blockAt(index, (at % BLOCK) + count).subarray(at % BLOCK), at - from);
      at += count;
    }
    return result;
  };
  const device = { major: (union & 0xfff00) >> 8, minor: (union & 0xff) | ((union >>> 12) & 0xfff00) };
  return {
    nid,
    type,
    mode: inode.getUint16(4, true) & 0o7777,
    uid: inode.getUint32(24, true),
    gid: inode.getUint32(28, true),
    mtimeSeconds: inode.getBigInt64(32, true),
    mtimeNanoseconds: inode.getUint32(40, true),
    links: inode.getUint32(44, true),
    sizeBytes,
    device: type === 'character' || type === 'block' ? device : { major: 0, minor: 0 },
    layout,
    xattrs: xattrBytes === 0 ? new Map() : readXattrs(fs.readAt(offset + 64, xattrBytes)),
    read,
    children: () => readDirectory(fs, { nid, sizeBytes, read }),
  };
}

function readXattrs(area: Uint8Array): Map<string, Uint8Array> {
  const view = viewOf(area);
  check(view.getUint8(4) === 0, 'shared xattrs');
  const xattrs = new Map<string, Uint8Array>();
  for (let at = 12; at < area.length; ) {
    const nameLength = view.getUint8(at);
    const prefix = XATTR_PREFIXES[view.getUint8(at + 1)];
    const valueLength = view.getUint16(at + 2, true);
    check(prefix !== undefined && at + 4 + nameLength + valueLength <= area.length, 'xattr entry');
    const value = at + 4 + nameLength;
    xattrs.set(prefix + text(area.subarray(at + 4, value)), area.slice(value, value + valueLength));
    at = Math.ceil((value + valueLength) / 4) * 4;
  }
  return xattrs;
}

function readDirectory(fs: FileSystem, directory: { nid: number; sizeBytes: number; read: ErofsFile['read'] }): Map<string, ErofsFile> {
  const children = new Map<string, ErofsFile>();
  let previous = '';
  const special = new Set<string>();
  for (let start = 0; start < directory.sizeBytes; start += BLOCK) {
    const block = directory.read(start, BLOCK);
    const view = viewOf(block);
    const count = view.getUint16(8, true) / 12;
    check(Number.isInteger(count) && count > 0, 'directory block');
    for (let i = 0; i < count; i++) {
      const nid = Number(view.getBigUint64(i * 12, true));
      const begin = view.getUint16(i * 12 + 8, true);
      const rest = block.subarray(begin);
      const nul = rest.indexOf(0);
      const end = i + 1 < count ? view.getUint16((i + 1) * 12 + 8, true) : nul < 0 ? block.length : begin + nul;
      const name = text(block.subarray(begin, end));
      check(name.length > 0 && name.length <= 255 && !name.includes('\0') && !name.includes('/'), `name ${JSON.stringify(name)}`);
      check(previous < name, `names out of order: ${JSON.stringify(previous)} ${JSON.stringify(name)}`);
      previous = name;
      if (name === '.' || name === '..') {
        special.add(name);
        check(name !== '.' || nid === directory.nid, '`.` is another directory');
        continue;
      }
      const child = readInode(fs, nid);
      check(TYPES_BY_NAME[child.type] === view.getUint8(i * 12 + 10), `file type of ${name}`);
      children.set(name, child);
    }
  }
  check(special.size === 2, '`.` or `..` is missing');
  return children;
}

const TYPES_BY_NAME = Object.fromEntries(Object.values(TYPES).map(({ type, code }) => [type, code]));

function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return crc >>> 0;
}

/** All files below a directory by path, depth first. */
export function* walk(root: ErofsFile, prefix = ''): Generator<{ path: string; file: ErofsFile }, void, undefined> {
  for (const [name, file] of root.children()) {
    const path = prefix + name;
    yield { path, file };
    if (file.type === 'directory') yield* walk(file, `${path}/`);
  }
}

/** The file at a path of plain names; undefined if there is none. */
export function lookUp(root: ErofsFile, path: string): ErofsFile | undefined {
  let at: ErofsFile | undefined = root;
  for (const name of path.split('/')) at = at?.type === 'directory' ? at.children().get(name) : undefined;
  return at;
}

export function contentOf(root: ErofsFile, path: string): string | undefined {
  const file = lookUp(root, path);
  return file === undefined || (file.type !== 'file' && file.type !== 'symlink') ? undefined : text(file.read(0, file.sizeBytes));
}
