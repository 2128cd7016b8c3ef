/** Private directories below cas/tmp. The lock on the directory tells a living one from what a killed process left behind. */
import { fstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { lockDirectory } from '../linux/flock.ts';
import type { Lock } from '../linux/flock.ts';
import { errnoName, fileError } from './fs-error.ts';

export interface Workspace {
  readonly path: string;
  /** Removes all in it. */
  clear(): void;
  /** Removes the directory and all in it. */
  remove(): void;
}

/** Makes an empty directory, after removing those whose makers have died. */
export function openWorkspace(tmpDir: string): Workspace {
  try {
    mkdirSync(tmpDir, { recursive: true, mode: 0o750 });
    removeAbandoned(tmpDir);
    for (;;) {
      const path = mkdtempSync(join(tmpDir, 'work-'));
      const lock = tryLock(path);
      // Another process may have taken the new directory for an abandoned one before it was locked.
      if (lock !== null && fstatSync(lock.fd).nlink > 0) {
        return {
          path,
          clear: () => {
            for (const name of readdirSync(path)) rmSync(join(path, name), { recursive: true, force: true });
          },
          remove: () => {
            rmSync(path, { recursive: true, force: true });
            lock.release();
          },
        };
      }
      lock?.release();
    }
  } catch (error) {
    throw fileError(error, `cannot make a temporary directory in ${tmpDir}`);
  }
}

function removeAbandoned(tmpDir: string): void {
  for (const name of readdirSync(tmpDir)) {
    const path = join(tmpDir, name);
    const lock = tryLock(path);
    if (lock === null) continue;
    rmSync(path, { recursive: true, force: true });
    lock.release();
  }
}

function tryLock(path: string): Lock | null {
  try {
    return lockDirectory(path, 'exclusive', { block: false });
  } catch (error) {
    if (errnoName(error) === 'ENOENT' || errnoName(error) === 'ENOTDIR') return null;
    throw error;
  }
}
