/** Images of this machine: files and directories. */
import { realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { RktError } from '../error.ts';
import type { VerifiedBy } from '../schema/verified-by.ts';
import { fileError } from '../store/fs-error.ts';
import { manifestHash } from '../store/store.ts';
import type { SourceFile } from '../store/store.ts';
import type { Platform } from '../schema/platform.ts';
import { directoryFiles, tarFiles } from './archive.ts';
import type { ArchiveFiles } from './archive.ts';
import { COMPRESSION_HEAD_BYTES, compressionOf } from './compression.ts';
import { isDockerArchive, openDockerArchive } from './docker-archive.ts';
import { partProgress, platformOf, stillThere } from './fetch-types.ts';
import type { FetchContext, Imported } from './fetch-types.ts';
import { openRegularFile, readAt, streamOf, wholeFile } from './file-slice.ts';
import type { OpenedFile } from './file-slice.ts';
import { importLayered } from './import-layered.ts';
import type { LayeredImage } from './layered-image.ts';
import { isOciLayout, openOciLayout } from './oci-layout.ts';
import { platformText } from './platform.ts';
import { nameOfFile } from './reference.ts';
import type { FileReference } from './reference.ts';
import type { AciSource } from './import-aci.ts';
import { firstName } from './tar-index.ts';

/** Throws RktError; then the store is as it was. */
export async function importLocal(reference: FileReference, context: FetchContext): Promise<Imported> {
  const path = canonicalPath(reference);
  if (statSync(path).isDirectory()) return await importDirectory(path, reference, context);
  return await importFile(path, reference, context);
}

function canonicalPath(reference: FileReference): string {
  try {
    return realpathSync(reference.path);
  } catch (error) {
    throw fileError(error, reference.text);
  }
}

/** Reading index, manifest and config of a layout costs as little as remembering them would. */
async function importDirectory(path: string, reference: FileReference, context: FetchContext): Promise<Imported> {
  const files = directoryFiles(path);
  if (reference.kind === 'docker-archive') throw new RktError('BAD_IMAGE', `${reference.text}: expected an archive of \`docker save\`, found a directory`);
  if (!isOciLayout(files)) {
    throw new RktError('BAD_IMAGE', `${reference.text}: a directory, but no OCI image layout: it has no ${files.has('oci-layout') ? 'index.json' : 'oci-layout'}`);
  }
  return await importImage(await openOciLayout(files, chooseOptions(reference, context)), reference, context);
}

function chooseOptions(reference: FileReference, context: FetchContext): { platform: Platform; fileName: string; ref?: string } {
  const ref = reference.kind === 'file' ? undefined : reference.ref;
  return { platform: platformOf(context), fileName: nameOfFile(reference.path), ...(ref === undefined ? {} : { ref }) };
}

async function importFile(path: string, reference: FileReference, context: FetchContext): Promise<Imported> {
  const { store } = context;
  // What is asked about a signature cannot be answered from memory.
  const recall = (source: SourceFile): Imported | undefined => (context.signature === undefined ? stillThere(store.recallSource(source), store) : undefined);
  const known = recall(sourceOf(path, reference, context));
  if (known !== undefined) return known;
  return await store.withSourceLock(sourceOf(path, reference, context), async () => {
    const readAtMs = Date.now();
    const file = openRegularFile(path);
    try {
      const source = { ...sourceOf(path, reference, context), stats: file.stats };
      // Another process may have read the file while this one waited.
      const imported = recall(source) ?? (await importOpened(file, reference, context));
      store.rememberSource(source, { imageID: imported.image.id, manifestHash: manifestHash(imported.manifest) }, readAtMs);
      return imported;
    } finally {
      file.close();
    }
  });
}

function sourceOf(path: string, reference: FileReference, context: FetchContext): SourceFile {
  const platform = context.platform === undefined ? '' : platformText(context.platform);
  const choice = reference.kind === 'file' ? '' : `${reference.kind}:${reference.ref ?? ''}`;
  return { path, stats: statSync(path, { bigint: true }), selector: [choice, platform].filter((part) => part !== '').join('\0') };
}

async function importOpened(file: OpenedFile, reference: FileReference, context: FetchContext): Promise<Imported> {
  if (file.sizeBytes === 0) throw new RktError('BAD_IMAGE', `${reference.text}: the file is empty`);
  const compressed = compressionOf(readAt(file, 0, COMPRESSION_HEAD_BYTES)) !== 'none';
  if (reference.kind === 'file' && (compressed ? await compressedTarIsAci(file) : isAciMember(firstName(file)))) return await importAciFile(file, reference, context);
  if (!compressed) return await importArchive(tarFiles(file), reference, context);
  const workspace = context.store.openWorkspace();
  try {
    const { uncompressedCopy } = await import('./uncompressed-copy.ts');
    const plain = await uncompressedCopy(file, join(workspace.path, 'archive.tar'));
    try {
      return await importArchive({ ...tarFiles(plain), origin: file.path }, reference, context);
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

async function importArchive(files: ArchiveFiles, reference: FileReference, context: FetchContext): Promise<Imported> {
  const choice = chooseOptions(reference, context);
  // `docker save` writes both since Docker 25; the layout has digests for everything.
  if (reference.kind !== 'docker-archive' && isOciLayout(files)) return await importImage(await openOciLayout(files, choice), reference, context);
  if (reference.kind !== 'oci' && isDockerArchive(files)) return await importImage(openDockerArchive(files, choice), reference, context);
  const expected = { file: 'an ACI (manifest, rootfs), an OCI image layout (oci-layout, index.json) or an archive of `docker save` (manifest.json)', oci: 'an OCI image layout (oci-layout, index.json)', 'docker-archive': 'an archive of `docker save` (manifest.json)' };
  throw new RktError('BAD_IMAGE', `${reference.text}: not an image: expected ${expected[reference.kind]}`);
}

async function importImage(image: LayeredImage, { text }: FileReference, context: FetchContext): Promise<Imported> {
  if (context.signature !== undefined) throw new RktError('USAGE', `${text}: --signature is for ACIs`);
  return await importLayered(image, { text }, context);
}

async function importAciFile(file: OpenedFile, { text }: FileReference, context: FetchContext): Promise<Imported> {
  const { importAci } = await import('./import-aci.ts');
  const slice = wholeFile(file);
  const source: AciSource = { name: file.path, sizeBytes: file.sizeBytes, open: () => streamOf(slice) };
  const vouch = async (name: string): Promise<VerifiedBy[]> => (context.signature === undefined ? [] : await verifySignature({ name, file }, context.signature, context));
  return await importAci({ source, vouch, ...partProgress(text, context) }, context);
}

async function verifySignature({ name, file }: { name: string; file: OpenedFile }, signature: string, context: FetchContext): Promise<VerifiedBy[]> {
  const { verifyAciFile } = await import('./aci-signature.ts');
  return await verifyAciFile({ name, origin: file.path, file: file.path, signature, publicKeyUrls: [] }, context);
}
