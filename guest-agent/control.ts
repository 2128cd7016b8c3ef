/** A control connection: frames in, frames out, never blocking. */
import { EAGAIN, EINTR, EPOLLIN, EPOLLOUT } from '../runtime/abi.gen.ts';
import { close, readRaw, writeRaw } from '../runtime/linux/fds.ts';
import { unwatch, watch } from '../runtime/loop.ts';
import { concatBytes } from '../src/tpm/bytes.ts';
import { encodeFrame, FrameDecoder } from '../src/wire/frame.ts';
import type { AgentMessage } from '../src/wire/messages.ts';

/** A host that does not read its events is cut off before they fill the guest's memory. */
const QUEUE_MAX_BYTES = 8 << 20;
const READ_BYTES = 64 << 10;

const readBuffer = new Uint8Array(READ_BYTES);

export interface ControlHandlers {
  onMessage(message: object): void;
  /** The host has closed it, or broke the framing. */
  onClose(): void;
}

export class ControlConnection {
  readonly #fd: number;
  readonly #handlers: ControlHandlers;
  readonly #decoder = new FrameDecoder();
  readonly #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  /** Frames that wait for the end of `together`. */
  #held: Uint8Array[] | undefined;
  #closed = false;

  constructor(fd: number, handlers: ControlHandlers) {
    this.#fd = fd;
    this.#handlers = handlers;
    this.#watch();
  }

  get closed(): boolean {
    return this.#closed;
  }

  send(message: AgentMessage): void {
    if (this.#closed) return;
    const frame = encodeFrame(message);
    if (this.#held === undefined) this.#enqueue(frame);
    else this.#held.push(frame);
  }

  /** What is sent during `work` goes out at once: each write costs the guest a packet. */
  together<T>(work: () => T): T {
    if (this.#held !== undefined) return work();
    this.#held = [];
    try {
      return work();
    } finally {
      const frames = this.#held;
      this.#held = undefined;
      if (frames.length > 0) this.#enqueue(concatBytes(...frames));
    }
  }

  #enqueue(bytes: Uint8Array): void {
    if (this.#closed) return;
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    if (this.#queue.length === 1) this.#write();
    if (this.#queuedBytes > QUEUE_MAX_BYTES) this.#end();
  }

  #watch(): void {
    watch(this.#fd, this.#queue.length === 0 ? EPOLLIN : EPOLLIN | EPOLLOUT, () => {
      this.#write();
      this.#read();
    });
  }

  #write(): void {
    while (!this.#closed && this.#queue[0] !== undefined) {
      const frame = this.#queue[0];
      const count = writeRaw(this.#fd, frame);
      if (count === -EINTR) continue;
      if (count === -EAGAIN) break;
      if (count < 0) return this.#end();
      this.#queuedBytes -= count;
      if (count === frame.length) this.#queue.shift();
      else this.#queue[0] = frame.subarray(count);
    }
    if (!this.#closed) this.#watch();
  }

  #read(): void {
    while (!this.#closed) {
      const count = readRaw(this.#fd, readBuffer);
      if (count === -EAGAIN || count === -EINTR) return;
      if (count <= 0) return this.#end();
      this.#decode(readBuffer.subarray(0, count));
      if (count < readBuffer.length) return;
    }
  }

  #decode(bytes: Uint8Array): void {
    let messages: object[];
    try {
      messages = this.#decoder.push(bytes);
    } catch {
      return this.#end(); // what follows cannot be told apart any more
    }
    for (const message of messages) if (!this.#closed) this.#handlers.onMessage(message);
  }

  #end(): void {
    if (this.#closed) return;
    this.close();
    this.#handlers.onClose();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    unwatch(this.#fd);
    close(this.#fd);
  }
}
