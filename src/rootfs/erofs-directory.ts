import { BLOCK_BYTES } from './block-digests.ts';
import { copyByteString } from './bytes.ts';
import type { DirectoryInode, Inode } from './inode.ts';

/**
 * The content of a directory (linux/fs/erofs/erofs_fs.h, struct erofs_dirent): blocks, each with its entries first and their
 * names behind, names in byte order over all blocks, `.` and `..` among them.
 */
export interface DirectoryLayout {
  names: string[];
  /** Index in `names` at which each block begins. */
  blockStarts: number[];
  sizeBytes: number;
}

const ENTRY_BYTES = 12;

/** erofs_fs.h: file types are the kernel's FT_*. */
const FILE_TYPES = { file: 1, directory: 2, character: 3, block: 4, fifo: 5, symlink: 7 } as const;

export function layoutDirectory(directory: DirectoryInode): DirectoryLayout {
  const names = [...directory.children.keys(), '.', '..'].sort();
  const blockStarts: number[] = [];
  let usedBytes = BLOCK_BYTES;
  names.forEach((name, index) => {
    const neededBytes = ENTRY_BYTES + name.length;
    if (usedBytes + neededBytes > BLOCK_BYTES) {
      blockStarts.push(index);
      usedBytes = 0;
    }
    usedBytes += neededBytes;
  });
  return { names, blockStarts, sizeBytes: (blockStarts.length - 1) * BLOCK_BYTES + usedBytes };
}

/** One block of a directory, full length; all inodes must have their place. */
export function encodeDirectoryBlock(directory: DirectoryInode, layout: DirectoryLayout, block: number): Uint8Array {
  const bytes = new Uint8Array(BLOCK_BYTES);
  const view = new DataView(bytes.buffer);
  const start = layout.blockStarts[block] ?? 0;
  const end = layout.blockStarts[block + 1] ?? layout.names.length;
  let nameOffset = (end - start) * ENTRY_BYTES;
  for (let i = start; i < end; i++) {
    const name = layout.names[i] ?? '';
    const inode = childOf(directory, name);
    const at = (i - start) * ENTRY_BYTES;
    view.setUint32(at, inode.nid % 2 ** 32, true);
    view.setUint32(at + 4, Math.floor(inode.nid / 2 ** 32), true);
    view.setUint16(at + 8, nameOffset, true);
    view.setUint8(at + 10, FILE_TYPES[inode.type]);
    copyByteString(name, bytes, nameOffset);
    nameOffset += name.length;
  }
  return bytes;
}

function childOf(directory: DirectoryInode, name: string): Inode {
  if (name === '.') return directory;
  if (name === '..') return directory.parent;
  const link = directory.children.get(name);
  if (link === undefined) throw new RangeError(`no such name: ${name}`);
  return link.inode;
}
