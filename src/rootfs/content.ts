import type { BlockWriter } from './block-writer.ts';
import { BLOCK_BYTES } from './block-digests.ts';
import type { Extent, TarEntry } from './tar-entry.ts';

/** Where a file's content lies on the disk. */
export type Content = FlatContent | ChunkedContent;

/** One range of blocks, holes included; the last piece, if short, behind the inode. */
export interface FlatContent {
  layout: 'flat';
  sizeBytes: number;
  firstBlock: number;
  blocks: number;
  tail: Uint8Array | undefined;
}

/** Chunks of `BLOCK_BYTES << chunkBits` bytes, each a range of blocks or a hole: for files with large holes. */
export interface ChunkedContent {
  layout: 'chunked';
  sizeBytes: number;
  chunkBits: number;
  /** First block of each chunk, NO_BLOCK for a hole. */
  map: Uint32Array;
  firstBlock: number;
  blocks: number;
}

export const NO_BLOCK = 0xffff_ffff;
export const EMPTY_CONTENT: FlatContent = { layout: 'flat', sizeBytes: 0, firstBlock: 0, blocks: 0, tail: undefined };

/** A map is kept in memory until the disk is complete and read by the guest piece by piece: larger files get larger chunks. */
const MAX_CHUNKS = 1 << 18;
const MAX_CHUNK_BITS = 31;

/**
 * Writes a file's content to the disk as it arrives.
 * `maxTailBytes`: how much of it may be kept back to be stored behind the inode.
 */
export async function storeContent(entry: TarEntry, writer: BlockWriter, maxTailBytes: number): Promise<Content> {
  if (entry.sizeBytes === 0) return EMPTY_CONTENT;
  const chunkBits = entry.extents === undefined ? undefined : chooseChunkBits(entry.sizeBytes, entry.extents);
  if (chunkBits !== undefined) return await storeChunked(entry, writer, chunkBits);
  return await storeFlat(entry, writer, maxTailBytes);
}

async function storeFlat(entry: TarEntry, writer: BlockWriter, maxTailBytes: number): Promise<FlatContent> {
  const { sizeBytes } = entry;
  const firstBlock = writer.nextBlock;
  const partBytes = sizeBytes % BLOCK_BYTES;
  const tail = partBytes > 0 && partBytes <= maxTailBytes ? new Uint8Array(partBytes) : undefined;
  const blockBytes = tail === undefined ? sizeBytes : sizeBytes - partBytes;
  let written = 0;
  for await (const { offsetBytes, data } of entry.body) {
    const inBlocks = Math.max(0, Math.min(data.length, blockBytes - offsetBytes));
    if (inBlocks > 0) {
      if (offsetBytes > written) await writer.writeZeros(offsetBytes - written);
      await writer.write(inBlocks === data.length ? data : data.subarray(0, inBlocks));
      written = offsetBytes + inBlocks;
    }
    if (inBlocks < data.length) tail?.set(data.subarray(inBlocks), offsetBytes + inBlocks - blockBytes);
  }
  if (written < blockBytes) await writer.writeZeros(blockBytes - written);
  await writer.align();
  return { layout: 'flat', sizeBytes, firstBlock, blocks: writer.nextBlock - firstBlock, tail };
}

async function storeChunked(entry: TarEntry, writer: BlockWriter, chunkBits: number): Promise<ChunkedContent> {
  const { sizeBytes } = entry;
  const chunkBytes = BLOCK_BYTES * 2 ** chunkBits;
  const map = new Uint32Array(Math.ceil(sizeBytes / chunkBytes)).fill(NO_BLOCK);
  const firstBlock = writer.nextBlock;
  let chunk = -1;
  let writtenBytes = 0;
  const finishChunk = async (): Promise<void> => {
    if (chunk < 0) return;
    const endBytes = Math.min(chunkBytes, sizeBytes - chunk * chunkBytes);
    await writer.writeZeros(endBytes - writtenBytes);
    await writer.align();
  };
  for await (const piece of entry.body) {
    for (let at = 0; at < piece.data.length; ) {
      const offsetBytes = piece.offsetBytes + at;
      const index = Math.floor(offsetBytes / chunkBytes);
      if (index !== chunk) {
        await finishChunk();
        chunk = index;
        writtenBytes = 0;
        map[index] = writer.nextBlock;
      }
      const inChunk = offsetBytes - index * chunkBytes;
      const data = piece.data.subarray(at, at + Math.min(piece.data.length - at, chunkBytes - inChunk));
      await writer.writeZeros(inChunk - writtenBytes);
      await writer.write(data);
      writtenBytes = inChunk + data.length;
      at += data.length;
    }
  }
  await finishChunk();
  return { layout: 'chunked', sizeBytes, chunkBits, map, firstBlock, blocks: writer.nextBlock - firstBlock };
}

/** The chunk size that takes the fewest blocks for map and data together; undefined if a flat file takes no more. */
function chooseChunkBits(sizeBytes: number, extents: readonly Extent[]): number | undefined {
  const fileBlocks = Math.ceil(sizeBytes / BLOCK_BYTES);
  let best: number | undefined;
  let bestBlocks = fileBlocks;
  for (let bits = 0; bits <= MAX_CHUNK_BITS; bits++) {
    const chunkBlocks = 2 ** bits;
    const chunks = Math.ceil(fileBlocks / chunkBlocks);
    if (chunks > MAX_CHUNKS) continue;
    const blocks = (chunks * 4) / BLOCK_BYTES + countDataBlocks(extents, chunkBlocks, fileBlocks);
    if (blocks < bestBlocks) {
      best = bits;
      bestBlocks = blocks;
    }
    if (chunks === 1) break;
  }
  return best;
}

function countDataBlocks(extents: readonly Extent[], chunkBlocks: number, fileBlocks: number): number {
  const chunkBytes = chunkBlocks * BLOCK_BYTES;
  let blocks = 0;
  let counted = -1; // last chunk that was counted
  for (const { offsetBytes, lengthBytes } of extents) {
    const first = Math.max(counted + 1, Math.floor(offsetBytes / chunkBytes));
    const last = Math.floor((offsetBytes + lengthBytes - 1) / chunkBytes);
    if (last < first) continue;
    blocks += Math.min((last + 1) * chunkBlocks, fileBlocks) - first * chunkBlocks;
    counted = last;
  }
  return blocks;
}
