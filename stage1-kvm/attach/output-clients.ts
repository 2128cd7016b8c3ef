/**
 * Clients that read along what an app writes. Each gets everything from when it came; none of them can make the app wait: who
 * is too far behind is cut off, with a line that says so.
 */
import { EPOLLIN, EPOLLOUT } from '../../runtime/abi.gen.ts';
import { close, readRaw, writeRaw } from '../../runtime/linux/fds.ts';
import { after, unwatch, watch, type TimerHandle } from '../../runtime/loop.ts';
import { wouldBlock } from '../relay/host-stream.ts';

/** What a client may be behind, beyond what its socket holds. */
const MAX_BEHIND_BYTES = 256 << 10;
/** Together, of one stream of an app. */
export const MAX_CLIENTS = 16;
/** For clients to take what is left, when there is no more. */
const END_TIMEOUT_MS = 1000;
export const CUT_OFF_NOTICE = '\n[rkt: cut off: the output was not read]\n';

interface Client {
  fd: number;
  queue: Uint8Array[];
  queuedBytes: number;
  /** Gets no more than what is in the queue. */
  isEnding: boolean;
}

export class OutputClients {
  readonly #clients = new Set<Client>();
  #isEnded = false;
  #whenEmpty: (() => void) | null = null;

  /** @param fd a connected non-blocking socket; belongs to this from now on */
  add(fd: number): void {
    if (this.#isEnded || this.#clients.size >= MAX_CLIENTS) {
      close(fd);
      return;
    }
    const client: Client = { fd, queue: [], queuedBytes: 0, isEnding: false };
    this.#clients.add(client);
    this.#watch(client);
  }

  /** @param bytes valid during the call */
  push(bytes: Uint8Array): void {
    if (this.#clients.size === 0) return;
    /** One for all who have to wait. */
    let copy: Uint8Array | null = null;
    for (const client of this.#clients) {
      if (client.isEnding) continue;
      const taken = client.queue.length > 0 ? 0 : this.#write(client, bytes);
      if (taken === null || taken === bytes.length) continue;
      if (client.queuedBytes + bytes.length - taken > MAX_BEHIND_BYTES) {
        this.#enqueue(client, sys.utf8(CUT_OFF_NOTICE).subarray(0, -1));
        client.isEnding = true;
        continue;
      }
      copy ??= bytes.slice();
      this.#enqueue(client, copy.subarray(taken));
    }
  }

  /** There will be no more. Resolves when everybody has got what there was, or has had time to. */
  end(): Promise<void> {
    this.#isEnded = true;
    for (const client of this.#clients) {
      client.isEnding = true;
      if (client.queue.length === 0) this.#drop(client);
    }
    if (this.#clients.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timeout: TimerHandle = after(END_TIMEOUT_MS, () => {
        for (const client of this.#clients) this.#drop(client);
      });
      this.#whenEmpty = () => {
        timeout.cancel();
        resolve();
      };
    });
  }

  /** @returns how many bytes were taken; null: the client has gone */
  #write(client: Client, bytes: Uint8Array): number | null {
    const count = writeRaw(client.fd, bytes);
    if (wouldBlock(count)) return 0;
    if (count >= 0) return count;
    this.#drop(client);
    return null;
  }

  #enqueue(client: Client, bytes: Uint8Array): void {
    client.queue.push(bytes);
    client.queuedBytes += bytes.length;
    this.#watch(client);
  }

  #watch(client: Client): void {
    watch(client.fd, EPOLLIN | (client.queue.length > 0 ? EPOLLOUT : 0), (events) => {
      if ((events & EPOLLOUT) !== 0 && client.queue.length > 0) this.#flush(client);
      else if ((events & ~EPOLLOUT) !== 0) this.#onInput(client);
    });
  }

  /** Nothing that a client of an output sends means anything; that it has gone does. */
  #onInput(client: Client): void {
    const count = readRaw(client.fd, ignored);
    if (count === 0 || (count < 0 && !wouldBlock(count))) this.#drop(client);
  }

  #flush(client: Client): void {
    while (client.queue.length > 0) {
      const bytes = client.queue[0]!;
      const taken = this.#write(client, bytes);
      if (taken === null) return;
      client.queuedBytes -= taken;
      if (taken < bytes.length) {
        client.queue[0] = bytes.subarray(taken);
        return;
      }
      client.queue.shift();
    }
    if (client.isEnding) this.#drop(client);
    else this.#watch(client);
  }

  #drop(client: Client): void {
    if (!this.#clients.delete(client)) return;
    unwatch(client.fd);
    close(client.fd);
    if (this.#clients.size === 0) this.#whenEmpty?.();
  }
}

const ignored = new Uint8Array(4096);
