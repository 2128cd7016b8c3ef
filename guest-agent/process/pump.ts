/**
 * Carries bytes one way between two non-blocking descriptors. Nothing is read while the other side does not take what was read
 * before: the socket's flow control reaches the process, and the process's reaches the host.
 *
 * Plain reads and writes on purpose: splice into a vsock socket makes a packet of every page.
 */
import { EAGAIN, EINTR, EPOLLIN, EPOLLOUT } from '../../runtime/abi.gen.ts';
import { close, readRaw, writeRaw } from '../../runtime/linux/fds.ts';
import { shutdown } from '../../runtime/linux/sockets.ts';
import { unwatch, watch } from '../../runtime/loop.ts';

export const CHUNK_BYTES = 64 << 10;
/** Chunks carried before other descriptors get their turn. */
const CHUNKS_PER_TURN = 8;
const SPARE_BUFFERS_MAX = 4;

const spareBuffers: Uint8Array[] = [];

export interface PumpOptions {
  /** Owned: closed at the end. */
  source: number;
  /** Owned: closed at the end, after shutdown when it is a socket. */
  sink: number;
  onEnd: () => void;
}

export class Pump {
  readonly #source: number;
  readonly #sink: number;
  readonly #onEnd: () => void;
  #buffer: Uint8Array | undefined;
  /** Read, not yet written. */
  #pending: Uint8Array = new Uint8Array(0);
  /** Nothing more will be produced than what can be read now. */
  #draining = false;
  #ended = false;

  constructor({ source, sink, onEnd }: PumpOptions) {
    this.#source = source;
    this.#sink = sink;
    this.#onEnd = onEnd;
  }

  get ended(): boolean {
    return this.#ended;
  }

  start(): void {
    this.#turn();
  }

  /** The source's other side is gone: ends as soon as what it left behind has been carried. */
  drain(): void {
    if (this.#ended || this.#draining) return;
    this.#draining = true;
    if (this.#pending.length === 0) this.#turn();
  }

  /** Ends now; what was read but not written is lost. */
  stop(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#release();
    unwatch(this.#source);
    unwatch(this.#sink);
    shutdown(this.#sink);
    close(this.#source);
    close(this.#sink);
    this.#onEnd();
  }

  #turn(): void {
    for (let chunk = 0; chunk < CHUNKS_PER_TURN && !this.#ended; chunk++) {
      if (!this.#writePending() || !this.#read()) return;
    }
    if (!this.#ended) this.#awaitSink();
  }

  /** False when the sink takes no more for now, or never again. */
  #writePending(): boolean {
    while (this.#pending.length > 0) {
      const count = writeRaw(this.#sink, this.#pending);
      if (count === -EINTR) continue;
      if (count === -EAGAIN) {
        this.#awaitSink();
        return false;
      }
      if (count < 0) {
        this.stop();
        return false;
      }
      this.#pending = this.#pending.subarray(count);
    }
    unwatch(this.#sink);
    return true;
  }

  /** False when there is nothing to read for now, or ever. */
  #read(): boolean {
    this.#buffer ??= spareBuffers.pop() ?? new Uint8Array(CHUNK_BYTES);
    const count = readRaw(this.#source, this.#buffer);
    if (count > 0) {
      this.#pending = this.#buffer.subarray(0, count);
      return true;
    }
    if (count === -EINTR) return true;
    if (count === -EAGAIN && !this.#draining) {
      this.#release();
      this.#awaitSource();
      return false;
    }
    // The end; or a read error, which a pseudo-terminal reports as EIO when nobody has it open any more.
    this.stop();
    return false;
  }

  #awaitSource(): void {
    watch(this.#source, EPOLLIN, () => this.#turn());
  }

  /** With something pending: the source is not looked at before it is gone. */
  #awaitSink(): void {
    unwatch(this.#source);
    watch(this.#sink, EPOLLOUT, () => this.#turn());
  }

  #release(): void {
    if (this.#buffer !== undefined && spareBuffers.length < SPARE_BUFFERS_MAX) spareBuffers.push(this.#buffer);
    this.#buffer = undefined;
  }
}
