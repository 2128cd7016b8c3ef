/** Directories that are complete or not there. */
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { RktError } from '../error.ts';

/** Made beside its place, and put there when `fill` has ended. Throws RktError BAD_INPUT, and what `fill` throws. */
export async function saveDirectory<T>(path: string, { overwrite, fill }: { overwrite: boolean; fill(directory: string): Promise<T> }): Promise<T> {
  if (!overwrite && existsSync(path)) throw new RktError('BAD_INPUT', 'output directory exists (try --overwrite)');
  const unfinished = join(dirname(path), `.${basename(path)}.unfinished`);
  rmSync(unfinished, { recursive: true, force: true });
  try {
    mkdirSync(unfinished);
    const result = await fill(unfinished);
    rmSync(path, { recursive: true, force: true });
    renameSync(unfinished, path);
    return result;
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
}
