import { closeSync, openSync } from 'node:fs';
import { callInts, systemCallError } from './libc.ts';

/** syncfs(2): all that was written to the file system a path is on is on the disk. */
export function syncFileSystem(path: string): void {
  const fd = openSync(path, 'r');
  try {
    const { value, errno } = callInts('syncfs', fd);
    if (value === -1) throw systemCallError(`cannot write ${path} to the disk`, errno);
  } finally {
    closeSync(fd);
  }
}
