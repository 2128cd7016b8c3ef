/** Layers to a disk file in a workspace, every byte checked on the way. */
import { createHash } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { RktError } from '../error.ts';
import { renderDisk } from '../rootfs/index.ts';
import type { Layer, RenderOptions } from '../rootfs/index.ts';
import { diskFile, sha256 } from '../store/disk-file.ts';
import { fileError } from '../store/fs-error.ts';
import type { NewDisk } from '../store/store.ts';
import { hasherOf, observed, requireDigest } from './bytes.ts';
import { decompress } from './decompress.ts';
import type { LayerBlob } from './layered-image.ts';

export interface ReadProgress {
  /** Bytes of the image as stored (compressed). */
  doneBytes: number;
  totalBytes: number;
}

export type OnRead = (progress: ReadProgress) => void;

/** Renders to `disk` in the directory. The file is garbage after a throw. */
export async function renderTo(directory: string, layers: AsyncIterable<Layer> | Iterable<Layer>, options: Omit<RenderOptions, 'sha256'>): Promise<NewDisk> {
  const path = join(directory, 'disk');
  const what = `cannot write the disk of the image (${path})`;
  try {
    const fd = openSync(path, 'wx', 0o600);
    try {
      return { ...(await renderDisk(layers, diskFile(fd, what), { ...options, sha256 })), path };
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw fileError(error, what);
  }
}

export interface RenderLayersOptions {
  onRead?: OnRead;
  onWarning?: (message: string) => void;
}

/** Renders the layers of an OCI or Docker image. Throws DIGEST for any byte that is not what the image names. */
export async function renderLayers(directory: string, blobs: readonly LayerBlob[], { onRead, onWarning }: RenderLayersOptions): Promise<NewDisk> {
  try {
    return await renderTo(directory, verifiedLayers(blobs, onRead), onWarning === undefined ? {} : { onWarning });
  } catch (error) {
    // A damaged layer mostly shows as damaged compression or a broken tar before its sum is complete; the sum says why.
    if (error instanceof RktError && error.code === 'BAD_IMAGE') await requireStoredDigests(blobs);
    throw error;
  }
}

async function requireStoredDigests(blobs: readonly LayerBlob[]): Promise<void> {
  for (const blob of blobs) {
    if (blob.digest === undefined) continue;
    const hash = hasherOf(blob.digest);
    for await (const chunk of blob.open()) hash.update(chunk);
    requireDigest(blob.name, blob.digest, hash.digest('hex'));
  }
}

/**
 * The layers as the renderer wants them. Each is hashed while it is read, as stored and uncompressed, and compared when the
 * renderer asks for the next one (or the end), so nothing is committed that was not verified.
 */
async function* verifiedLayers(blobs: readonly LayerBlob[], onRead: OnRead | undefined): AsyncGenerator<Layer> {
  const totalBytes = blobs.reduce((sum, blob) => sum + blob.sizeBytes, 0);
  let doneBytes = 0;
  for (const blob of blobs) {
    const storedHash = blob.digest === undefined ? undefined : hasherOf(blob.digest);
    const diffHash = hasherOf(blob.diffID);
    const stored = observed(blob.open(), (chunk) => {
      storedHash?.update(chunk);
      doneBytes += chunk.length;
      onRead?.({ doneBytes, totalBytes });
    });
    const tar = observed(drained(stored, decompress(stored, blob.name)), (chunk) => diffHash.update(chunk));
    yield { kind: 'oci', tar, name: blob.name };
    if (blob.digest !== undefined && storedHash !== undefined) requireDigest(blob.name, blob.digest, storedHash.digest('hex'));
    requireDigest(`${blob.name}: uncompressed`, blob.diffID, diffHash.digest('hex'));
  }
}

/** Reads what a decompressor left of its source, so that the sum of the source is complete. */
async function* drained(source: AsyncGenerator<Uint8Array>, result: AsyncGenerator<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield* result;
  for await (const chunk of source) void chunk;
}

/** SHA-512 of a stream, and the stream. */
export function hashed(source: AsyncIterable<Uint8Array>): { stream: AsyncGenerator<Uint8Array>; sha512Hex: () => string } {
  const hash = createHash('sha512');
  return { stream: observed(source, (chunk) => hash.update(chunk)), sha512Hex: () => hash.digest('hex') };
}
