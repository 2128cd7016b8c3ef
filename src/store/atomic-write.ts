/** Files that are either complete or absent, whatever happens in between. */
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileError } from './fs-error.ts';

/** Names of unfinished files begin with this; what lists a directory leaves them out. */
export const UNFINISHED_PREFIX = '.unfinished-';

/** Makes or replaces a file: written beside, synced, renamed, directory synced. Throws RktError naming the path. */
export function writeFileAtomic(path: string, data: string | Uint8Array, mode = 0o640): void {
  const unfinished = join(dirname(path), `${UNFINISHED_PREFIX}${basename(path)}-${randomBytes(6).toString('hex')}`);
  try {
    try {
      const fd = openSync(unfinished, 'wx', mode);
      try {
        writeFileSync(fd, data);
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
      renameSync(unfinished, path);
    } catch (error) {
      try {
        unlinkSync(unfinished);
      } catch {
        // Never made, or already renamed.
      }
      throw error;
    }
    syncDirectory(dirname(path));
  } catch (error) {
    throw fileError(error, `cannot write ${path}`);
  }
}

/** Makes renames and removals in a directory last over a crash of the machine. */
export function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
