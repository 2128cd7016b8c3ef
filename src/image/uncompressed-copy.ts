/** Compressed archives that must be read out of order, or looked into. */
import { closeSync, openSync, writeSync } from 'node:fs';
import { RktError } from '../error.ts';
import { readTar } from '../rootfs/index.ts';
import { fileError } from '../store/fs-error.ts';
import { decompress } from './decompress.ts';
import { openRegularFile, streamOf, wholeFile } from './file-slice.ts';
import type { FileSlice, OpenedFile } from './file-slice.ts';

/** Beyond this a compressed archive is taken for one made to fill disks. */
const COPY_MAX_BYTES = 64 * 2 ** 30;

/** Name of the first member that is not the archive's own root; damage in the data is left for the real reading to report. */
export async function firstNameOfStream(slice: FileSlice): Promise<string | undefined> {
  for await (const entry of readTar(decompress(streamOf(slice), slice.name), { name: slice.name })) {
    const name = entry.path.replace(/^(\.?\/)+|\/+$/g, '').replace(/^\.$/, '');
    if (name !== '') return name;
  }
  return undefined;
}

export async function uncompressedCopy(file: OpenedFile, path: string): Promise<OpenedFile> {
  let writtenBytes = 0;
  try {
    const fd = openSync(path, 'wx', 0o600);
    try {
      for await (const chunk of decompress(streamOf(wholeFile(file)), file.path)) {
        writtenBytes += chunk.length;
        if (writtenBytes > COPY_MAX_BYTES) throw new RktError('LIMIT', `${file.path}: larger than ${COPY_MAX_BYTES} bytes uncompressed`);
        for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at);
      }
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw fileError(error, `cannot unpack ${file.path} to ${path}`);
  }
  // Messages name the archive, not its copy.
  return { ...openRegularFile(path), path: file.path };
}
