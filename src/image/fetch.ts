/** From a reference to an image in the store, rendered and ready to run. */
import { realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { RktError } from '../error.ts';
import type { ImageManifest } from '../schema/appc.ts';
import type { Platform } from '../schema/platform.ts';
import { fileError } from '../store/fs-error.ts';
import type { DiskDescription, StoredImage } from '../store/records.ts';
import { manifestHash, treeStoreIdOf } from '../store/store.ts';
import type { SourceFile, Store } from '../store/store.ts';
import { directoryFiles, tarFiles } from './archive.ts';
import type { ArchiveFiles } from './archive.ts';
import { convertImage } from './convert.ts';
import { COMPRESSION_HEAD_BYTES, compressionOf } from './compression.ts';
import { isDockerArchive, openDockerArchive } from './docker-archive.ts';
import { openRegularFile, readAt, wholeFile } from './file-slice.ts';
import type { OpenedFile } from './file-slice.ts';
import type { LayeredImage } from './layered-image.ts';
import { isOciLayout, openOciLayout } from './oci-layout.ts';
import { hostPlatform, platformText } from './platform.ts';
import { nameOfFile } from './reference.ts';
import type { ImageReference } from './reference.ts';
import type { ReadProgress } from './render-image.ts';
import { firstName } from './tar-index.ts';

export interface FetchedImage extends StoredImage {
  manifest: ImageManifest;
  /** Absolute path. */
  disk: DiskDescription;
}

export interface FetchProgress extends ReadProgress {
  /** What is being imported, as the user wrote it. */
  image: string;
}

export interface FetchOptions {
  store: Store;
  /** Default: the host's. */
  platform?: Platform;
  /** Protections that are off. None of the transports here has signatures, so nothing is looked at yet. */
  insecure?: { image: boolean };
  /** Called before an image enters the store; a throw keeps it out. */
  accept?: (id: string, manifest: ImageManifest) => void;
  /** Called often while an image is read; not at all when it is in the store already. */
  onProgress?: (progress: FetchProgress) => void;
  /** One line about something in the image that is left out. */
  onWarning?: (message: string) => void;
}

type FileReference = Exclude<ImageReference, { kind: 'id' }>;

/** Gets an image into the store unless it is there, and marks it as used. Throws RktError; then the store is as it was. */
export async function fetchImage(reference: ImageReference, options: FetchOptions): Promise<FetchedImage> {
  const { store } = options;
  const { image, manifest } = await importImage(reference, options);
  store.touch(image.id);
  return { ...image, lastUsedMs: Date.now(), manifest, disk: store.disk(image.id) };
}

/** The manifest is the one of this reference: in the store, the same image may get another name at any time. */
interface Imported {
  image: StoredImage;
  manifest: ImageManifest;
}

async function importImage(reference: ImageReference, options: FetchOptions): Promise<Imported> {
  if (reference.kind === 'id') {
    const image = options.store.findImage(reference.id);
    return { image, manifest: options.store.imageManifest(image.id) };
  }
  const path = canonicalPath(reference);
  if (statSync(path).isDirectory()) return await importDirectory(path, reference, options);
  return await importFile(path, reference, options);
}

function canonicalPath(reference: FileReference): string {
  try {
    return realpathSync(reference.path);
  } catch (error) {
    throw fileError(error, reference.text);
  }
}

function platformOf(options: FetchOptions): Platform {
  return options.platform ?? hostPlatform();
}

function callbacks(reference: FileReference, { onProgress, onWarning }: FetchOptions): { onRead?: (progress: ReadProgress) => void; onWarning?: (message: string) => void } {
  return {
    ...(onProgress === undefined ? {} : { onRead: (progress) => onProgress({ ...progress, image: reference.text }) }),
    ...(onWarning === undefined ? {} : { onWarning }),
  };
}

/** Reading index, manifest and config of a layout costs as little as remembering them would. */
async function importDirectory(path: string, reference: FileReference, options: FetchOptions): Promise<Imported> {
  const files = directoryFiles(path);
  if (reference.kind === 'docker-archive') throw new RktError('BAD_IMAGE', `${reference.text}: expected an archive of \`docker save\`, found a directory`);
  if (!isOciLayout(files)) {
    throw new RktError('BAD_IMAGE', `${reference.text}: a directory, but no OCI image layout: it has no ${files.has('oci-layout') ? 'index.json' : 'oci-layout'}`);
  }
  return await importLayered(openOciLayout(files, chooseOptions(reference, options)), reference, options);
}

function chooseOptions(reference: FileReference, options: FetchOptions): { platform: Platform; fileName: string; ref?: string } {
  const ref = reference.kind === 'file' ? undefined : reference.ref;
  return { platform: platformOf(options), fileName: nameOfFile(reference.path), ...(ref === undefined ? {} : { ref }) };
}

async function importFile(path: string, reference: FileReference, options: FetchOptions): Promise<Imported> {
  const { store } = options;
  const known = rememberedImage(sourceOf(path, reference, options), options);
  if (known !== undefined) return known;
  return await store.withSourceLock(sourceOf(path, reference, options), async () => {
    const readAtMs = Date.now();
    const file = openRegularFile(path);
    try {
      const source = { ...sourceOf(path, reference, options), stats: file.stats };
      // Another process may have read the file while this one waited.
      const imported = rememberedImage(source, options) ?? (await importOpened(file, reference, options));
      store.rememberSource(source, { imageID: imported.image.id, manifestHash: manifestHash(imported.manifest) }, readAtMs);
      return imported;
    } finally {
      file.close();
    }
  });
}

/** The image a file was, if the file has not changed and the image is still there with the name and labels it has in this file. */
function rememberedImage(source: SourceFile, { store }: FetchOptions): Imported | undefined {
  const remembered = store.recallSource(source);
  const image = remembered === undefined ? undefined : store.completeImage(remembered.imageID);
  if (image === undefined) return undefined;
  const manifest = store.imageManifest(image.id);
  return manifestHash(manifest) === remembered?.manifestHash ? { image, manifest } : undefined;
}

function sourceOf(path: string, reference: FileReference, options: FetchOptions): SourceFile {
  const platform = options.platform === undefined ? '' : platformText(options.platform);
  const choice = reference.kind === 'file' ? '' : `${reference.kind}:${reference.ref ?? ''}`;
  return { path, stats: statSync(path, { bigint: true }), selector: [choice, platform].filter((part) => part !== '').join('\0') };
}

async function importOpened(file: OpenedFile, reference: FileReference, options: FetchOptions): Promise<Imported> {
  if (file.sizeBytes === 0) throw new RktError('BAD_IMAGE', `${reference.text}: the file is empty`);
  const compressed = compressionOf(readAt(file, 0, COMPRESSION_HEAD_BYTES)) !== 'none';
  if (reference.kind === 'file' && (compressed ? await compressedTarIsAci(file) : isAciMember(firstName(file)))) return await importAci(file, reference, options);
  if (!compressed) return await importArchive(tarFiles(file), reference, options);
  const workspace = options.store.openWorkspace();
  try {
    const { uncompressedCopy } = await import('./uncompressed-copy.ts');
    const plain = await uncompressedCopy(file, join(workspace.path, 'archive.tar'));
    try {
      return await importArchive({ ...tarFiles(plain), origin: file.path }, reference, options);
    } finally {
      plain.close();
    }
  } finally {
    workspace.remove();
  }
}

/** An ACI holds nothing but these two. */
function isAciMember(name: string | undefined): boolean {
  return name === 'manifest' || name === 'rootfs' || name?.startsWith('rootfs/') === true;
}

async function compressedTarIsAci(file: OpenedFile): Promise<boolean> {
  const { firstNameOfStream } = await import('./uncompressed-copy.ts');
  return isAciMember(await firstNameOfStream(wholeFile(file)));
}

async function importArchive(files: ArchiveFiles, reference: FileReference, options: FetchOptions): Promise<Imported> {
  const choice = chooseOptions(reference, options);
  // `docker save` writes both since Docker 25; the layout has digests for everything.
  if (reference.kind !== 'docker-archive' && isOciLayout(files)) return await importLayered(openOciLayout(files, choice), reference, options);
  if (reference.kind !== 'oci' && isDockerArchive(files)) return await importLayered(openDockerArchive(files, choice), reference, options);
  const expected = { file: 'an ACI (manifest, rootfs), an OCI image layout (oci-layout, index.json) or an archive of `docker save` (manifest.json)', oci: 'an OCI image layout (oci-layout, index.json)', 'docker-archive': 'an archive of `docker save` (manifest.json)' };
  throw new RktError('BAD_IMAGE', `${reference.text}: not an image: expected ${expected[reference.kind]}`);
}

async function importAci(file: OpenedFile, reference: FileReference, options: FetchOptions): Promise<Imported> {
  const { renderAci } = await import('./aci.ts');
  const { store } = options;
  const workspace = store.openWorkspace();
  try {
    const { id, manifest, disk } = await renderAci(wholeFile(file), {
      directory: workspace.path,
      platform: platformOf(options),
      ...callbacks(reference, options),
    });
    options.accept?.(id, manifest);
    return await store.withImageLock(id, async () => ({ image: store.commitImage({ id, manifest, source: 'aci' }, disk), manifest }));
  } finally {
    workspace.remove();
  }
}

async function importLayered(image: LayeredImage, reference: FileReference, options: FetchOptions): Promise<Imported> {
  const { store } = options;
  const manifest = convertImage(image, options.onWarning);
  const unchanged = (): Imported | undefined => {
    const stored = store.completeImage(image.id);
    return stored !== undefined && manifestHash(store.imageManifest(image.id)) === manifestHash(manifest) ? { image: stored, manifest } : undefined;
  };
  const known = unchanged();
  if (known !== undefined) return known;
  options.accept?.(image.id, manifest);
  return await store.withImageLock(image.id, async () => {
    const newImage = { id: image.id, manifest, source: image.source };
    if (store.hasTree(treeStoreIdOf([image.id]))) return unchanged() ?? { image: store.commitImage(newImage, undefined), manifest };
    const { renderLayers } = await import('./render-image.ts');
    const workspace = store.openWorkspace();
    try {
      const disk = await renderLayers(workspace.path, image.layers, callbacks(reference, options));
      return { image: store.commitImage(newImage, disk), manifest };
    } finally {
      workspace.remove();
    }
  });
}
