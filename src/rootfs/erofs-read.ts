import { RktError } from '../error.ts';
import { BLOCK_BYTES } from './block-digests.ts';
import { byteStringFrom } from './bytes.ts';
import { NO_BLOCK } from './content.ts';
import { INODE_BYTES } from './erofs-inode.ts';
import type { TarData, TarEntry, TarEntryType } from './tar-entry.ts';
import { decodeXattrs, xattrAreaBytes } from './xattr.ts';

/**
 * Reads the disks that `renderDisk` writes (linux/fs/erofs/erofs_fs.h, the part of it that the writer uses). A disk is as
 * sound as the store it is in: whatever does not add up is an error, nothing is read twice to be sure.
 */
export type ReadAt = (offsetBytes: number, lengthBytes: number) => Uint8Array;

export type ErofsFileType = Exclude<TarEntryType, 'hardlink'>;

export interface ErofsFile {
  readonly nid: number;
  readonly type: ErofsFileType;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: { seconds: number; nanoseconds: number };
  readonly links: number;
  readonly sizeBytes: number;
  readonly device: { major: number; minor: number };
  readonly xattrs: ReadonlyMap<string, Uint8Array>;
}

export interface ErofsDisk {
  readonly root: ErofsFile;
  file(nid: number): ErofsFile;
  /** Names in byte order, `.` and `..` left out. */
  children(directory: ErofsFile): { name: string; nid: number }[];
  /** Content in pieces, at ascending offsets; holes are left out. */
  content(file: ErofsFile): Generator<TarData, void, undefined>;
}

const SUPERBLOCK_OFFSET = 1024;
const MAGIC = 0xe0f5_e1e2;
const SLOT_BYTES = 32;
const DIRECTORY_ENTRY_BYTES = 12;
const PIECE_BYTES = 256 << 10;
/** A directory or symlink larger than this was not written by us. */
const WHOLE_MAX_BYTES = 1 << 30;

const TYPES: Readonly<Record<number, ErofsFileType>> = { 0o100000: 'file', 0o040000: 'directory', 0o120000: 'symlink', 0o020000: 'character', 0o060000: 'block', 0o010000: 'fifo' };
const LAYOUTS = { 0: 'plain', 2: 'inline', 4: 'chunked' } as const satisfies Record<number, string>;

/** An inode with what is needed to find its data. */
interface Placed extends ErofsFile {
  layout: 'plain' | 'inline' | 'chunked';
  /** First block, or the number of bits of a chunk. */
  union: number;
  /** Where inline data or the map of chunks begins. */
  behind: number;
}

/** `name` begins messages. Throws RktError IO for a disk that is none. */
export function openErofs(readAt: ReadAt, name: string): ErofsDisk {
  const superblock = viewOf(readAt(SUPERBLOCK_OFFSET, 128));
  if (superblock.byteLength < 128 || superblock.getUint32(0, true) !== MAGIC) throw damaged(name, 'no file system in it');
  const endBytes = superblock.getUint32(36, true) * BLOCK_BYTES;
  const tableBytes = superblock.getUint32(40, true) * BLOCK_BYTES;

  const read: ReadAt = (offsetBytes, lengthBytes) => {
    if (offsetBytes + lengthBytes > endBytes) throw damaged(name, 'something in it lies beyond its end');
    const bytes = readAt(offsetBytes, lengthBytes);
    if (bytes.length < lengthBytes) throw damaged(name, 'it is cut off');
    return bytes;
  };

  function place(nid: number): Placed {
    const offset = tableBytes + nid * SLOT_BYTES;
    const inode = viewOf(read(offset, INODE_BYTES));
    const format = inode.getUint16(0, true);
    const layout = LAYOUTS[(format >> 1) as keyof typeof LAYOUTS];
    const mode = inode.getUint16(4, true);
    const type = TYPES[mode & 0o170000];
    if ((format & 1) === 0 || layout === undefined || type === undefined) throw damaged(name, `inode ${nid} is none`);
    const xattrBytes = xattrAreaBytes(inode.getUint16(2, true));
    const union = inode.getUint32(16, true);
    const isDevice = type === 'character' || type === 'block';
    return {
      nid,
      type,
      mode: mode & 0o7777,
      uid: inode.getUint32(24, true),
      gid: inode.getUint32(28, true),
      mtime: { seconds: Number(inode.getBigInt64(32, true)), nanoseconds: inode.getUint32(40, true) },
      links: inode.getUint32(44, true),
      sizeBytes: Number(inode.getBigUint64(8, true)),
      // new_decode_dev of linux/include/linux/kdev_t.h.
      device: isDevice ? { major: (union & 0xfff00) >>> 8, minor: (union & 0xff) | ((union >>> 12) & 0xfff00) } : { major: 0, minor: 0 },
      xattrs: xattrBytes === 0 ? new Map() : decodeXattrs(read(offset + INODE_BYTES, xattrBytes), `${name}: inode ${nid}`),
      layout,
      union,
      behind: offset + INODE_BYTES + xattrBytes,
    };
  }

  function* flatPieces(file: Placed): Generator<TarData, void, undefined> {
    const { sizeBytes, union } = file;
    const inBlocks = file.layout === 'inline' ? sizeBytes - (sizeBytes % BLOCK_BYTES) : sizeBytes;
    for (let offsetBytes = 0; offsetBytes < inBlocks; offsetBytes += PIECE_BYTES) {
      yield { offsetBytes, data: read(union * BLOCK_BYTES + offsetBytes, Math.min(PIECE_BYTES, inBlocks - offsetBytes)) };
    }
    if (inBlocks < sizeBytes) yield { offsetBytes: inBlocks, data: read(file.behind, sizeBytes - inBlocks) };
  }

  function* chunkPieces({ sizeBytes, union, behind }: Placed): Generator<TarData, void, undefined> {
    const chunkBytes = BLOCK_BYTES * 2 ** (union & 0x1f);
    for (let start = 0, index = 0; start < sizeBytes; start += chunkBytes, index++) {
      const block = viewOf(read(behind + index * 4, 4)).getUint32(0, true);
      if (block === NO_BLOCK) continue;
      const end = Math.min(start + chunkBytes, sizeBytes);
      for (let offsetBytes = start; offsetBytes < end; offsetBytes += PIECE_BYTES) {
        yield { offsetBytes, data: read(block * BLOCK_BYTES + offsetBytes - start, Math.min(PIECE_BYTES, end - offsetBytes)) };
      }
    }
  }

  function content(file: ErofsFile): Generator<TarData, void, undefined> {
    const placed = place(file.nid);
    return placed.layout === 'chunked' ? chunkPieces(placed) : flatPieces(placed);
  }

  function whole(file: ErofsFile): Uint8Array {
    if (file.sizeBytes > WHOLE_MAX_BYTES) throw damaged(name, `inode ${file.nid} is larger than it can be`);
    const bytes = new Uint8Array(file.sizeBytes);
    for (const { offsetBytes, data } of content(file)) bytes.set(data, offsetBytes);
    return bytes;
  }

  function children(directory: ErofsFile): { name: string; nid: number }[] {
    const bytes = whole(directory);
    const found: { name: string; nid: number }[] = [];
    for (let start = 0; start < bytes.length; start += BLOCK_BYTES) {
      const block = bytes.subarray(start, start + BLOCK_BYTES);
      for (const entry of entriesOfBlock(block)) {
        if (entry === undefined) throw damaged(name, `directory ${directory.nid} is damaged`);
        if (entry.name !== '.' && entry.name !== '..') found.push(entry);
      }
    }
    return found;
  }

  const root = place(superblock.getUint16(14, true));
  if (root.type !== 'directory') throw damaged(name, 'its root is no directory');
  return { root, file: place, children, content };
}

