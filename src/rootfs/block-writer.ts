import { RktError } from '../error.ts';
import { BLOCK_BYTES, BlockDigests } from './block-digests.ts';
import type { DigestScratch } from './block-digests.ts';
import type { DiskSink } from './disk-sink.ts';
import type { Sha256 } from './hash.ts';

const BUFFER_BLOCKS = 256;
const BUFFER_BYTES = BUFFER_BLOCKS * BLOCK_BYTES;

/** Two of them: one is written out while the other is filled. */
class BlockBuffer {
  readonly bytes = new Uint8Array(BUFFER_BYTES);
  readonly words = new Int32Array(this.bytes.buffer);

  isZero(block: number): boolean {
    const words = BLOCK_BYTES / 4;
    const end = (block + 1) * words;
    for (let i = block * words; i < end; i++) if (this.words[i] !== 0) return false;
    return true;
  }
}

/**
 * Appends to the disk and hashes each block as it becomes complete. Blocks of zeros are not written: what was never written
 * reads as zeros, and costs no space. The sink may be behind until `drain`; an error of it shows at the next call.
 */
export class BlockWriter {
  readonly digests: BlockDigests;
  readonly #sink: DiskSink;
  readonly #sha256: Sha256;
  readonly #maxBlocks: number;
  #buffer = new BlockBuffer();
  #spare = new BlockBuffer();
  /** What the sink has not done yet. */
  #writing: Promise<void> = Promise.resolve();
  /** Block at the beginning of the buffer. Block 0 is for the superblock, which is written last. */
  #bufferBlock = 1;
  #filledBytes = 0;

  constructor(sink: DiskSink, { sha256, maxBlocks, scratch }: { sha256: Sha256; maxBlocks: number; scratch: DigestScratch | undefined }) {
    this.#sink = sink;
    this.#sha256 = sha256;
    this.#maxBlocks = maxBlocks;
    this.digests = new BlockDigests(sha256(new Uint8Array(BLOCK_BYTES)), { scratch });
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
      this.#buffer.bytes.set(data.subarray(at, at + count), this.#filledBytes);
      this.#filledBytes += count;
      at += count;
      if (this.#filledBytes === BUFFER_BYTES) await this.flush();
    }
  }

  async writeZeros(lengthBytes: number): Promise<void> {
    let left = lengthBytes;
    const fill = (count: number): void => {
      this.#buffer.bytes.fill(0, this.#filledBytes, this.#filledBytes + count);
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
    await this.drain();
    this.digests.clear(firstBlock, count);
    await this.#sink.zero(firstBlock * BLOCK_BYTES, count * BLOCK_BYTES);
  }

  async writeSuperblock(superblock: Uint8Array): Promise<void> {
    await this.drain();
    this.digests.set(0, this.#sha256(superblock));
    await this.#sink.write(0, superblock);
  }

  #advance(blocks: number): void {
    this.#bufferBlock += blocks;
    if (this.#bufferBlock > this.#maxBlocks) throw new RktError('LIMIT', `image needs a disk of more than ${this.#maxBlocks * BLOCK_BYTES} bytes`);
  }

  /** Hashes what is in the buffer and begins to write it. Only behind `align`. */
  async flush(): Promise<void> {
    const blocks = this.#filledBytes / BLOCK_BYTES;
    const first = this.#bufferBlock;
    this.#advance(blocks);
    this.#filledBytes = 0;
    const full = this.#buffer;
    for (let i = 0; i < blocks; i++) {
      if (!full.isZero(i)) this.digests.set(first + i, this.#sha256(full.bytes.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES)));
    }
    await this.#writing;
    this.#buffer = this.#spare;
    this.#spare = full;
    this.#writing = this.#writeRuns(full, { first, blocks });
    // Whoever waits for it next gets the error.
    this.#writing.catch(() => undefined);
  }

  /** Everything is with the sink. Only behind `align`. */
  async drain(): Promise<void> {
    await this.flush();
    await this.#writing;
  }

  /** To be awaited before the sink is given up, whatever has happened. */
  async settle(): Promise<void> {
    await this.#writing.catch(() => undefined);
  }

  async #writeRuns(full: BlockBuffer, { first, blocks }: { first: number; blocks: number }): Promise<void> {
    let runStart = 0;
    const writeRun = async (end: number): Promise<void> => {
      if (runStart < end) await this.#sink.write((first + runStart) * BLOCK_BYTES, full.bytes.subarray(runStart * BLOCK_BYTES, end * BLOCK_BYTES));
    };
    for (let i = 0; i < blocks; i++) {
      if (!full.isZero(i)) continue;
      await writeRun(i);
      runStart = i + 1;
    }
    await writeRun(blocks);
  }
}
