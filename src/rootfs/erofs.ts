import { BLOCK_BYTES } from './block-digests.ts';
import type { BlockWriter } from './block-writer.ts';
import { copyByteString } from './bytes.ts';
import { encodeDirectoryBlock, layoutDirectory, type DirectoryLayout } from './erofs-directory.ts';
import { encodeInode, INODE_BYTES, roomBehindInode, type InodeData } from './erofs-inode.ts';
import type { DirectoryInode, Inode } from './inode.ts';

/**
 * The metadata of an EROFS file system, uncompressed, 4096-byte blocks (linux/fs/erofs/erofs_fs.h). Files' contents are on the
 * disk already, from block 1; behind them come directories and long symlinks, then the inode table.
 */
export interface ErofsGeometry {
  inodes: number;
  metadataBlock: number;
  rootNid: number;
  usesChunks: boolean;
}

/** Inodes are addressed in units of this from the beginning of the table. */
const SLOT_BYTES = 32;
/** Number 0 would make a directory entry that some C libraries take for a deleted one. */
const FIRST_INODE_OFFSET = 64;
/** Larger pieces at the end of a directory or symlink get a block of their own. */
const MAX_INLINE_BYTES = 2048;

/** An inode with its place and what is stored behind it. */
interface Placed {
  inode: Inode;
  offset: number;
  data: InodeData;
  directory: DirectoryLayout | undefined;
}

/** Writes directories and inodes. Numbers all inodes of the tree, so it can be done once. */
export async function writeMetadata(root: DirectoryInode, writer: BlockWriter): Promise<ErofsGeometry> {
  const placed = layout(root);
  for (const place of placed) await writeBlocks(place, writer);
  const metadataBlock = writer.nextBlock;
  const table = new TableWriter(writer);
  for (let i = 0; i < placed.length; i++) {
    const place = placed[i];
    if (place === undefined) continue;
    const pieces = [encodeInode(place.inode, { data: place.data, number: i + 1 }), place.inode.xattrs, inlineBytes(place)];
    await table.write(place.offset, pieces);
  }
  await table.finish();
  return { inodes: placed.length, metadataBlock, rootNid: root.nid, usesChunks: placed.some(({ data }) => data.layout === 'chunked') };
}

/** All inodes in the order they are stored: the root, then each directory's children together, depth first. */
function layout(root: DirectoryInode): Placed[] {
  const placed: Placed[] = [];
  const seen = new Set<Inode>();
  let offset = FIRST_INODE_OFFSET;
  const add = (inode: Inode): Placed => {
    const directory = inode.type === 'directory' ? layoutDirectory(inode) : undefined;
    const data = dataOf(inode, directory);
    offset = placeFor(offset, inode, data);
    inode.nid = offset / SLOT_BYTES;
    const place = { inode, offset, data, directory };
    placed.push(place);
    offset = alignUp(offset + INODE_BYTES + (inode.xattrs?.length ?? 0) + data.inlineBytes, SLOT_BYTES);
    return place;
  };
  const pending = [add(root)];
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    const directories: Placed[] = [];
    for (const name of at.directory?.names ?? []) {
      const child = at.inode.type === 'directory' ? at.inode.children.get(name)?.inode : undefined;
      // `.` and `..` are no children; a file with several names has one inode.
      if (child === undefined || (child.links > 1 && seen.has(child))) continue;
      if (child.links > 1) seen.add(child);
      const place = add(child);
      if (child.type === 'directory') directories.push(place);
    }
    for (const directory of directories.reverse()) pending.push(directory);
  }
  return placed;
}

/** An inode must not cross a block's end, nor may what is stored inline; with xattrs it is kept in one block if it fits into one. */
function placeFor(offset: number, inode: Inode, data: InodeData): number {
  const wholeBytes = INODE_BYTES + (inode.xattrs?.length ?? 0) + (data.layout === 'inline' ? data.inlineBytes : 0);
  const leftBytes = BLOCK_BYTES - (offset % BLOCK_BYTES);
  const neededBytes = wholeBytes <= BLOCK_BYTES ? wholeBytes : INODE_BYTES;
  return neededBytes <= leftBytes ? offset : alignUp(offset, BLOCK_BYTES);
}

