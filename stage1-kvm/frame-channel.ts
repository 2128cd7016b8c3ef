/** A control connection: frames of src/wire over a non-blocking stream. */
import { EAGAIN, EINTR, EPOLLIN, EPOLLOUT } from '../runtime/abi.gen.ts';
import { close, readRaw, writeRaw } from '../runtime/linux/fds.ts';
import { unwatch, watch } from '../runtime/loop.ts';
import { encodeFrame, FrameDecoder } from '../src/wire/frame.ts';
import type { AgentMessage, HostMessage } from '../src/wire/messages.ts';

const READ_BYTES = 16384;
/** An agent that sends faster than it is listened to is broken. */
const MAX_MESSAGES_PER_READ = 10_000;

export interface FrameHandlers<Received> {
  onMessage(message: Received): void;
  /** The connection is over: `error` when the other side broke the protocol. Called once, not after close(). */
  onEnd(error: Error | null): void;
}

/** To the agent, unless it says otherwise. */
export class FrameChannel<Sent extends object = HostMessage, Received = AgentMessage> {
  readonly #fd: number;
  readonly #handlers: FrameHandlers<Received>;
  readonly #decoder = new FrameDecoder();
  readonly #buffer = new Uint8Array(READ_BYTES);
  #queue: Uint8Array[] = [];
  #isOpen = true;

  /** @param fd belongs to the channel from now on */
  constructor(fd: number, handlers: FrameHandlers<Received>) {
    this.#fd = fd;
    this.#handlers = handlers;
    this.#watch();
  }

  send(message: Sent): void {
    if (!this.#isOpen) return;
    this.#queue.push(encodeFrame(message));
    if (this.#queue.length === 1) this.#flush();
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    unwatch(this.#fd);
    close(this.#fd);
  }

  #watch(): void {
    watch(this.#fd, EPOLLIN | (this.#queue.length > 0 ? EPOLLOUT : 0), (events) => {
      if ((events & EPOLLOUT) !== 0) this.#flush();
      if ((events & ~EPOLLOUT) !== 0 && this.#isOpen) this.#read();
    });
  }

  #flush(): void {
    while (this.#queue.length > 0) {
      const bytes = this.#queue[0]!;
      const count = writeRaw(this.#fd, bytes);
      if (count === -EAGAIN || count === -EINTR) break;
      if (count < 0) {
        // Reading will say why.
        this.#queue = [];
        break;
      }
      if (count === bytes.length) this.#queue.shift();
      else this.#queue[0] = bytes.subarray(count);
    }
    this.#watch();
  }

  #read(): void {
    const count = readRaw(this.#fd, this.#buffer);
    if (count === -EAGAIN || count === -EINTR) return;
    if (count <= 0) {
      this.#end(null);
      return;
    }
    let messages: object[];
    try {
      messages = this.#decoder.push(this.#buffer.subarray(0, count));
      if (messages.length > MAX_MESSAGES_PER_READ) throw new RangeError('too many messages at once');
    } catch (error) {
      this.#end(error as Error);
      return;
    }
    for (const message of messages) {
      if (!this.#isOpen) return;
      if (typeof (message as { type?: unknown }).type === 'string') this.#handlers.onMessage(message as Received);
      else this.#end(new SyntaxError('message without a type'));
    }
  }

  #end(error: Error | null): void {
    this.close();
    this.#handlers.onEnd(error);
  }
}
