/** Processes whose number is known before they exist: sd_listen_fds(3) wants it in their environment. */
import { EEXIST } from '../../runtime/abi.gen.ts';
import { isErrno } from '../../runtime/linux/errors.ts';

/** Every kernel has these numbers, and they are the last that it gives out by itself. */
const FIRST = 16384;
const COUNT = 16384;
const ATTEMPTS = 64;

let next = 0;

/** Starts a process under a number that is free. `start` throws EEXIST for one that is not. */
export function withOwnPid<T>(start: (pid: number) => T): T {
  for (let attempt = 1; ; attempt++) {
    const pid = FIRST + (next++ % COUNT);
    try {
      return start(pid);
    } catch (error) {
      if (attempt >= ATTEMPTS || !isErrno(error, EEXIST)) throw error;
    }
  }
}
