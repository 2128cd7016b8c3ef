import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Where everything slow to make is kept, outside the checkout and shared by all checkouts. */
export const buildCache = (): string => process.env['RKT_BUILD_CACHE'] ?? join(homedir(), '.cache/rkt-build');

export const sha256Hex = (...parts: (string | Uint8Array)[]): string => {
  const hash = createHash('sha256');
  // Lengths keep ["ab", "c"] and ["a", "bc"] apart.
  for (const part of parts) hash.update(`${part.length}:`).update(part);
  return hash.digest('hex');
};

/**
 * Fills `<cache>/<name>` so that it appears complete or not at all: `make` works in a directory beside it, which takes
 * the name in the end. If someone else was faster, theirs stays. Returns the path.
 */
export async function makeInCache(name: string, make: (directory: string) => Promise<void>): Promise<string> {
  const target = join(buildCache(), name);
  const work = join(buildCache(), 'tmp', randomBytes(6).toString('hex'));
  mkdirSync(work, { recursive: true });
  try {
    await make(work);
    mkdirSync(join(target, '..'), { recursive: true });
    try {
      renameSync(work, target);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error;
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return target;
}
