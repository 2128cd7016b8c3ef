import { RktError } from '../error.ts';
import type { ByteSource } from './bytes.ts';

const EMPTY = new Uint8Array(0);

/** Reads a byte stream in pieces of a wanted size. Counts what it took from the source against a limit. */
export class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #limitBytes: number;
  readonly #name: string;
  #chunk: Uint8Array = EMPTY;
  #at = 0;
  #receivedBytes = 0;
  #ended = false;

  constructor(source: ByteSource, limitBytes: number, name: string) {
    this.#chunks = source[Symbol.asyncIterator]();
    this.#limitBytes = limitBytes;
    this.#name = name;
  }

  /** Offset in the stream of the next byte. */
  get positionBytes(): number {
    return this.#receivedBytes - (this.#chunk.length - this.#at);
  }

  /** Exactly `sizeBytes` bytes, valid until the next call; fewer only where the stream ends. */
  async read(sizeBytes: number): Promise<Uint8Array> {
    if (this.#chunk.length - this.#at >= sizeBytes) return this.#cut(sizeBytes);
    const whole = new Uint8Array(sizeBytes);
    let filled = 0;
    while (filled < sizeBytes) {
      const piece = await this.readSome(sizeBytes - filled);
      if (piece.length === 0) return whole.subarray(0, filled);
      whole.set(piece, filled);
      filled += piece.length;
    }
    return whole;
  }

  /** Between 1 and `maxBytes` bytes, valid until the next call; none at the end of the stream. */
  async readSome(maxBytes: number): Promise<Uint8Array> {
    while (this.#at === this.#chunk.length) {
      if (!(await this.#receive())) return EMPTY;
    }
    return this.#cut(Math.min(maxBytes, this.#chunk.length - this.#at));
  }

  /** Skips bytes; returns how many were missing at the end of the stream. */
  async skip(sizeBytes: number): Promise<number> {
    let left = sizeBytes;
    while (left > 0) {
      const piece = await this.readSome(left);
      if (piece.length === 0) break;
      left -= piece.length;
    }
    return left;
  }

  /** Reads and drops everything up to the end of the stream. */
  async drain(): Promise<void> {
    this.#at = this.#chunk.length;
    while (await this.#receive()) this.#at = this.#chunk.length;
  }

  /** Gives the source up before its end. */
  async close(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await this.#chunks.return?.();
  }

  #cut(sizeBytes: number): Uint8Array {
    const piece = this.#chunk.subarray(this.#at, this.#at + sizeBytes);
    this.#at += sizeBytes;
    return piece;
  }

  async #receive(): Promise<boolean> {
    if (this.#ended) return false;
    const next = await this.#chunks.next();
    if (next.done === true) {
      this.#ended = true;
      this.#chunk = EMPTY;
      this.#at = 0;
      return false;
    }
    this.#chunk = next.value;
    this.#at = 0;
    this.#receivedBytes += next.value.length;
    if (this.#receivedBytes > this.#limitBytes) {
      throw new RktError('LIMIT', `${this.#name}: archive is larger than ${this.#limitBytes} bytes uncompressed`);
    }
    return true;
  }
}
