/** A stream that is written by one side and read by the other; what the reader is not ready for waits in a file. */
import { closeSync, openSync, read, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { fileError } from '../store/fs-error.ts';

const readAsync = promisify(read);
const READ_BYTES = 256 << 10;
/** In memory, between a writer and a reader that is as quick: small beside what a decompressor holds. */
const QUEUE_MAX_BYTES = 1 << 20;

export interface Spool {
  /** Waits while a reader that is there has enough to do. The chunk is kept: it must not change any more. */
  write(chunk: Uint8Array): Promise<void>;
  end(): void;
  fail(error: unknown): void;
  /** Once. The stream ends, or fails, as the writer does. */
  read(): AsyncGenerator<Uint8Array, void, undefined>;
  close(): void;
}

/** `keep`: all of it goes to the file, however quick the reader is. The caller removes the file. */
export function openSpool(path: string, { keep }: { keep: boolean }): Spool {
  const what = `cannot keep a layer until its turn (${path})`;
  let fd: number | undefined;
  let writtenBytes = 0;
  let readBytes = 0;
  let queue: Uint8Array[] = [];
  let queuedBytes = 0;
  let hasReader = false;
  let ended = false;
  let failure: { error: unknown } | undefined;
  let waiting: (() => void)[] = [];

  /** Lets everybody look again at what has changed. */
  function wake(): void {
    const woken = waiting;
    waiting = [];
    for (const resume of woken) resume();
  }

  function change(): Promise<void> {
    return new Promise((resolve) => waiting.push(resolve));
  }

  function toFile(chunk: Uint8Array): void {
    try {
      fd ??= openSync(path, 'wx+', 0o600);
      for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at, chunk.length - at, writtenBytes + at);
    } catch (error) {
      throw fileError(error, what);
    }
    writtenBytes += chunk.length;
  }

  async function fromFile(): Promise<Uint8Array> {
    const sizeBytes = Math.min(READ_BYTES, writtenBytes - readBytes);
    const buffer = Buffer.allocUnsafeSlow(sizeBytes);
    try {
      const { bytesRead } = await readAsync(fd ?? -1, buffer, 0, sizeBytes, readBytes);
      readBytes += bytesRead;
      return buffer.subarray(0, bytesRead);
    } catch (error) {
      throw fileError(error, what);
    }
  }

  /** The reader takes from the file what came before it, then from the queue. */
  const takesFromFile = (): boolean => readBytes < writtenBytes;

  return {
    async write(chunk) {
      const direct = hasReader && (!takesFromFile() || queuedBytes > 0);
      if (keep || !direct) toFile(chunk);
      if (direct) {
        // Kept as well: the reader need not read it again.
        if (keep) readBytes = writtenBytes;
        queue.push(chunk);
        queuedBytes += chunk.length;
      }
      wake();
      while (queuedBytes > QUEUE_MAX_BYTES && failure === undefined) await change();
    },
    end() {
      ended = true;
      wake();
    },
    fail(error) {
      failure ??= { error };
      wake();
    },
    async *read() {
      hasReader = true;
      wake();
      for (;;) {
        if (queue.length > 0) {
          const chunks = queue;
          queue = [];
          queuedBytes = 0;
          wake();
          yield* chunks;
        } else if (takesFromFile()) yield await fromFile();
        else if (failure !== undefined) throw failure.error;
        else if (ended) return;
        else await change();
      }
    },
    close() {
      failure ??= { error: new Error('the spool was closed') };
      wake();
      if (fd !== undefined) closeSync(fd);
      fd = undefined;
    },
  };
}
