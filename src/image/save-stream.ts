/** Streams into files. */
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { ByteSource } from '../rootfs/bytes.ts';
import { fileError } from '../store/fs-error.ts';
import { goOnUnless } from './interruption.ts';

/** Makes or replaces a file. It is whole or not there, also when `signal` ends it. Throws RktError that names the path. */
export async function saveStream(source: ByteSource, path: string, signal: AbortSignal): Promise<void> {
  const unfinished = join(dirname(path), `.${basename(path)}-${randomBytes(6).toString('hex')}`);
  try {
    const fd = openSync(unfinished, 'wx', 0o644);
    try {
      for await (const chunk of source) {
        await goOnUnless(signal);
        for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at);
      }
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(unfinished, path);
  } catch (error) {
    rmSync(unfinished, { force: true });
    throw fileError(error, `cannot write ${path}`);
  }
}
