import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

/** Where everything slow to make is kept, outside the checkout and shared by all checkouts. */
export const buildCache = (): string => process.env['RKT_BUILD_CACHE'] ?? join(homedir(), '.cache/rkt-build');

export const sha256Hex = (...parts: (string | Uint8Array)[]): string => {
  const hash = createHash('sha256');
  // Lengths keep ["ab", "c"] and ["a", "bc"] apart.
  for (const part of parts) hash.update(`${part.length}:`).update(part);
  return hash.digest('hex');
};

/** An empty directory in the cache, for what is to be renamed into place. Its maker removes it. */
export function temporaryDirectory(): string {
  const directory = join(buildCache(), 'tmp', randomBytes(6).toString('hex'));
  mkdirSync(directory, { recursive: true });
  return directory;
}

/** Renames a finished directory into place. If someone else was faster, theirs stays and this one is removed. */
export function publish(temporary: string, directory: string): void {
  mkdirSync(dirname(directory), { recursive: true });
  try {
    renameSync(temporary, directory);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error;
    rmSync(temporary, { recursive: true, force: true });
  }
}

/**
 * Fills `<cache>/<name>` so that it appears complete or not at all: `make` works in a directory beside it, which takes
 * the name in the end. Returns the path.
 */
export async function makeInCache(name: string, make: (directory: string) => Promise<void>): Promise<string> {
  const target = join(buildCache(), name);
  const work = temporaryDirectory();
  try {
    await make(work);
    publish(work, target);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return target;
}
