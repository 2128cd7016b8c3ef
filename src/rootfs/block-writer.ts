import { RktError } from '../error.ts';
import { BLOCK_BYTES, BlockDigests } from './block-digests.ts';
import type { DiskSink } from './disk-sink.ts';
import type { Sha256 } from './hash.ts';

const BUFFER_BLOCKS = 256;
const BUFFER_BYTES = BUFFER_BLOCKS * BLOCK_BYTES;

/**
 * Appends to the disk and hashes each block as it becomes complete. Blocks of zeros are not written: what was never written
 * reads as zeros, and costs no space.
 */
export class BlockWriter {
  readonly digests: BlockDigests;
  readonly #sink: DiskSink;
  readonly #sha256: Sha256;
  readonly #maxBlocks: number;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  readonly #words = new Int32Array(this.#buffer.buffer);
  /** Block at the beginning of the buffer. Block 0 is for the superblock, which is written last. */
  #bufferBlock = 1;
  #filledBytes = 0;

  constructor(sink: DiskSink, sha256: Sha256, maxBlocks: number) {
    this.#sink = sink;
    this.#sha256 = sha256;
    this.#maxBlocks = maxBlocks;
    this.digests = new BlockDigests(sha256(new Uint8Array(BLOCK_BYTES)));
  }

  /** The block that the next byte goes to. Only behind `align`. */
  get nextBlock(): number {
    if (this.#filledBytes % BLOCK_BYTES !== 0) throw new RktError('INTERNAL', 'disk writer is in the middle of a block');
    return this.#bufferBlock + this.#filledBytes / BLOCK_BYTES;
  }

  async write(data: Uint8Array): Promise<void> {
    let at = 0;
    while (at < data.length) {
      const count = Math.min(data.length - at, BUFFER_BYTES - this.#filledBytes);
      this.#buffer.set(data.subarray(at, at + count), this.#filledBytes);
      this.#filledBytes += count;
      at += count;
      if (this.#filledBytes === BUFFER_BYTES) await this.flush();
    }
  }

  async writeZeros(lengthBytes: number): Promise<void> {
    let left = lengthBytes;
    const fill = (count: number): void => {
      this.#buffer.fill(0, this.#filledBytes, this.#filledBytes + count);
      this.#filledBytes += count;
      left -= count;
    };
    if (left > BUFFER_BYTES) {
      fill((BLOCK_BYTES - (this.#filledBytes % BLOCK_BYTES)) % BLOCK_BYTES);
      await this.flush();
      const blocks = Math.floor(left / BLOCK_BYTES);
      this.#advance(blocks);
      left -= blocks * BLOCK_BYTES;
    }
    while (left > 0) {
      fill(Math.min(left, BUFFER_BYTES - this.#filledBytes));
      if (this.#filledBytes === BUFFER_BYTES) await this.flush();
    }
  }

  /** Fills the current block with zeros. */
  async align(): Promise<void> {
    const used = this.#filledBytes % BLOCK_BYTES;
    if (used > 0) await this.writeZeros(BLOCK_BYTES - used);
  }

  /** Makes blocks written before hold zeros. */
  async erase(firstBlock: number, count: number): Promise<void> {
    if (count === 0) return;
    await this.align();
    await this.flush();
    this.digests.clear(firstBlock, count);
    await this.#sink.zero(firstBlock * BLOCK_BYTES, count * BLOCK_BYTES);
  }

  async writeSuperblock(superblock: Uint8Array): Promise<void> {
    this.digests.set(0, this.#sha256(superblock));
    await this.#sink.write(0, superblock);
  }

  #advance(blocks: number): void {
    this.#bufferBlock += blocks;
    if (this.#bufferBlock > this.#maxBlocks) throw new RktError('LIMIT', `image needs a disk of more than ${this.#maxBlocks * BLOCK_BYTES} bytes`);
  }

  /** Hashes and writes what is in the buffer. Only behind `align`. */
  async flush(): Promise<void> {
    const blocks = this.#filledBytes / BLOCK_BYTES;
    const first = this.#bufferBlock;
    this.#advance(blocks);
    this.#filledBytes = 0;
    let runStart = 0;
    for (let i = 0; i < blocks; i++) {
      if (this.#isZero(i)) {
        await this.#writeRun(first, runStart, i);
        runStart = i + 1;
      } else {
        this.digests.set(first + i, this.#sha256(this.#buffer.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES)));
      }
    }
    await this.#writeRun(first, runStart, blocks);
  }

  async #writeRun(firstBlock: number, start: number, end: number): Promise<void> {
    if (start < end) await this.#sink.write((firstBlock + start) * BLOCK_BYTES, this.#buffer.subarray(start * BLOCK_BYTES, end * BLOCK_BYTES));
  }

  #isZero(block: number): boolean {
    const words = BLOCK_BYTES / 4;
    const end = (block + 1) * words;
    for (let i = block * words; i < end; i++) if (this.#words[i] !== 0) return false;
    return true;
  }
}
