/** Giving back what a range of a file takes on the disk: fallocate(2). */
import { callInt64, systemCallError } from './libc.ts';

const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;
const EOPNOTSUPP = 95;
const ENOSYS = 38;

/** Makes a range of an open file a hole. False: the file system cannot. */
export function punchHole(fd: number, offsetBytes: number, lengthBytes: number): boolean {
  const result = callInt64('fallocate', [fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offsetBytes, lengthBytes]);
  if (result.value !== -1) return true;
  if (result.errno === EOPNOTSUPP || result.errno === ENOSYS) return false;
  throw systemCallError('cannot punch a hole', result.errno);
}
