/**
 * Standard input and output of this process, written and read without ever blocking and without changing flags that are
 * shared with whoever started it: pipes and terminals are opened anew, sockets are asked per call, files never block.
 */
import {
  AT_FDCWD, EAGAIN, EINTR, EPERM, EPOLLIN, EPOLLOUT, MSG_DONTWAIT, MSG_NOSIGNAL, NR_openat, NR_read, NR_recvfrom, NR_sendto, NR_write, O_CLOEXEC, O_NOCTTY, O_NONBLOCK,
  O_RDONLY, O_WRONLY, S_IFCHR, S_IFIFO, S_IFMT, S_IFSOCK,
} from '../../runtime/abi.gen.ts';
import { isErrno } from '../../runtime/linux/errors.ts';
import { close, duplicate } from '../../runtime/linux/fds.ts';
import { fstat } from '../../runtime/linux/files.ts';
import { after, unwatch, watch } from '../../runtime/loop.ts';

type Kind =
  /** Opened anew with O_NONBLOCK. */
  | 'own'
  /** A duplicate, so that each stream can be waited for by itself. */
  | 'socket'
  /** Never blocks; epoll refuses it. */
  | 'file'
  /** Could not be opened anew (a terminal of another user), a duplicate: only touched when poll says that a little fits. */
  | 'careful';

/** PIPE_BUF: what a pipe that polls writable takes without blocking. */
const CAREFUL_BYTES = 4096;

export class HostStream {
  readonly #fd: number;
  readonly #kind: Kind;
  readonly #direction: 'in' | 'out';
  #isClosed = false;

  /** @param fd 0, 1 or 2; stays open and unchanged */
  constructor(fd: number, direction: 'in' | 'out') {
    this.#direction = direction;
    const type = fstat(fd).mode & S_IFMT;
    if (type === S_IFSOCK) {
      this.#fd = duplicate(fd);
      this.#kind = 'socket';
    } else if (type === S_IFIFO || type === S_IFCHR) {
      const access = direction === 'in' ? O_RDONLY : O_WRONLY;
      const own = sys.call(NR_openat, AT_FDCWD, `/proc/self/fd/${fd}`, access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
      this.#fd = own < 0 ? duplicate(fd) : own;
      this.#kind = own < 0 ? 'careful' : 'own';
    } else {
      this.#fd = fd;
      this.#kind = 'file';
    }
  }

  /** Bytes taken, or -errno; -EAGAIN: wait with `whenReady`. */
  write(bytes: Uint8Array): number {
    if (this.#kind === 'socket') return sys.call(NR_sendto, this.#fd, bytes, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL, null, 0);
    return sys.call(NR_write, this.#fd, bytes, this.#kind === 'careful' ? Math.min(bytes.length, CAREFUL_BYTES) : bytes.length);
  }

  /** Bytes read, 0 at the end, or -errno. */
  read(into: Uint8Array): number {
    if (this.#kind === 'socket') return sys.call(NR_recvfrom, this.#fd, into, into.length, MSG_DONTWAIT, null, null);
    return sys.call(NR_read, this.#fd, into, into.length);
  }

  /** Calls back once, when reading or writing may go on. */
  whenReady(ready: () => void): void {
    if (this.#isClosed) return;
    try {
      watch(this.#fd, this.#direction === 'in' ? EPOLLIN : EPOLLOUT, () => {
        unwatch(this.#fd);
        ready();
      });
    } catch (error) {
      // A regular file or /dev/null: always ready.
      if (!isErrno(error, EPERM)) throw error;
      after(0, ready);
    }
  }

  /** Whether `read` could block when called without being ready. */
  get mustWait(): boolean {
    return this.#kind === 'careful';
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    unwatch(this.#fd);
    if (this.#kind !== 'file') close(this.#fd);
  }
}

export function wouldBlock(result: number): boolean {
  return result === -EAGAIN || result === -EINTR;
}
