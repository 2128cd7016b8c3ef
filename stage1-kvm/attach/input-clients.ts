/**
 * Clients that write to an app. What they send arrives whole chunk by whole chunk, in the order in which it came; while the app
 * takes nothing, nothing is read from them. None of them ends the app's input: others may come.
 */
import { EPOLLIN, EPOLLOUT } from '../../runtime/abi.gen.ts';
import { close, readRaw, writeRaw } from '../../runtime/linux/fds.ts';
import { once, unwatch, watch } from '../../runtime/loop.ts';
import { wouldBlock } from '../relay/host-stream.ts';
import { MAX_CLIENTS } from './output-clients.ts';

const CHUNK_BYTES = 16 << 10;
/** More than a socket holds. */
const REFUSED_READS = 64;

export interface InputClientsOptions {
  /** Measures that somebody is about to give the app input. Rejects with what to tell the client. */
  announce(): Promise<void>;
  /** The app's end of the stream, non-blocking; asked for once, when input is allowed for the first time. */
  open(): Promise<number>;
}

export class InputClients {
  readonly #options: InputClientsOptions;
  /** All that are connected. */
  readonly #clients = new Set<number>();
  /** Those whose input has been announced. */
  readonly #admitted = new Set<number>();
  readonly #chunk = new Uint8Array(CHUNK_BYTES);
  #opening: Promise<void> | null = null;
  #targetFd = -1;
  /** Read from one of them and not yet taken by the app. */
  #pending: Uint8Array | null = null;
  #isEnded = false;

  constructor(options: InputClientsOptions) {
    this.#options = options;
  }

  /** @param fd a connected non-blocking socket; belongs to this from now on */
  add(fd: number): void {
    if (this.#isEnded || this.#clients.size >= MAX_CLIENTS) {
      close(fd);
      return;
    }
    this.#clients.add(fd);
    this.#admit(fd).catch((error: unknown) => {
      if (this.#clients.has(fd)) this.#refuse(fd, error instanceof Error ? error.message : String(error));
    });
  }

  end(): void {
    this.#isEnded = true;
    for (const fd of this.#clients) this.#drop(fd);
    if (this.#targetFd < 0) return;
    unwatch(this.#targetFd);
    close(this.#targetFd);
    this.#targetFd = -1;
  }

  #refuse(fd: number, reason: string): void {
    // A socket that was never written to takes a line whole.
    writeRaw(fd, sys.utf8(`${reason}\n`).subarray(0, -1));
    // Closed with something left to read it would be an error at the other end, and the line lost.
    for (let reads = 0; reads < REFUSED_READS && readRaw(fd, this.#chunk) > 0; reads++);
    this.#drop(fd);
  }

  async #admit(fd: number): Promise<void> {
    await this.#options.announce();
    await (this.#opening ??= this.#open());
    if (!this.#clients.has(fd)) return;
    this.#admitted.add(fd);
    if (this.#pending === null) this.#watch(fd);
  }

  async #open(): Promise<void> {
    const fd = await this.#options.open();
    if (!this.#isEnded) this.#targetFd = fd;
    else close(fd);
  }

  #watch(fd: number): void {
    watch(fd, EPOLLIN, () => {
      const count = readRaw(fd, this.#chunk);
      if (wouldBlock(count)) return;
      if (count <= 0) this.#drop(fd);
      else this.#put(this.#chunk.subarray(0, count));
    });
  }

  #put(bytes: Uint8Array): void {
    let rest = bytes;
    while (rest.length > 0) {
      const count = writeRaw(this.#targetFd, rest);
      if (wouldBlock(count)) {
        this.#wait(rest.slice());
        return;
      }
      if (count < 0) {
        // The app has closed its input.
        for (const fd of this.#clients) this.#drop(fd);
        return;
      }
      rest = rest.subarray(count);
    }
  }

  #wait(pending: Uint8Array): void {
    this.#pending = pending;
    for (const fd of this.#admitted) unwatch(fd);
    void once(this.#targetFd, EPOLLOUT).then(() => {
      if (this.#isEnded) return;
      this.#pending = null;
      this.#put(pending);
      if (this.#pending === null) for (const fd of this.#admitted) this.#watch(fd);
    });
  }

  #drop(fd: number): void {
    if (!this.#clients.delete(fd)) return;
    this.#admitted.delete(fd);
    unwatch(fd);
    close(fd);
  }
}
