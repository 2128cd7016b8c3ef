/** Recipes of layers as files beside the disk: `N.kept.zst`, `N.segments.zst`. */
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { RktError } from '../error.ts';
import type { ByteSource } from '../rootfs/bytes.ts';
import { TarRecorder, writeTarAgain } from '../rootfs/index.ts';
import type { ErofsDisk } from '../rootfs/index.ts';
import { fileError } from '../store/fs-error.ts';
import { decompress } from './decompress.ts';
import { openRegularFile, streamOf, wholeFile } from './file-slice.ts';

const BATCH_BYTES = 256 << 10;
/** Of a layer of two million files. */
const SEGMENTS_MAX_BYTES = 64 << 20;

export interface RecipeWriter {
  readonly recorder: TarRecorder;
  /** The layer was read: writes what is left. */
  end(): void;
  /** Gives up what was not written yet. */
  close(): void;
  /** When the disk is complete. Writes nothing for a tar that cannot be written again. */
  finish(): void;
}

/** Makes the directory. `index`: of the layer, the lowest is 0. */
export function recipeWriter(directory: string, index: number): RecipeWriter {
  const path = keptPath(directory, index);
  mkdirSync(directory, { recursive: true, mode: 0o750 });
  let fd: number | undefined = openSync(path, 'wx', 0o600);
  let batch = Buffer.allocUnsafeSlow(BATCH_BYTES);
  let filled = 0;

  const flush = (): void => {
    if (filled === 0 || fd === undefined) return;
    // Each batch is a frame of its own: no state to keep, and frames may follow one another.
    const frame = zstdCompressSync(batch.subarray(0, filled));
    filled = 0;
    try {
      for (let at = 0; at < frame.length; ) at += writeSync(fd, frame, at);
    } catch (error) {
      throw fileError(error, `cannot write ${path}`);
    }
  };
  const keep = (bytes: Uint8Array): void => {
    for (let at = 0; at < bytes.length; ) {
      const count = Math.min(bytes.length - at, BATCH_BYTES - filled);
      batch.set(bytes.subarray(at, at + count), filled);
      filled += count;
      at += count;
      if (filled === BATCH_BYTES) flush();
    }
  };

  const close = (): void => {
    if (fd !== undefined) closeSync(fd);
    fd = undefined;
    batch = Buffer.alloc(0);
  };

  const recorder = new TarRecorder(keep);
  return {
    recorder,
    end: () => {
      flush();
      close();
    },
    close,
    finish: () => {
      const recipe = recorder.finish();
      if (recipe === undefined) return;
      const { buffer, byteOffset, byteLength } = recipe.segments;
      writeFileSync(segmentsPath(directory, index), zstdCompressSync(new Uint8Array(buffer, byteOffset, byteLength)), { flag: 'wx', mode: 0o600 });
    },
  };
}

export function hasRecipe(directory: string, index: number): boolean {
  return existsSync(segmentsPath(directory, index));
}

/** The tar of a layer as it was. Its digest is for the caller to check. Throws RktError. */
export async function* tarFromRecipe(directory: string, index: number, disk: ErofsDisk): AsyncGenerator<Uint8Array> {
  const segments = readSegments(segmentsPath(directory, index));
  const file = openRegularFile(keptPath(directory, index));
  try {
    const kept: ByteSource = file.sizeBytes === 0 ? emptySource() : decompress(streamOf(wholeFile(file)), file.path);
    yield* writeTarAgain({ segments }, kept, disk);
  } finally {
    file.close();
  }
}

async function* emptySource(): AsyncGenerator<Uint8Array> {}

function readSegments(path: string): Uint32Array {
  try {
    const bytes = zstdDecompressSync(readFileSync(path), { maxOutputLength: SEGMENTS_MAX_BYTES });
    return new Uint32Array(Uint8Array.from(bytes).buffer);
  } catch (cause) {
    throw new RktError('IO', `${path}: damaged`, { cause });
  }
}

function keptPath(directory: string, index: number): string {
  return join(directory, `${index}.kept.zst`);
}

function segmentsPath(directory: string, index: number): string {
  return join(directory, `${index}.segments.zst`);
}
