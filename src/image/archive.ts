/** The files an image consists of, in a directory or in a tar archive. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { RktError } from '../error.ts';
import { openRegularFile, wholeFile } from './file-slice.ts';
import type { FileSlice, OpenedFile } from './file-slice.ts';
import { indexTar } from './tar-index.ts';

export interface ArchiveFiles {
  /** The path of the archive: begins messages. */
  readonly origin: string;
  has(name: string): boolean;
  /** Opens a file for reading. The caller gives it back with `release`. Throws BAD_IMAGE when it is missing. */
  open(name: string): FileSlice;
  release(slice: FileSlice): void;
  close(): void;
}

/** Names are those of the image format and digests: none can lead out of the directory. */
export function directoryFiles(path: string): ArchiveFiles {
  return {
    origin: path,
    has: (name) => existsSync(join(path, name)),
    open: (name) => {
      if (!existsSync(join(path, name))) throw missing(path, name);
      return wholeFile(openRegularFile(join(path, name)));
    },
    release: (slice) => slice.file.close(),
    close: () => undefined,
  };
}

export function tarFiles(file: OpenedFile): ArchiveFiles {
  const index = indexTar(file);
  return {
    origin: file.path,
    has: (name) => index.find(name) !== undefined,
    open: (name) => index.find(name) ?? missingThrown(file.path, name),
    release: () => undefined,
    close: () => file.close(),
  };
}

function missing(origin: string, name: string): RktError {
  return new RktError('BAD_IMAGE', `${origin}: incomplete: there is no ${name} in it`);
}

function missingThrown(origin: string, name: string): never {
  throw missing(origin, name);
}
