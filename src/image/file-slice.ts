/** Reading of local files, whole or in part. */
import { closeSync, constants, fstatSync, openSync, read, readSync } from 'node:fs';
import type { BigIntStats } from 'node:fs';
import { promisify } from 'node:util';
import { RktError } from '../error.ts';
import { fileError } from '../store/fs-error.ts';

const readAsync = promisify(read);
const CHUNK_BYTES = 256 << 10;

export interface OpenedFile {
  readonly fd: number;
  readonly path: string;
  readonly sizeBytes: number;
  readonly stats: BigIntStats;
  close(): void;
}

/** A part of a file, or all of it. */
export interface FileSlice {
  /** For messages. */
  readonly name: string;
  readonly file: OpenedFile;
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** Opens a regular file. What else may stand under the name (a device, a FIFO) is refused: it could block, or never end. */
export function openRegularFile(path: string): OpenedFile {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw fileError(error, path);
  }
  const stats = fstatSync(fd, { bigint: true });
  if (!stats.isFile()) {
    closeSync(fd);
    throw new RktError('BAD_INPUT', `${path}: expected a file, found ${stats.isDirectory() ? 'a directory' : 'a special file'}`);
  }
  let open = true;
  const close = (): void => {
    if (open) closeSync(fd);
    open = false;
  };
  return { fd, path, sizeBytes: Number(stats.size), stats, close };
}

export function wholeFile(file: OpenedFile): FileSlice {
  return { name: file.path, file, offsetBytes: 0, sizeBytes: file.sizeBytes };
}

/** Up to `sizeBytes` bytes at an offset of the file; fewer only at its end. */
export function readAt(file: OpenedFile, offsetBytes: number, sizeBytes: number): Uint8Array {
  const buffer = Buffer.allocUnsafe(sizeBytes);
  let filled = 0;
  while (filled < sizeBytes) {
    const count = readSync(file.fd, buffer, filled, sizeBytes - filled, offsetBytes + filled);
    if (count === 0) break;
    filled += count;
  }
  return buffer.subarray(0, filled);
}

/** All bytes of a small document. Throws LIMIT when it is larger than `limitBytes`. */
export function readSmall(slice: FileSlice, limitBytes: number): Uint8Array {
  if (slice.sizeBytes > limitBytes) throw new RktError('LIMIT', `${slice.name}: ${slice.sizeBytes} bytes, at most ${limitBytes} are accepted`);
  const bytes = readAt(slice.file, slice.offsetBytes, slice.sizeBytes);
  if (bytes.length < slice.sizeBytes) throw truncated(slice);
  return bytes;
}

/** The bytes in chunks of their own, the next one being read while one is used. */
export async function* streamOf(slice: FileSlice): AsyncGenerator<Uint8Array> {
  const end = slice.offsetBytes + slice.sizeBytes;
  let at = slice.offsetBytes;
  let pending = at < end ? readChunk(slice, at) : undefined;
  try {
    while (pending !== undefined) {
      const chunk: Uint8Array = await pending;
      if (chunk.length === 0) throw truncated(slice);
      at += chunk.length;
      pending = at < end ? readChunk(slice, at) : undefined;
      // A failure is reported when the chunk is asked for, not before.
      pending?.catch(() => undefined);
      yield chunk;
    }
  } finally {
    // The descriptor may be closed as soon as the stream is given up: no read may still be under way then.
    await pending?.catch(() => undefined);
  }
}

/** The bytes of a file that is opened when the first are asked for. */
export async function* streamOfFile(path: string): AsyncGenerator<Uint8Array> {
  const file = openRegularFile(path);
  try {
    yield* streamOf(wholeFile(file));
  } finally {
    file.close();
  }
}

async function readChunk(slice: FileSlice, offsetBytes: number): Promise<Uint8Array> {
  const sizeBytes = Math.min(CHUNK_BYTES, slice.offsetBytes + slice.sizeBytes - offsetBytes);
  const buffer = Buffer.allocUnsafeSlow(sizeBytes);
  try {
    const { bytesRead } = await readAsync(slice.file.fd, buffer, 0, sizeBytes, offsetBytes);
    return buffer.subarray(0, bytesRead);
  } catch (error) {
    throw fileError(error, slice.name);
  }
}

function truncated(slice: FileSlice): RktError {
  return new RktError('BAD_IMAGE', `${slice.name}: shorter than it was, or cut off`);
}