function dataOf(inode: Inode, directory: DirectoryLayout | undefined): InodeData {
  switch (inode.type) {
    case 'directory':
      return smallData(inode, directory?.sizeBytes ?? 0);
    case 'symlink':
      return smallData(inode, inode.target.length);
    case 'file': {
      const { content } = inode;
      if (content.layout === 'chunked') {
        return { layout: 'chunked', sizeBytes: content.sizeBytes, chunkBits: content.chunkBits, firstBlock: 0, inlineBytes: content.map.byteLength };
      }
      return { layout: content.tail === undefined ? 'plain' : 'inline', sizeBytes: content.sizeBytes, chunkBits: 0, firstBlock: content.firstBlock, inlineBytes: content.tail?.length ?? 0 };
    }
    case 'character':
    case 'block':
    case 'fifo':
      return { layout: 'plain', sizeBytes: 0, chunkBits: 0, firstBlock: 0, inlineBytes: 0 };
  }
}

/** Data that is written together with the metadata; its first block is known when that is written. */
function smallData(inode: Inode, sizeBytes: number): InodeData {
  const partBytes = sizeBytes % BLOCK_BYTES;
  const isInline = partBytes > 0 && partBytes <= Math.min(MAX_INLINE_BYTES, roomBehindInode(inode.xattrs));
  return { layout: isInline ? 'inline' : 'plain', sizeBytes, chunkBits: 0, firstBlock: 0, inlineBytes: isInline ? partBytes : 0 };
}

async function writeBlocks(place: Placed, writer: BlockWriter): Promise<void> {
  const { inode, data, directory } = place;
  const blocks = Math.ceil((data.sizeBytes - data.inlineBytes) / BLOCK_BYTES);
  if (blocks === 0 || inode.type === 'file') return;
  if (inode.type === 'directory' && directory !== undefined) {
    data.firstBlock = writer.nextBlock;
    for (let i = 0; i < blocks; i++) await writer.write(encodeDirectoryBlock(inode, directory, i));
  } else if (inode.type === 'symlink') {
    data.firstBlock = writer.nextBlock;
    const block = new Uint8Array(BLOCK_BYTES);
    copyByteString(inode.target, block, 0);
    await writer.write(block);
  }
}

/** What stands behind an inode and its xattrs. */
function inlineBytes({ inode, data, directory }: Placed): Uint8Array | undefined {
  if (data.inlineBytes === 0) return undefined;
  if (inode.type === 'directory' && directory !== undefined) {
    return encodeDirectoryBlock(inode, directory, directory.blockStarts.length - 1).subarray(0, data.inlineBytes);
  }
  if (inode.type === 'symlink') {
    const bytes = new Uint8Array(inode.target.length);
    copyByteString(inode.target, bytes, 0);
    return bytes;
  }
  if (inode.type !== 'file') return undefined;
  const { content } = inode;
  return content.layout === 'flat' ? content.tail : littleEndian(content.map);
}

function littleEndian(map: Uint32Array): Uint8Array {
  const bytes = new Uint8Array(map.byteLength);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < map.length; i++) view.setUint32(i * 4, map[i] ?? 0, true);
  return bytes;
}

const TABLE_BUFFER_BYTES = 64 * BLOCK_BYTES;

/** Writes the inode table in order, gaps as zeros, collected into larger pieces. */
class TableWriter {
  readonly #writer: BlockWriter;
  readonly #buffer = new Uint8Array(TABLE_BUFFER_BYTES);
  #bufferOffset = 0;
  #filled = 0;

  constructor(writer: BlockWriter) {
    this.#writer = writer;
  }

  /** `offset`: in the table, not before the end of the last write. */
  async write(offset: number, pieces: readonly (Uint8Array | undefined)[]): Promise<void> {
    const sizeBytes = pieces.reduce((sum, piece) => sum + (piece?.length ?? 0), 0);
    if (offset + sizeBytes - this.#bufferOffset > TABLE_BUFFER_BYTES) await this.#flush();
    await this.#gap(offset - this.#bufferOffset - this.#filled);
    for (const piece of pieces) if (piece !== undefined) await this.#append(piece);
  }

  async finish(): Promise<void> {
    await this.#flush();
    await this.#writer.align();
  }

  async #gap(sizeBytes: number): Promise<void> {
    if (sizeBytes > 0) await this.#append(new Uint8Array(sizeBytes));
  }

  async #append(piece: Uint8Array): Promise<void> {
    if (this.#filled + piece.length > TABLE_BUFFER_BYTES) await this.#flush();
    if (piece.length > TABLE_BUFFER_BYTES) {
      await this.#writer.write(piece);
      this.#bufferOffset += piece.length;
    } else {
      this.#buffer.set(piece, this.#filled);
      this.#filled += piece.length;
    }
  }

  async #flush(): Promise<void> {
    await this.#writer.write(this.#buffer.subarray(0, this.#filled));
    this.#bufferOffset += this.#filled;
    this.#filled = 0;
  }
}

function alignUp(offset: number, to: number): number {
  return Math.ceil(offset / to) * to;
}
