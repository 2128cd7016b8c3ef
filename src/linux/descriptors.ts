/** Descriptor flags: what survives an execve. */
import { callInts, systemCallError } from './libc.ts';

const F_GETFD = 1;
const F_SETFD = 2;
const FD_CLOEXEC = 1;

/** Whether a descriptor is closed by execve. Node opens every file with it set. */
export function setCloseOnExec(fd: number, closeOnExec: boolean): void {
  const current = callInts('fcntl', fd, F_GETFD);
  if (current.value === -1) throw systemCallError(`cannot read the flags of descriptor ${fd}`, current.errno);
  const flags = closeOnExec ? current.value | FD_CLOEXEC : current.value & ~FD_CLOEXEC;
  const { value, errno } = callInts('fcntl', fd, F_SETFD, flags);
  if (value === -1) throw systemCallError(`cannot set the flags of descriptor ${fd}`, errno);
}
