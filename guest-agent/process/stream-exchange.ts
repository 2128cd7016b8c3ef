/** Brings connections to the stream port and the processes they name together, whichever comes first. */
import { EAGAIN, EINTR, EPOLLIN } from '../../runtime/abi.gen.ts';
import { close, readRaw } from '../../runtime/linux/fds.ts';
import { shutdown } from '../../runtime/linux/sockets.ts';
import { after, unwatch, watch } from '../../runtime/loop.ts';
import { FRAME_HEADER_BYTES, FrameDecoder } from '../../src/wire/frame.ts';
import type { ForwardHeader, ProcessId, StreamHeader } from '../../src/wire/messages.ts';
import type { FilesRequest } from '../../src/wire/files.ts';
import { parseFilesRequest } from '../files/parse.ts';
import { parseStreamHeader } from '../messages.ts';

/** A connection that names a process which does not exist (yet) is kept this long. */
const CLAIM_TIMEOUT_MS = 30_000;
/** More connections than that without a process are an error of the host's. */
const UNCLAIMED_MAX = 256;
/** Room for a path, however it is escaped. */
const HEADER_MAX_BYTES = 32 << 10;

/** `taken`: the process has the connection now; `refused`: it never will. */
export type Attachment = 'taken' | 'refused' | 'no such process yet';
/** Each takes over a connection of its kind. */
interface StreamHandlers {
  attach(header: StreamHeader, fd: number): Attachment;
  serveFiles(request: FilesRequest, fd: number): void;
  forward(port: number, fd: number): void;
}

interface Waiting {
  header: StreamHeader;
  fd: number;
}

export class StreamExchange {
  readonly #handlers: StreamHandlers;
  readonly #unclaimed = new Set<Waiting>();
  #isOver = false;

  constructor(handlers: StreamHandlers) {
    this.#handlers = handlers;
  }

  /** Reads the header first, and not a byte more: the rest belongs to the process. The descriptor is owned from now on. */
  accept(fd: number): void {
    const reader = new HeaderReader(fd);
    watch(fd, EPOLLIN, () => {
      const header = reader.read();
      if (header === 'incomplete') return;
      unwatch(fd);
      if (header === 'invalid') refuse(fd);
      else if ('direction' in header) this.#handlers.serveFiles(header, fd);
      else if ('forward' in header) this.#handlers.forward(header.forward, fd);
      else this.#match({ header, fd });
    });
  }

  #match(waiting: Waiting): void {
    const { header, fd } = waiting;
    const attachment = this.#handlers.attach(header, fd);
    if (attachment === 'taken') return;
    if (attachment === 'refused' || this.#isOver || this.#unclaimed.size >= UNCLAIMED_MAX) return refuse(fd);
    this.#unclaimed.add(waiting);
    after(CLAIM_TIMEOUT_MS, () => {
      if (this.#unclaimed.delete(waiting)) refuse(fd);
    });
  }

  /** The process exists now. */
  offer(process: ProcessId): void {
    for (const waiting of this.#unclaimed) {
      if (waiting.header.process !== process) continue;
      this.#unclaimed.delete(waiting);
      if (this.#handlers.attach(waiting.header, waiting.fd) !== 'taken') refuse(waiting.fd);
    }
  }

  /** There will be no more processes. */
  refuseAll(): void {
    this.#isOver = true;
    for (const { fd } of this.#unclaimed) refuse(fd);
    this.#unclaimed.clear();
  }
}

/** Collects one frame with reads of exactly what is missing. */
class HeaderReader {
  readonly #fd: number;
  #frame = new Uint8Array(FRAME_HEADER_BYTES);
  #filled = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  read(): StreamHeader | FilesRequest | ForwardHeader | 'incomplete' | 'invalid' {
    for (;;) {
      const count = readRaw(this.#fd, this.#frame.subarray(this.#filled));
      if (count === -EAGAIN || count === -EINTR) return 'incomplete';
      if (count <= 0) return 'invalid';
      this.#filled += count;
      if (this.#filled < this.#frame.length) continue;
      const size = FRAME_HEADER_BYTES + new DataView(this.#frame.buffer).getUint32(0, true);
      if (size > HEADER_MAX_BYTES) return 'invalid';
      if (size === this.#frame.length) return this.#decode();
      const whole = new Uint8Array(size);
      whole.set(this.#frame);
      this.#frame = whole;
    }
  }

  #decode(): StreamHeader | FilesRequest | ForwardHeader | 'invalid' {
    try {
      const [message] = new FrameDecoder().push(this.#frame);
      if (message === undefined) return 'invalid';
      return 'files' in message ? parseFilesRequest(message.files) : parseStreamHeader(message);
    } catch {
      return 'invalid';
    }
  }
}

function refuse(fd: number): void {
  shutdown(fd);
  close(fd);
}
