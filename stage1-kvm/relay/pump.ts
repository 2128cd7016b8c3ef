/** Moves bytes between a stream of the guest and one of this process, as fast as the slower side and no faster. */
import { EPOLLIN, EPOLLOUT, SHUT_WR } from '../../runtime/abi.gen.ts';
import { close, readRaw, writeRaw } from '../../runtime/linux/fds.ts';
import { shutdown } from '../../runtime/linux/sockets.ts';
import { unwatch, watch } from '../../runtime/loop.ts';
import { wouldBlock, type HostStream } from './host-stream.ts';

const CHUNK_BYTES = 65536;
/** One for everybody: what is not passed on at once is copied. */
const chunk = new Uint8Array(CHUNK_BYTES);

/** Changes what passes by, for example by putting a name before each line. */
export interface Filter {
  push(bytes: Uint8Array): Uint8Array;
  /** What is still held back, at the end. */
  finish(): Uint8Array;
}

/**
 * Guest → host until the guest ends the stream or nobody reads any more.
 * @param fd a non-blocking stream; belongs to the pump, as the output does
 * @param output null: there is nobody whose pace counts
 * @param seen called with what was read, which is valid during the call, before it is passed on
 */
export function pumpOut(fd: number, output: HostStream | null, options: { filter?: Filter; seen?: (bytes: Uint8Array) => void } = {}): Promise<void> {
  return new Promise((resolve) => {
    let pending: Uint8Array | null = null;
    let ended = false;
    const finish = (): void => {
      unwatch(fd);
      close(fd);
      output?.close();
      resolve();
    };
    /** @returns false when the output has to be waited for or is gone */
    const put = (bytes: Uint8Array): boolean => {
      if (output === null) return true;
      let rest = bytes;
      while (rest.length > 0) {
        const count = output.write(rest);
        if (wouldBlock(count)) {
          // The chunk will be used by others in the meantime.
          pending = rest.slice();
          unwatch(fd);
          output.whenReady(flush);
          return false;
        }
        if (count < 0) {
          // Nobody reads: closing the stream is how the guest's program learns of it.
          pending = null;
          finish();
          return false;
        }
        rest = rest.subarray(count);
      }
      return true;
    };
    const flush = (): void => {
      const bytes = pending;
      pending = null;
      if (bytes !== null && !put(bytes)) return;
      if (ended) finish();
      else watch(fd, EPOLLIN, readSome);
    };
    const readSome = (): void => {
      const count = readRaw(fd, chunk);
      if (wouldBlock(count)) return;
      if (count > 0) {
        const bytes = chunk.subarray(0, count);
        options.seen?.(bytes);
        put(options.filter === undefined ? bytes : options.filter.push(bytes));
        return;
      }
      ended = true;
      const rest = options.filter?.finish();
      if (rest === undefined || put(rest)) finish();
    };
    watch(fd, EPOLLIN, readSome);
  });
}

/**
 * Host → guest until the input ends (the guest then sees the end) or the guest takes no more.
 * @param fd a non-blocking stream; belongs to the pump, as the input does
 * @param options.seen called with what was read, before it is passed on
 * @param options.change gives what is passed on instead
 */
export function pumpIn(input: HostStream, fd: number, options: { seen?: (bytes: Uint8Array) => void; change?: (bytes: Uint8Array) => Uint8Array } = {}): Promise<void> {
  return new Promise((resolve) => {
    const finish = (): void => {
      input.close();
      shutdown(fd, SHUT_WR);
      close(fd);
      resolve();
    };
    let pending: Uint8Array | null = null;
    const put = (bytes: Uint8Array): boolean => {
      let rest = bytes;
      while (rest.length > 0) {
        const count = writeRaw(fd, rest);
        if (wouldBlock(count)) {
          pending = rest.slice();
          watch(fd, EPOLLOUT, flush);
          return false;
        }
        if (count < 0) {
          finish();
          return false;
        }
        rest = rest.subarray(count);
      }
      return true;
    };
    const flush = (): void => {
      unwatch(fd);
      const bytes = pending!;
      pending = null;
      if (put(bytes)) input.whenReady(readSome);
    };
    const readSome = (): void => {
      const count = input.read(chunk);
      if (wouldBlock(count)) {
        input.whenReady(readSome);
        return;
      }
      if (count <= 0) {
        finish();
        return;
      }
      const bytes = chunk.subarray(0, count);
      options.seen?.(bytes);
      if (put(options.change?.(bytes) ?? bytes)) input.whenReady(readSome);
    };
    input.whenReady(readSome);
  });
}
