/**
 * The content-addressed store of what was imported and rendered (`cas/` in the data directory).
 * Reading never makes a directory. Every change is one rename, so a reader sees an image whole or not at all.
 */
import { chmodSync, closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, readdirSync, renameSync, rmSync, statSync, utimesSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { RktError } from '../error.ts';
import { parseImageManifest } from '../schema/appc.ts';
import type { ImageManifest } from '../schema/appc.ts';
import { isImageId } from '../schema/names.ts';
import { parseOciManifest } from '../schema/oci.ts';
import type { VerifiedBy } from '../schema/verified-by.ts';
import { UNFINISHED_PREFIX, syncDirectory, writeFileAtomic } from './atomic-write.ts';
import { digestHex } from './digest.ts';
import { errnoName, fileError } from './fs-error.ts';
import { storeLayout } from './layout.ts';
import { withLock } from './lock.ts';
import { parseDiskDescription, parseImageRecord } from './records.ts';
import type { DiskDescription, ImageRecord, ImageSource, StoredImage } from './records.ts';
import { forgetRemotesOf, recallRemote, remoteFileName, rememberRemote } from './remote-table.ts';
import type { RemoteRecord } from './remote-table.ts';
import { forgetSourcesOf, recallSource, rememberSource, sourceKey } from './source-cache.ts';
import type { FileIdentity, RememberedSource } from './source-cache.ts';
import { openWorkspace } from './workspace.ts';
import type { Workspace } from './workspace.ts';

const ID_PREFIX = 'sha512-';
/** Digits of SHA-512 that make an image ID: half of them, as always in rkt. */
const ID_DIGITS = 64;
const SHORTEST_PREFIX_DIGITS = 2;
/** Disks are read by the VMM only, and written by nobody. */
const DISK_MODE = 0o440;

/** `sha512-` and the first 64 digits of a SHA-512 sum. */
export function imageIdOf(sha512Hex: string): string {
  return ID_PREFIX + sha512Hex.slice(0, ID_DIGITS);
}

/** Name of the rendered tree of images in render order (an image and what it depends on). */
export function treeStoreIdOf(imageIDs: readonly string[]): string {
  return `deps-${imageIdOf(digestHex('sha512', imageIDs.join(',')))}`;
}

/** Tells whether a manifest is the one a file gave. */
export function manifestHash(manifest: ImageManifest): string {
  return digestHex('sha256', JSON.stringify(manifest));
}

export interface NewImage {
  id: string;
  manifest: ImageManifest;
  source: ImageSource;
  /** IDs of the images rendered below it, the uppermost first. */
  dependencies?: readonly string[];
  /** Joins what is known of the image already. */
  verifiedBy?: readonly VerifiedBy[];
  /** It was asked for by a name without a version. */
  latest?: boolean;
  /** Documents of an OCI or Docker image as they were found. */
  documents?: { config: Uint8Array; manifest?: Uint8Array };
}

/** A disk file in a workspace, complete but not yet synced. */
export interface NewDisk extends Omit<DiskDescription, 'path' | 'formatVersion'> {
  path: string;
  /** What is needed besides the disk to write the image's archives again. */
  recipeDir?: string;
}

export interface Stage1Image {
  id: string;
  manifest: ImageManifest;
  /** Absolute path of the extracted root directory. */
  rootfs: string;
}

export interface SourceFile extends FileIdentity {
  /** See `sourceKey`. */
  selector: string;
}

export interface Store {
  readonly dataDir: string;

  /** An image by full ID or unambiguous beginning (`sha512-` and at least two digits). Throws NOT_FOUND, AMBIGUOUS, USAGE. */
  findImage(idOrPrefix: string): StoredImage;
  /** An image by full ID whose disk is there. */
  completeImage(id: string): StoredImage | undefined;
  /** All images, oldest import first. */
  listImages(): StoredImage[];
  /** Removes record and manifest, and the disk unless `keepTree` (a prepared pod needs it). */
  removeImage(id: string, options?: { keepTree?: boolean }): void;
  /** Marks as used now. Does nothing without the right to. */
  touch(id: string): void;
  imageManifest(id: string): ImageManifest;
  /** The rendered disk of an image; `path` is absolute. Throws NOT_FOUND. */
  disk(id: string): DiskDescription;
  /** Directory of what is needed besides the disk to write the image's archives again. */
  recipeDir(id: string): string;
  hasTree(treeStoreID: string): boolean;
  listTrees(): string[];
  removeTree(treeStoreID: string): void;

  /** Puts an image in: the disk (unless one is already there), manifest, record. After a throw the store is as before. */
  commitImage(image: NewImage, disk: NewDisk | undefined): StoredImage;

  stage1Image(id: string): Stage1Image | undefined;
  listStage1Images(): Stage1Image[];
  /** Moves a directory holding `manifest` and `rootfs/` from a workspace into the store. */
  commitStage1(id: string, preparedDir: string): Stage1Image;

  /** By name and labels; of several the one imported without a version, else the one imported last. */
  findByName(name: string, labels: Readonly<Record<string, string>>): StoredImage | undefined;
  /** Adds to who vouched for an image. */
  addVerifiedBy(id: string, verifiedBy: readonly VerifiedBy[]): void;
  /** A document of an OCI or Docker image, byte for byte; undefined for ACIs. */
  document(id: string, kind: 'config' | 'manifest'): Uint8Array | undefined;

  recallRemote(key: string): RemoteRecord | undefined;
  rememberRemote(remote: RemoteRecord): void;
  /** Only one process at a time fetches what has this key. */
  withRemoteLock<T>(key: string, work: () => Promise<T>): Promise<T>;

  /** Path of a layer that was kept. */
  keptBlob(digest: string): string | undefined;
  /** Moves a verified layer from a workspace into the store. */
  keepBlob(digest: string, path: string): void;
  removeBlob(digest: string): void;
  /** Bytes of the layers of an image that were kept. */
  keptBytes(id: string): number;
  /** Removes kept layers that belong to no image any more. */
  removeUnusedBlobs(): void;

  recallSource(file: SourceFile): RememberedSource | undefined;
  /** `readAtMs`: when reading the file began. A failure to write is no error. */
  rememberSource(file: SourceFile, image: RememberedSource, readAtMs: number): void;

  openWorkspace(): Workspace;
  /** Only one process at a time imports this image. */
  withImageLock<T>(id: string, work: () => Promise<T>): Promise<T>;
  /** Only one process at a time reads this file. */
  withSourceLock<T>(file: SourceFile, work: () => Promise<T>): Promise<T>;
}

export function openStore(dataDir: string): Store {
  const layout = storeLayout(dataDir);
  const recordPath = (id: string): string => join(layout.images, `${id}.json`);
  const manifestPath = (id: string): string => join(layout.manifests, id);
  const treePath = (treeStoreID: string): string => join(layout.trees, treeStoreID);
  const documentPath = (id: string, kind: string): string => join(layout.documents, id, kind);
  const blobPath = (digest: string): string => join(layout.blobs, digest.replace(':', '/'));
  const keyOf = (file: SourceFile): string => sourceKey(file.path, file.selector);

  function readImage(id: string): StoredImage | undefined {
    const path = recordPath(id);
    const text = readIfThere(path);
    if (text === undefined) return undefined;
    try {
      return { ...parseImageRecord(text, path), lastUsedMs: Math.round(statSync(path).mtimeMs) };
    } catch (error) {
      if (errnoName(error) === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** A damaged record is about to be replaced: it says nothing. */
  function readSoundImage(id: string): StoredImage | undefined {
    try {
      return readImage(id);
    } catch {
      return undefined;
    }
  }

  function imageIDs(): string[] {
    return listNames(layout.images)
      .filter((name) => name.endsWith('.json'))
      .map((name) => name.slice(0, -'.json'.length))
      .filter(isImageId);
  }

  function findImage(idOrPrefix: string): StoredImage {
    const digits = idOrPrefix.startsWith(ID_PREFIX) ? idOrPrefix.slice(ID_PREFIX.length) : '';
    if (digits.length < SHORTEST_PREFIX_DIGITS) throw new RktError('USAGE', `image ID too short: "${idOrPrefix}"`, { hint: `an image ID is ${ID_PREFIX} and at least ${SHORTEST_PREFIX_DIGITS} digits` });
    const matches = imageIDs().filter((id) => id.startsWith(idOrPrefix));
    if (matches.length > 1) throw new RktError('AMBIGUOUS', `ambiguous image ID: "${idOrPrefix}"`, { hint: `it fits ${matches.length} images; give more digits` });
    const image = matches[0] === undefined ? undefined : readImage(matches[0]);
    if (image === undefined) throw new RktError('NOT_FOUND', `no image IDs found: "${idOrPrefix}"`);
    return image;
  }

  function existingImage(id: string): StoredImage {
    return readImage(id) ?? notFound(`image ${id} is not in the store`);
  }

  function disk(id: string): DiskDescription {
    const directory = treePath(existingImage(id).treeStoreID);
    const descriptionPath = join(directory, 'disk.json');
    const text = readIfThere(descriptionPath) ?? notFound(`image ${id} has no rendered disk`);
    return { ...parseDiskDescription(text, descriptionPath), path: join(directory, 'disk') };
  }

  function listImages(): StoredImage[] {
    return imageIDs()
      .map(readImage)
      .filter((image) => image !== undefined)
      .sort((a, b) => a.importTimeMs - b.importTimeMs || (a.id < b.id ? -1 : 1));
  }

  function readDocument(id: string, kind: 'config' | 'manifest'): Uint8Array | undefined {
    try {
      return readFileSync(documentPath(id, kind));
    } catch (error) {
      if (errnoName(error) === 'ENOENT') return undefined;
      throw fileError(error, `cannot read ${documentPath(id, kind)}`);
    }
  }

  /** Digests of the layers as they came. */
  function layersOf(id: string): string[] {
    const bytes = readDocument(id, 'manifest');
    return bytes === undefined ? [] : parseOciManifest(new TextDecoder().decode(bytes), documentPath(id, 'manifest')).layers.map(({ digest }) => digest);
  }

  /** Changes a record without marking the image as used. */
  function rewriteRecord({ lastUsedMs, ...record }: StoredImage): void {
    writeBelow(recordPath(record.id), JSON.stringify(record));
    const time = new Date(lastUsedMs);
    utimesSync(recordPath(record.id), time, time);
  }

  function addVerifiedBy(id: string, verifiedBy: readonly VerifiedBy[]): void {
    const image = existingImage(id);
    const merged = mergeVerifiedBy(image.verifiedBy ?? [], verifiedBy);
    if (JSON.stringify(merged) !== JSON.stringify(image.verifiedBy ?? [])) rewriteRecord({ ...image, verifiedBy: merged });
  }

  function stage1Image(id: string): Stage1Image | undefined {
    const path = join(layout.stage1, id, 'manifest');
    const text = readIfThere(path);
    return text === undefined ? undefined : { id, manifest: parseImageManifest(text, path), rootfs: join(layout.stage1, id, 'rootfs') };
  }

  function removeTree(treeStoreID: string): void {
    removeDirectory(treePath(treeStoreID), layout.tmp);
  }

  function commitImage(image: NewImage, newDisk: NewDisk | undefined): StoredImage {
    const dependencies = image.dependencies ?? [];
    const treeStoreID = treeStoreIdOf([image.id, ...dependencies]);
    const before = readSoundImage(image.id);
    const vouchers = mergeVerifiedBy(before?.verifiedBy ?? [], image.verifiedBy ?? []);
    const madeTree = newDisk !== undefined && commitTree(newDisk, treePath(treeStoreID));
    const description = readDescription(treePath(treeStoreID));
    const manifestBefore = readIfThere(manifestPath(image.id));
    const manifestText = JSON.stringify(image.manifest);
    const record: ImageRecord = {
      id: image.id,
      name: image.manifest.name,
      labels: Object.fromEntries((image.manifest.labels ?? []).map((label) => [label.name, label.value])),
      importTimeMs: Date.now(),
      sizeBytes: description.sizeBytes + Buffer.byteLength(manifestText),
      treeStoreID,
      source: image.source,
      ...(dependencies.length === 0 ? {} : { dependencies: [...dependencies] }),
      ...(vouchers.length === 0 ? {} : { verifiedBy: vouchers }),
      ...((image.latest ?? before?.latest) === true ? { latest: true } : {}),
    };
    try {
      for (const [kind, bytes] of Object.entries(image.documents ?? {})) writeBelow(documentPath(image.id, kind), bytes);
      writeBelow(manifestPath(image.id), manifestText);
      writeBelow(recordPath(image.id), JSON.stringify(record));
    } catch (error) {
      // The record makes an image exist; the manifest alone must go back to what it was.
      restore(manifestPath(image.id), manifestBefore);
      if (before === undefined) rmSync(dirname(documentPath(image.id, '')), { recursive: true, force: true });
      if (madeTree) removeTree(treeStoreID);
      throw error;
    }
    return { ...record, lastUsedMs: record.importTimeMs };
  }

  return {
    dataDir,
    findImage,
    completeImage: (id) => {
      const image = readImage(id);
      return image !== undefined && existsSync(join(treePath(image.treeStoreID), 'disk.json')) && existsSync(manifestPath(id)) ? image : undefined;
    },
    listImages,
    findByName: (name, labels) => {
      const candidates = listImages().filter((image) => image.name === name && Object.entries(labels).every(([label, value]) => image.labels[label] === value));
      return candidates.findLast((image) => image.latest === true) ?? candidates.at(-1);
    },
    addVerifiedBy,
    document: readDocument,
    recallRemote: (key) => recallRemote(layout.remotes, key),
    rememberRemote: (remote) => rememberRemote(layout.remotes, remote),
    withRemoteLock: (key, work) => withLock(layout.locks, `remote-${remoteFileName(key)}`, work),
    keptBlob: (digest) => (existsSync(blobPath(digest)) ? blobPath(digest) : undefined),
    keepBlob: (digest, path) => {
      try {
        mkdirSync(dirname(blobPath(digest)), { recursive: true, mode: 0o750 });
        chmodSync(path, DISK_MODE);
        syncFile(path);
        renameSync(path, blobPath(digest));
        syncDirectory(dirname(blobPath(digest)));
      } catch (error) {
        throw fileError(error, `cannot keep the layer ${digest}`);
      }
    },
    removeBlob: (digest) => rmSync(blobPath(digest), { force: true }),
    keptBytes: (id) => layersOf(id).reduce((sum, digest) => sum + (statSync(blobPath(digest), { throwIfNoEntry: false })?.size ?? 0), 0),
    removeUnusedBlobs: () => {
      const kept = listNames(layout.blobs).flatMap((algorithm) => listNames(join(layout.blobs, algorithm)).map((digits) => `${algorithm}:${digits}`));
      if (kept.length === 0) return;
      const used = new Set(imageIDs().flatMap(layersOf));
      for (const digest of kept) if (!used.has(digest)) rmSync(blobPath(digest), { force: true });
    },
    removeImage: (id, options = {}) => {
      const { treeStoreID } = existingImage(id);
      try {
        rmSync(recordPath(id));
        rmSync(manifestPath(id), { force: true });
        rmSync(join(layout.documents, id), { recursive: true, force: true });
        forgetSourcesOf(layout.sources, id);
        forgetRemotesOf(layout.remotes, id);
        syncDirectory(layout.images);
        if (options.keepTree !== true) removeTree(treeStoreID);
      } catch (error) {
        throw fileError(error, `cannot remove image ${id}`);
      }
    },
    touch: (id) => {
      const now = new Date();
      try {
        utimesSync(recordPath(id), now, now);
      } catch (error) {
        if (!['EACCES', 'EPERM', 'EROFS', 'ENOENT'].includes(errnoName(error) ?? '')) throw fileError(error, `cannot mark image ${id} as used`);
      }
    },
    imageManifest: (id) => parseImageManifest(readIfThere(manifestPath(id)) ?? notFound(`image ${id} is not in the store`), manifestPath(id)),
    disk,
    recipeDir: (id) => join(treePath(existingImage(id).treeStoreID), 'recipe'),
    hasTree: (treeStoreID) => existsSync(join(treePath(treeStoreID), 'disk.json')),
    listTrees: () => listNames(layout.trees),
    removeTree,
    commitImage,
    stage1Image,
    listStage1Images: () => listNames(layout.stage1).map(stage1Image).filter((image) => image !== undefined),
    commitStage1: (id, preparedDir) => {
      try {
        renameIntoPlace(preparedDir, join(layout.stage1, id));
      } catch (error) {
        throw fileError(error, `cannot store stage1 image ${id}`);
      }
      return stage1Image(id) ?? notFound(`stage1 image ${id} is not in the store`);
    },
    recallSource: (file) => recallSource(layout.sources, keyOf(file), file),
    rememberSource: (file, image, readAtMs) => {
      try {
        rememberSource(layout.sources, { key: keyOf(file), file, image, readAtMs });
      } catch (error) {
        // The image is in; not to be remembered costs reading the file again.
        if (!(error instanceof RktError) && errnoName(error) === undefined) throw error;
      }
    },
    openWorkspace: () => openWorkspace(layout.tmp),
    withImageLock: (id, work) => withLock(layout.locks, `image-${id}`, work),
    withSourceLock: (file, work) => withLock(layout.locks, `source-${keyOf(file)}`, work),
  };
}

function notFound(message: string): never {
  throw new RktError('NOT_FOUND', message);
}

function readDescription(treeDir: string): DiskDescription {
  const path = join(treeDir, 'disk.json');
  return parseDiskDescription(readIfThere(path) ?? notFound(`${path} is missing`), path);
}

/** Makes `<tree>/disk` and `<tree>/disk.json` appear together. False: another process was first, with the same content. */
function commitTree(newDisk: NewDisk, treeDir: string): boolean {
  const prepared = join(dirname(newDisk.path), 'tree');
  const description: DiskDescription = {
    path: 'disk',
    sizeBytes: newDisk.sizeBytes,
    dataBlocks: newDisk.dataBlocks,
    hashStartBlock: newDisk.hashStartBlock,
    rootHashHex: newDisk.rootHashHex,
    inodes: newDisk.inodes,
    formatVersion: 1,
  };
  try {
    mkdirSync(prepared, { mode: 0o750 });
    renameSync(newDisk.path, join(prepared, 'disk'));
    chmodSync(join(prepared, 'disk'), DISK_MODE);
    syncFile(join(prepared, 'disk'));
    if (newDisk.recipeDir !== undefined) {
      renameSync(newDisk.recipeDir, join(prepared, 'recipe'));
      for (const name of readdirSync(join(prepared, 'recipe'))) syncFile(join(prepared, 'recipe', name));
      syncDirectory(join(prepared, 'recipe'));
    }
    writeFileAtomic(join(prepared, 'disk.json'), JSON.stringify(description));
    return renameIntoPlace(prepared, treeDir);
  } catch (error) {
    throw fileError(error, `cannot store the disk ${treeDir}`);
  }
}

/** Renames a complete directory. False: the target is already there. */
function renameIntoPlace(prepared: string, target: string): boolean {
  mkdirSync(dirname(target), { recursive: true, mode: 0o750 });
  syncDirectory(prepared);
  try {
    renameSync(prepared, target);
  } catch (error) {
    if (errnoName(error) === 'ENOTEMPTY' || errnoName(error) === 'EEXIST') return false;
    throw error;
  }
  syncDirectory(dirname(target));
  return true;
}

/** Takes a directory out of sight with one rename before deleting it, so that nobody sees a part of it. */
function removeDirectory(path: string, tmpDir: string): void {
  if (!existsSync(path)) return;
  const workspace = openWorkspace(tmpDir);
  try {
    renameSync(path, join(workspace.path, 'removed'));
  } catch (error) {
    if (errnoName(error) !== 'ENOENT') throw fileError(error, `cannot remove ${path}`);
  } finally {
    workspace.remove();
  }
}

/** What is known already stays known; that nobody vouched is worth saying only when nobody did. */
function mergeVerifiedBy(known: readonly VerifiedBy[], added: readonly VerifiedBy[]): VerifiedBy[] {
  const all = new Map([...known, ...added].map((entry) => [JSON.stringify(entry), entry]));
  const vouchers = [...all.values()].filter(({ kind }) => kind !== 'none');
  return vouchers.length > 0 ? vouchers : [...all.values()];
}

function writeBelow(path: string, content: string | Uint8Array): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o750 });
  writeFileAtomic(path, content);
}

function restore(path: string, text: string | undefined): void {
  try {
    if (text === undefined) rmSync(path, { force: true });
    else writeFileAtomic(path, text);
  } catch {
    // The first error is the one to report; a manifest without its record is never looked at.
  }
}

function syncFile(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (errnoName(error) === 'ENOENT' || errnoName(error) === 'ENOTDIR') return undefined;
    throw fileError(error, `cannot read ${path}`);
  }
}

function listNames(directory: string): string[] {
  try {
    return readdirSync(directory).filter((name) => !name.startsWith(UNFINISHED_PREFIX));
  } catch (error) {
    if (errnoName(error) === 'ENOENT') return [];
    throw fileError(error, `cannot read ${directory}`);
  }
}
