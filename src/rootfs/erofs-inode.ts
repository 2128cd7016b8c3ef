import { BLOCK_BYTES } from './block-digests.ts';
import type { Inode } from './inode.ts';
import { xattrCountField } from './xattr.ts';

/** Size of struct erofs_inode_extended (linux/fs/erofs/erofs_fs.h), the only kind used: the compact one has no times. */
export const INODE_BYTES = 64;

/** What of the last piece of its data an inode can have behind it: inode, xattrs and data must lie in one block. */
export function roomBehindInode(xattrs: Uint8Array | undefined): number {
  return Math.max(0, BLOCK_BYTES - INODE_BYTES - (xattrs?.length ?? 0));
}

/** How an inode's data is stored. */
export interface InodeData {
  layout: 'plain' | 'inline' | 'chunked';
  sizeBytes: number;
  /** Chunks are blocks << chunkBits. */
  chunkBits: number;
  firstBlock: number;
  /** Bytes behind the inode and its xattrs: the data's last piece, or the map of chunks. */
  inlineBytes: number;
}

const VERSION_EXTENDED = 1;
const LAYOUTS = { plain: 0, inline: 2, chunked: 4 } as const;
const FORMATS = { file: 0o100000, directory: 0o040000, symlink: 0o120000, character: 0o020000, block: 0o060000, fifo: 0o010000 } as const;

/** `number`: what stat shows on 32-bit systems. */
export function encodeInode(inode: Inode, stored: { data: InodeData; number: number }): Uint8Array {
  const { data, number } = stored;
  const bytes = new Uint8Array(INODE_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, VERSION_EXTENDED | (LAYOUTS[data.layout] << 1), true);
  view.setUint16(2, xattrCountField(inode.xattrs), true);
  view.setUint16(4, FORMATS[inode.type] | inode.mode, true);
  view.setBigUint64(8, BigInt(data.sizeBytes), true);
  view.setUint32(16, unionField(inode, data), true);
  view.setUint32(20, number, true);
  view.setUint32(24, inode.uid, true);
  view.setUint32(28, inode.gid, true);
  view.setBigInt64(32, BigInt(inode.mtimeSeconds), true);
  view.setUint32(40, inode.mtimeNanoseconds, true);
  view.setUint32(44, linkCount(inode), true);
  return bytes;
}

/** i_u: device number, chunk format or first block. */
function unionField(inode: Inode, data: InodeData): number {
  if (inode.type === 'character' || inode.type === 'block') return encodeDevice(inode.major, inode.minor);
  return data.layout === 'chunked' ? data.chunkBits : data.firstBlock;
}

/** new_encode_dev of linux/include/linux/kdev_t.h. */
function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

function linkCount(inode: Inode): number {
  if (inode.type !== 'directory') return inode.links;
  let count = 2;
  for (const { inode: child } of inode.children.values()) if (child.type === 'directory') count++;
  return count;
}
