/**
 * Two stream sockets made one: what comes out of either goes into the other, no faster than that takes it; the end of one
 * direction is passed on and leaves the other open.
 */
import { EAGAIN, EINTR, EPOLLIN, EPOLLOUT, SHUT_RD, SHUT_WR } from './abi.gen.ts';
import { close, duplicate, readRaw, writeRaw } from './linux/fds.ts';
import { shutdown } from './linux/sockets.ts';
import { unwatch, watch } from './loop.ts';

const CHUNK_BYTES = 64 << 10;
/** Carried before others get their turn. */
const CHUNKS_PER_TURN = 4;

/** One for all: what is not passed on at once is copied. */
const chunk = new Uint8Array(CHUNK_BYTES);

/** Both descriptors are non-blocking, and owned from now on. SIGPIPE must be blocked. `onEnd` is called when both directions have ended. */
export function joinStreams(first: number, second: number, onEnd: () => void): void {
  let open = 2;
  const ended = (): void => {
    if (--open === 0) onEnd();
  };
  // Each descriptor can be watched for one thing only, so each direction has its own.
  const [secondToRead, firstToWrite] = [duplicate(second), duplicate(first)];
  carry(first, second, ended);
  carry(secondToRead, firstToWrite, ended);
}

function carry(source: number, sink: number, onEnd: () => void): void {
  let pending: Uint8Array | undefined;

  const end = (): void => {
    unwatch(source);
    unwatch(sink);
    shutdown(sink, SHUT_WR);
    // Whoever writes still may learn that nobody reads.
    shutdown(source, SHUT_RD);
    close(source);
    close(sink);
    onEnd();
  };
  /** False: not all of it yet, or never. */
  const write = (bytes: Uint8Array): boolean => {
    let rest = bytes;
    while (rest.length > 0) {
      const count = writeRaw(sink, rest);
      if (count === -EINTR) continue;
      if (count === -EAGAIN) {
        pending = rest.slice();
        unwatch(source);
        watch(sink, EPOLLOUT, flush);
        return false;
      }
      if (count < 0) {
        end();
        return false;
      }
      rest = rest.subarray(count);
    }
    return true;
  };
  const flush = (): void => {
    const bytes = pending ?? new Uint8Array(0);
    pending = undefined;
    unwatch(sink);
    if (write(bytes)) watch(source, EPOLLIN, turn);
  };
  const turn = (): void => {
    for (let count = 0; count < CHUNKS_PER_TURN; count++) {
      const length = readRaw(source, chunk);
      if (length === -EAGAIN || length === -EINTR) return;
      if (length <= 0) return end();
      if (!write(chunk.subarray(0, length))) return;
    }
  };
  watch(source, EPOLLIN, turn);
}
