import { BLOCK_BYTES, DIGEST_BYTES, type BlockDigests } from './block-digests.ts';
import { bytesOf } from './bytes.ts';
import type { DiskSink } from './disk-sink.ts';
import type { Sha256 } from './hash.ts';

/**
 * dm-verity hash tree (Documentation/admin-guide/device-mapper/verity.rst, cryptsetup's "DM-Verity on-disk specification"):
 * hash type 1, SHA-256, 4096-byte data and hash blocks, no salt. A block holds 128 digests; level 0 covers the data.
 */
const DIGESTS_PER_BLOCK = BLOCK_BYTES / DIGEST_BYTES;

/** Digests of the blocks of each level of the tree, leaves' level first; the last holds one, the root hash. */
export type VerityLevels = Uint8Array[];

/** Computes the tree over the first `dataBlocks` blocks. */
export function hashTree(digests: BlockDigests, dataBlocks: number, sha256: Sha256): VerityLevels {
  const levels = [hashLeafLevel(digests, dataBlocks, sha256)];
  for (let below = levels[0]; below !== undefined && below.length > DIGEST_BYTES; below = levels[levels.length - 1]) {
    const count = Math.ceil(below.length / BLOCK_BYTES);
    const level = new Uint8Array(count * DIGEST_BYTES);
    for (let i = 0; i < count; i++) level.set(sha256(upperBlock(below, i)), i * DIGEST_BYTES);
    levels.push(level);
  }
  return levels;
}

export function rootHashOf(levels: VerityLevels): Uint8Array {
  return levels[levels.length - 1] ?? new Uint8Array(DIGEST_BYTES);
}

function hashLeafLevel(digests: BlockDigests, dataBlocks: number, sha256: Sha256): Uint8Array {
  const count = Math.ceil(dataBlocks / DIGESTS_PER_BLOCK);
  const level = new Uint8Array(count * DIGEST_BYTES);
  let untouchedDigest: Uint8Array | undefined;
  for (let i = 0; i < count; i++) {
    const isWhole = (i + 1) * DIGESTS_PER_BLOCK <= dataBlocks;
    const isUntouched = isWhole && digests.isUntouched(i * DIGESTS_PER_BLOCK);
    const digest = isUntouched ? (untouchedDigest ??= sha256(leafBlock(digests, dataBlocks, i))) : sha256(leafBlock(digests, dataBlocks, i));
    level.set(digest, i * DIGEST_BYTES);
  }
  return level;
}

function leafBlock(digests: BlockDigests, dataBlocks: number, index: number): Uint8Array {
  const first = index * DIGESTS_PER_BLOCK;
  const block = digests.slice(first, DIGESTS_PER_BLOCK);
  return first + DIGESTS_PER_BLOCK <= dataBlocks ? block : padded(block.subarray(0, (dataBlocks - first) * DIGEST_BYTES));
}

function upperBlock(below: Uint8Array, index: number): Uint8Array {
  const block = below.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
  return block.length === BLOCK_BYTES ? block : padded(block);
}

function padded(part: Uint8Array): Uint8Array {
  const block = new Uint8Array(BLOCK_BYTES);
  block.set(part);
  return block;
}

const WRITE_BLOCKS = 256;

/** Writes the superblock at block `dataBlocks` and the tree behind it, root block first. Returns the block behind the tree. */
export async function writeVerity(sink: DiskSink, tree: { digests: BlockDigests; dataBlocks: number; levels: VerityLevels; uuid: Uint8Array }): Promise<number> {
  const { digests, dataBlocks, levels, uuid } = tree;
  await sink.write(dataBlocks * BLOCK_BYTES, encodeSuperblock(dataBlocks, uuid));
  let block = dataBlocks + 1;
  for (let level = levels.length - 1; level >= 0; level--) {
    const count = (levels[level]?.length ?? 0) / DIGEST_BYTES;
    const below = levels[level - 1];
    for (let first = 0; first < count; first += WRITE_BLOCKS) {
      const blocks = Math.min(WRITE_BLOCKS, count - first);
      const bytes = new Uint8Array(blocks * BLOCK_BYTES);
      for (let i = 0; i < blocks; i++) {
        bytes.set(below === undefined ? leafBlock(digests, dataBlocks, first + i) : upperBlock(below, first + i), i * BLOCK_BYTES);
      }
      await sink.write((block + first) * BLOCK_BYTES, bytes);
    }
    block += count;
  }
  return block;
}

function encodeSuperblock(dataBlocks: number, uuid: Uint8Array): Uint8Array {
  const block = new Uint8Array(BLOCK_BYTES);
  const view = new DataView(block.buffer);
  block.set(bytesOf('verity\0\0'), 0);
  view.setUint32(8, 1, true); // version of the superblock
  view.setUint32(12, 1, true); // hash type
  block.set(uuid, 16);
  block.set(bytesOf('sha256'), 32);
  view.setUint32(64, BLOCK_BYTES, true);
  view.setUint32(68, BLOCK_BYTES, true);
  view.setBigUint64(72, BigInt(dataBlocks), true);
  view.setUint16(80, 0, true); // size of the salt
  return block;
}