/** Undefined for an entry that does not add up. */
function* entriesOfBlock(block: Uint8Array): Generator<{ name: string; nid: number } | undefined, void, undefined> {
  const view = viewOf(block);
  const count = block.length < DIRECTORY_ENTRY_BYTES ? 0 : view.getUint16(8, true) / DIRECTORY_ENTRY_BYTES;
  if (!Number.isInteger(count) || count === 0 || count * DIRECTORY_ENTRY_BYTES > block.length) return yield undefined;
  for (let i = 0; i < count; i++) {
    const at = i * DIRECTORY_ENTRY_BYTES;
    const begin = view.getUint16(at + 8, true);
    const nul = block.indexOf(0, begin);
    const end = i + 1 < count ? view.getUint16(at + DIRECTORY_ENTRY_BYTES + 8, true) : nul === -1 ? block.length : nul;
    const name = begin < end && end <= block.length ? byteStringFrom(block.subarray(begin, end)) : '';
    yield name === '' || name.includes('/') || name.includes('\0') ? undefined : { name, nid: Number(view.getBigUint64(at, true)) };
  }
}

/** The disk as the members of an archive: the root first, a directory before what is in it, the first name of a file before its others. */
export async function* entriesOfDisk(disk: ErofsDisk): AsyncGenerator<TarEntry, void, undefined> {
  const firstNames = new Map<number, string>();
  const directories = new Set<number>();
  const pending: { path: string; nid: number }[] = [{ path: './', nid: disk.root.nid }];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { path } = next;
    const first = firstNames.get(next.nid);
    const file = disk.file(next.nid);
    if (first !== undefined) {
      yield { ...entryOf(disk, file, path), type: 'hardlink', linkPath: first, sizeBytes: 0, body: NO_BODY };
      continue;
    }
    if (file.type === 'directory') {
      const below = path === './' ? '' : `${path}/`;
      yield entryOf(disk, file, path === './' ? path : below);
      const names = disk.children(file);
      // A directory below itself would make this walk endless.
      if (directories.has(file.nid)) throw new RktError('IO', 'the disk is damaged: a directory has two names');
      directories.add(file.nid);
      for (let i = names.length - 1; i >= 0; i--) {
        const child = names[i];
        if (child !== undefined) pending.push({ path: below + child.name, nid: child.nid });
      }
      continue;
    }
    if (file.links > 1) firstNames.set(file.nid, path);
    yield entryOf(disk, file, path);
  }
}

const NO_BODY: AsyncIterable<TarData> = { async *[Symbol.asyncIterator]() {} };

function entryOf(disk: ErofsDisk, file: ErofsFile, path: string): TarEntry {
  return {
    type: file.type,
    path,
    mode: file.mode,
    uid: file.uid,
    gid: file.gid,
    mtime: file.mtime,
    linkPath: file.type === 'symlink' ? targetOf(disk, file) : '',
    device: file.device,
    xattrs: file.xattrs,
    sizeBytes: file.type === 'file' ? file.sizeBytes : 0,
    extents: undefined,
    body: file.type === 'file' ? bodyOf(disk, file) : NO_BODY,
  };
}

function targetOf(disk: ErofsDisk, file: ErofsFile): string {
  let target = '';
  for (const { data } of disk.content(file)) target += byteStringFrom(data);
  return target;
}

async function* bodyOf(disk: ErofsDisk, file: ErofsFile): AsyncGenerator<TarData, void, undefined> {
  yield* disk.content(file);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function damaged(name: string, message: string): RktError {
  return new RktError('IO', `${name}: damaged: ${message}`);
}
