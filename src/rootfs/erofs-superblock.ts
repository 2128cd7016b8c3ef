import { BLOCK_BYTES } from './block-digests.ts';
import { crc32c } from './crc32c.ts';

const SUPERBLOCK_OFFSET = 1024;
const MAGIC = 0xe0f5_e1e2;
const BLOCK_BITS = 12;
const COMPAT_CHECKSUM = 1;
const COMPAT_MTIME = 2;
const INCOMPAT_CHUNKED_FILE = 4;

export interface SuperblockFields {
  rootNid: number;
  inodes: number;
  blocks: number;
  metadataBlock: number;
  usesChunks: boolean;
  uuid: Uint8Array;
}

/** Block 0 of the file system (linux/fs/erofs/erofs_fs.h, struct erofs_super_block). Its build time is 0: the same image gives the same bytes. */
export function encodeSuperblock(fields: SuperblockFields): Uint8Array {
  const block = new Uint8Array(BLOCK_BYTES);
  const superblock = block.subarray(SUPERBLOCK_OFFSET);
  const view = new DataView(block.buffer, SUPERBLOCK_OFFSET);
  view.setUint32(0, MAGIC, true);
  view.setUint32(8, COMPAT_CHECKSUM | COMPAT_MTIME, true);
  view.setUint8(12, BLOCK_BITS);
  view.setUint16(14, fields.rootNid, true);
  view.setUint32(16, fields.inodes, true);
  view.setUint32(36, fields.blocks, true);
  view.setUint32(40, fields.metadataBlock, true);
  superblock.set(fields.uuid, 48);
  view.setUint32(80, fields.usesChunks ? INCOMPAT_CHUNKED_FILE : 0, true);
  view.setUint32(4, crc32c(0xffff_ffff, superblock), true);
  return block;
}
