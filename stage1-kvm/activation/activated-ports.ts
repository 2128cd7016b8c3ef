/** Sockets of a supervisor (socket activation): each connection to one is carried to a TCP port of the guest. */
import { EAGAIN, ECONNREFUSED, EPOLLIN, NR_write } from '../../runtime/abi.gen.ts';
import { joinStreams } from '../../runtime/joined-streams.ts';
import { errnoText } from '../../runtime/linux/errors.ts';
import { close, readRaw, setNonBlocking } from '../../runtime/linux/fds.ts';
import { accept } from '../../runtime/linux/sockets.ts';
import { monotonicMs } from '../../runtime/linux/time.ts';
import { once, sleep, unwatch, watch } from '../../runtime/loop.ts';
import { encodeFrame } from '../../src/wire/frame.ts';
import { STREAM_PORT } from '../../src/wire/messages.ts';
import type { Transport } from '../vsock/transport.ts';

/** At a time, of all sockets together; more wait in the kernel's queue. The guest's agent has the same limit. */
const CONNECTIONS_MAX = 96;
/** An app without socket activation listens some time after it was started. */
const LISTEN_DEADLINE_MS = 10_000;
const RETRY_MS = 100;
/** After an accept that failed, for want of descriptors say. */
const ACCEPT_PAUSE_MS = 1000;

export interface ActivatedPort {
  /** A listening socket. */
  fd: number;
  port: number;
}

export interface ActivatedPortsOptions {
  ports: readonly ActivatedPort[];
  open: Transport['open'];
  warn(message: string): void;
}

export class ActivatedPorts {
  readonly #options: ActivatedPortsOptions;
  #connections = 0;
  #isServing = false;
  /** Ports of which a person has heard: strangers may connect as often as they like. */
  readonly #warned = new Set<number>();

  constructor(options: ActivatedPortsOptions) {
    this.#options = options;
  }

  /** The guest's apps have begun to start. Until then connections wait. */
  serve(): void {
    if (this.#isServing) return;
    this.#isServing = true;
    for (const { fd } of this.#options.ports) setNonBlocking(fd);
    this.#listen();
  }

  #listen(): void {
    for (const { fd, port } of this.#options.ports) watch(fd, EPOLLIN, () => this.#accept(fd, port));
  }

  #pause(): void {
    for (const { fd } of this.#options.ports) unwatch(fd);
  }

  #accept(listener: number, port: number): void {
    let fd: number | undefined;
    try {
      fd = accept(listener);
    } catch (error) {
      this.#warn(port, error);
      this.#pause();
      void sleep(ACCEPT_PAUSE_MS).then(() => this.#listen());
      return;
    }
    if (fd === undefined) return;
    if (++this.#connections >= CONNECTIONS_MAX) this.#pause();
    const client = fd;
    this.#connect(port).then(
      (guest) => joinStreams(client, guest, () => this.#leave()),
      (error: unknown) => {
        close(client);
        this.#warn(port, error);
        this.#leave();
      },
    );
  }

  #warn(port: number, error: unknown): void {
    if (this.#warned.has(port)) return;
    this.#warned.add(port);
    this.#options.warn(`port ${port}: ${error instanceof Error ? error.message : String(error)}`);
  }

  #leave(): void {
    if (this.#connections-- === CONNECTIONS_MAX) this.#listen();
  }

  async #connect(port: number): Promise<number> {
    const deadlineMs = monotonicMs() + LISTEN_DEADLINE_MS;
    for (;;) {
      const fd = await this.#options.open(STREAM_PORT);
      const header = encodeFrame({ forward: port });
      // A fresh socket takes a header whole.
      sys.call(NR_write, fd, header, header.length);
      const errno = await answer(fd);
      if (errno === 0) return fd;
      close(fd);
      if (errno !== ECONNREFUSED || monotonicMs() >= deadlineMs) throw new Error(`the guest does not take the connection: ${errnoText(errno)}`);
      await sleep(RETRY_MS);
    }
  }
}

/** The byte with which the agent answers; the end of the stream counts as a refusal. */
async function answer(fd: number): Promise<number> {
  const byte = new Uint8Array(1);
  for (;;) {
    await once(fd, EPOLLIN);
    const count = readRaw(fd, byte);
    if (count === -EAGAIN) continue;
    return count === 1 ? (byte[0] ?? ECONNREFUSED) : ECONNREFUSED;
  }
}
