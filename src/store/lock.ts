/** Locks between processes that make the same thing, so that it is made once. */
import { fstatSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { lockFile } from '../linux/flock.ts';
import type { Lock } from '../linux/flock.ts';
import { fileError } from './fs-error.ts';

const FIRST_WAIT_MS = 5;
const LONGEST_WAIT_MS = 100;

/**
 * Runs `work` while holding the exclusive lock of a name. The lock file exists only as long as someone holds or wants it.
 * Waiting is polling, so that two tasks of one process can wait for each other.
 */
export async function withLock<T>(locksDir: string, name: string, work: () => Promise<T>): Promise<T> {
  const path = join(locksDir, `${name}.lock`);
  const lock = await acquire(locksDir, path);
  try {
    return await work();
  } finally {
    // Removed while it is held: whoever opened it before finds out that it is no longer the file of that name.
    rmSync(path, { force: true });
    lock.release();
  }
}

async function acquire(locksDir: string, path: string): Promise<Lock> {
  try {
    mkdirSync(locksDir, { recursive: true, mode: 0o750 });
    for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS)) {
      const lock = lockFile(path, 'exclusive', { block: false });
      if (lock !== null && isFileOfPath(lock.fd, path)) return lock;
      lock?.release();
      await sleep(waitMs);
    }
  } catch (error) {
    throw fileError(error, `cannot lock ${path}`);
  }
}

function isFileOfPath(fd: number, path: string): boolean {
  const named = statSync(path, { throwIfNoEntry: false });
  const opened = fstatSync(fd);
  return named !== undefined && named.dev === opened.dev && named.ino === opened.ino;
}
