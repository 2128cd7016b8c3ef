/** Layers to a disk file in a workspace, every byte checked on the way. */
import { createHash } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { RktError } from '../error.ts';
import { renderDisk } from '../rootfs/index.ts';
import type { Layer, RenderOptions, TarRecorder } from '../rootfs/index.ts';
import { digestScratch, diskFile, sha256 } from '../store/disk-file.ts';
import { fileError } from '../store/fs-error.ts';
import type { NewDisk } from '../store/store.ts';
import { hasherOf, observed, requireDigest } from './bytes.ts';
import { decompress } from './decompress.ts';
import type { LayerBlob } from './layered-image.ts';
import { recipeWriter } from './recipe-file.ts';
import type { RecipeWriter } from './recipe-file.ts';

export interface ReadProgress {
  /** Bytes of the image as stored (compressed). */
  doneBytes: number;
  totalBytes: number;
}

export type OnRead = (progress: ReadProgress) => void;

/** Renders to `disk` in the directory. The file is garbage after a throw. */
export async function renderTo(directory: string, layers: AsyncIterable<Layer> | Iterable<Layer>, options: Omit<RenderOptions, 'sha256' | 'scratch'>): Promise<NewDisk> {
  const path = join(directory, 'disk');
  const scratch = digestScratch(join(directory, 'digests'));
  const what = `cannot write the disk of the image (${path})`;
  try {
    const fd = openSync(path, 'wx', 0o600);
    const file = diskFile(fd, what);
    try {
      return { ...(await renderDisk(layers, file, { ...options, sha256, scratch })), path };
    } finally {
      await file.settle();
      closeSync(fd);
    }
  } catch (error) {
    throw fileError(error, what);
  } finally {
    scratch.close();
  }
}

export interface RenderLayersOptions {
  onRead?: OnRead;
  onWarning?: (message: string) => void;
}

/** Renders the layers of an OCI or Docker image. Throws DIGEST for any byte that is not what the image names. */
export async function renderLayers(directory: string, blobs: readonly LayerBlob[], { onRead, onWarning }: RenderLayersOptions): Promise<NewDisk> {
  const progress = { doneBytes: 0, totalBytes: blobs.reduce((sum, blob) => sum + blob.sizeBytes, 0) };
  const onChunk = (sizeBytes: number): void => {
    progress.doneBytes += sizeBytes;
    onRead?.({ ...progress });
  };
  let current: VerifiedBlob | undefined;
  /** Each layer is compared when the renderer asks for the next one (or the end), so nothing is committed that was not verified. */
  async function* layers(): AsyncGenerator<Layer> {
    for (const [index, blob] of blobs.entries()) {
      current = verifiedBlob(blob, onChunk);
      yield { kind: 'oci', tar: current.tar, name: blob.name, recorder: recipes.recorder(index) };
      await current.finish();
      current = undefined;
    }
  }
  const recipes = recipeWriters(directory);
  try {
    return recipes.finish(await renderTo(directory, layers(), onWarning === undefined ? {} : { onWarning }));
  } catch (error) {
    // A damaged layer mostly shows as damaged compression or a broken tar before its sum is complete; the sum says why.
    if (error instanceof RktError && error.code === 'BAD_IMAGE') await current?.requireStoredDigest();
    throw error;
  } finally {
    recipes.close();
    await current?.close();
  }
}

/** Recipes of all layers of a disk, in a directory beside it. */
export function recipeWriters(directory: string): { recorder(index: number): TarRecorder; finish(disk: NewDisk): NewDisk; close(): void } {
  const recipeDir = join(directory, 'recipe');
  const writers: RecipeWriter[] = [];
  return {
    recorder: (index) => {
      writers.at(-1)?.end();
      const writer = recipeWriter(recipeDir, index);
      writers.push(writer);
      return writer.recorder;
    },
    finish: (disk) => {
      writers.at(-1)?.end();
      for (const writer of writers) writer.finish();
      return writers.length === 0 ? disk : { ...disk, recipeDir };
    },
    close: () => writers.forEach((writer) => writer.close()),
  };
}

interface VerifiedBlob {
  /** Uncompressed. Giving it up leaves the stored stream open. */
  tar: AsyncGenerator<Uint8Array>;
  /** Reads what is left, and compares both digests. Throws DIGEST. */
  finish(): Promise<void>;
  /** The same for the digest of the blob as stored alone. */
  requireStoredDigest(): Promise<void>;
  close(): Promise<void>;
}

function verifiedBlob(blob: LayerBlob, onChunk: (sizeBytes: number) => void): VerifiedBlob {
  const storedHash = blob.digest === undefined ? undefined : hasherOf(blob.digest);
  const diffHash = hasherOf(blob.diffID);
  let isUnreadable = false;
  async function* read(): AsyncGenerator<Uint8Array> {
    try {
      for await (const chunk of blob.open()) {
        storedHash?.update(chunk);
        onChunk(chunk.length);
        yield chunk;
      }
    } catch (error) {
      isUnreadable = true;
      throw error;
    }
  }
  const stored = read();
  const drain = async (): Promise<void> => {
    for (let next = await stored.next(); next.done !== true; next = await stored.next());
  };
  const requireStoredDigest = async (): Promise<void> => {
    // What could not be read has been reported as that.
    if (isUnreadable) return;
    await drain();
    if (blob.digest !== undefined && storedHash !== undefined) requireDigest(blob.name, blob.digest, storedHash.digest('hex'));
  };
  return {
    tar: observed(decompress(keptOpen(stored), blob.name), (chunk) => diffHash.update(chunk)),
    finish: async () => {
      await requireStoredDigest();
      requireDigest(`${blob.name}: uncompressed`, blob.diffID, diffHash.digest('hex'));
    },
    requireStoredDigest,
    close: async () => void (await stored.return(undefined)),
  };
}

/** A stream whose reader may stop early without ending it for others. */
function keptOpen(source: AsyncGenerator<Uint8Array>): AsyncIterable<Uint8Array> {
  return { [Symbol.asyncIterator]: () => ({ next: () => source.next() }) };
}

/** SHA-512 of a stream, and the stream. */
export function hashed(source: AsyncIterable<Uint8Array>): { stream: AsyncGenerator<Uint8Array>; sha512Hex: () => string } {
  const hash = createHash('sha512');
  return { stream: observed(source, (chunk) => hash.update(chunk)), sha512Hex: () => hash.digest('hex') };
}
