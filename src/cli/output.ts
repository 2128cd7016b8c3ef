/** Writing to standard output and error without Node's streams, which take longer to load than most commands run. */
import { writeSync } from 'node:fs';
import { isErrno } from '../linux/errno.ts';

const RETRY_PAUSE_MS = 5;

/** Writes all of it. False: the reader has gone away, which is not an error: nobody wants the rest. */
export function writeAll(fd: 1 | 2, content: string | Uint8Array): boolean {
  const data = typeof content === 'string' ? Buffer.from(content) : content;
  let written = 0;
  while (written < data.length) {
    try {
      written += writeSync(fd, data, written);
    } catch (error) {
      if (isErrno(error, 'EPIPE')) return false;
      // Someone has made the descriptor non-blocking.
      if (!isErrno(error, 'EAGAIN')) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_PAUSE_MS);
    }
  }
  return true;
}
