/** An image of the store as archives again: the tars it was made of where they can be had, else one tar of what it shows. */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { RktError } from '../error.ts';
import type { ByteSource } from '../rootfs/bytes.ts';
import { entriesOfDisk, openErofs, writeTar } from '../rootfs/index.ts';
import type { ErofsDisk, ReadAt, TarEntry } from '../rootfs/index.ts';
import type { ImageManifest } from '../schema/appc.ts';
import type { StoredImage } from '../store/records.ts';
import { imageIdOf } from '../store/store.ts';
import type { Store } from '../store/store.ts';
import { hasRecipe, tarFromRecipe } from './recipe-file.ts';

export interface OpenedImage {
  readonly image: StoredImage;
  readonly manifest: ImageManifest;
  readonly disk: ErofsDisk;
  readonly recipeDir: string;
  close(): void;
}

/** Throws RktError NOT_FOUND, IO. */
export function openImage(store: Store, image: StoredImage): OpenedImage {
  const manifest = store.imageManifest(image.id);
  return { image, manifest, recipeDir: store.recipeDir(image.id), ...openDisk(store.disk(image.id).path) };
}

/** A rendered disk. Throws RktError IO for a file that is none. */
export function openDisk(path: string): { disk: ErofsDisk; close(): void } {
  const fd = openSync(path, 'r');
  try {
    return { disk: openErofs(readerOf(fd), path), close: () => closeSync(fd) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Reads of an open file, as the reader of disks wants them. */
function readerOf(fd: number): ReadAt {
  return (offsetBytes, lengthBytes) => {
    const buffer = Buffer.allocUnsafe(lengthBytes);
    let filled = 0;
    while (filled < lengthBytes) {
      const count = readSync(fd, buffer, filled, lengthBytes - filled, offsetBytes + filled);
      if (count === 0) break;
      filled += count;
    }
    return buffer.subarray(0, filled);
  };
}

/** The uncompressed ACI. `isExact`: importing it gives the same image ID. */
export function aciOf(opened: OpenedImage): { tar: ByteSource; isExact: boolean } {
  const { image, disk, recipeDir } = opened;
  if (image.source === 'aci' && hasRecipe(recipeDir, 0)) return { tar: checkedAci(tarFromRecipe(recipeDir, 0, disk), image.id), isExact: true };
  return { tar: writeAci(opened.manifest, rootfsOfDisk(disk)), isExact: false };
}

/** The tar with the image's own files alone, for images that depend on others. Throws NOT_FOUND when it cannot be had. */
export function ownAciOf({ image, disk, recipeDir }: OpenedImage): ByteSource {
  if (!hasRecipe(recipeDir, 0)) throw new RktError('NOT_FOUND', `image ${image.id}: what it consists of without its dependencies is no longer known`, { hint: 'use `rkt image render`, or fetch the image again' });
  return checkedAci(tarFromRecipe(recipeDir, 0, disk), image.id);
}

async function* checkedAci(tar: ByteSource, id: string): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha512');
  for await (const chunk of tar) {
    hash.update(chunk);
    yield chunk;
  }
  const found = imageIdOf(hash.digest('hex'));
  if (found !== id) throw new RktError('DIGEST', `image ${id}: its disk or recipe is damaged: writing it again gives ${found}`, { hint: 'remove it with `rkt image rm` and fetch it again' });
}

async function* rootfsOfDisk(disk: ErofsDisk): AsyncGenerator<TarEntry> {
  for await (const entry of entriesOfDisk(disk)) {
    yield { ...entry, path: entry.path === './' ? 'rootfs/' : `rootfs/${entry.path}`, ...(entry.type === 'hardlink' ? { linkPath: `rootfs/${entry.linkPath}` } : {}) };
  }
}

/** An uncompressed ACI that stands alone. @param rootfs members of the archive, `rootfs/` first */
export async function* writeAci(manifest: ImageManifest, rootfs: AsyncIterable<TarEntry>): AsyncGenerator<Uint8Array> {
  yield* writeTar(aciEntries(manifest, rootfs));
}

async function* aciEntries(manifest: ImageManifest, rootfs: AsyncIterable<TarEntry>): AsyncGenerator<TarEntry> {
  // All is merged into one: what it was merged from says nothing any more.
  const { dependencies, pathWhitelist, ...alone } = manifest;
  void dependencies;
  void pathWhitelist;
  const bytes = Buffer.from(JSON.stringify(alone));
  yield { ...NO_ENTRY, type: 'file', path: 'manifest', mode: 0o644, sizeBytes: bytes.length, body: bodyOf(bytes) };
  yield* rootfs;
}

const NO_ENTRY: Omit<TarEntry, 'type' | 'path' | 'mode' | 'sizeBytes' | 'body'> = { uid: 0, gid: 0, mtime: { seconds: 0, nanoseconds: 0 }, linkPath: '', device: { major: 0, minor: 0 }, xattrs: new Map(), extents: undefined };

async function* bodyOf(data: Uint8Array): AsyncGenerator<{ offsetBytes: number; data: Uint8Array }> {
  yield { offsetBytes: 0, data };
}
