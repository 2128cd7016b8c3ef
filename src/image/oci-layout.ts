/** OCI image layouts (image-spec: image-layout.md), in a directory or a tar. */
import { RktError } from '../error.ts';
import { parseOciIndex } from '../schema/oci.ts';
import type { Descriptor } from '../schema/oci.ts';
import type { Platform } from '../schema/platform.ts';
import type { ArchiveFiles } from './archive.ts';
import { requireDigestOf, utf8Text } from './bytes.ts';
import { readSmall, streamOf } from './file-slice.ts';
import type { LayeredImage } from './layered-image.ts';
import { chooseNamed, INDEX_MAX_BYTES, layerBlobs, referencesOf } from './oci-image.ts';
import type { BlobSource } from './oci-image.ts';

export interface ChooseOptions {
  /** One of several images: value of a reference annotation, or a digest. */
  ref?: string;
  platform: Platform;
  /** Name of the archive without extensions. */
  fileName: string;
}

export function isOciLayout(files: ArchiveFiles): boolean {
  return files.has('index.json') && files.has('oci-layout');
}

/** Finds the image and verifies and parses all but its layers. The files must stay open until the layers are read. */
export async function openOciLayout(files: ArchiveFiles, options: ChooseOptions): Promise<LayeredImage> {
  requireLayoutVersion(files);
  const indexName = `${files.origin}: index.json`;
  const index = parseOciIndex(utf8Text(readNamed(files, 'index.json', INDEX_MAX_BYTES), indexName), indexName);
  const candidates = options.ref === undefined ? index.manifests : withReference(index.manifests, options.ref, files.origin);
  const source = blobSource(files);
  const chosen = await chooseNamed(source, candidates, { platform: options.platform, anyName: options.ref === undefined });
  const reference = referencesOf(chosen.topDescriptor)[0];
  return {
    source: 'oci',
    origin: files.origin,
    id: chosen.id,
    config: chosen.config,
    configDigest: chosen.manifest.config.digest,
    manifestDigest: chosen.descriptor.digest,
    documents: chosen.documents,
    naming: { fileName: options.fileName, ...(reference === undefined ? {} : { reference }) },
    layers: layerBlobs(source, chosen),
  };
}

function requireLayoutVersion(files: ArchiveFiles): void {
  const text = utf8Text(readNamed(files, 'oci-layout', INDEX_MAX_BYTES), `${files.origin}: oci-layout`);
  let version: unknown;
  try {
    version = (JSON.parse(text) as { imageLayoutVersion?: unknown } | null)?.imageLayoutVersion;
  } catch (cause) {
    throw new RktError('BAD_IMAGE', `${files.origin}: oci-layout: not valid JSON`, { cause });
  }
  if (version !== '1.0.0') throw new RktError('UNSUPPORTED', `${files.origin}: oci-layout: imageLayoutVersion: expected "1.0.0", found ${JSON.stringify(version) ?? 'nothing'}`);
}

function blobSource(files: ArchiveFiles): BlobSource {
  return {
    origin: files.origin,
    readDocument: (descriptor, limitBytes) => readBlob(files, descriptor, limitBytes),
    openLayer: (descriptor) => openLayer(files, descriptor),
    nameOf: (descriptor) => blobName(files, descriptor),
  };
}

async function* openLayer(files: ArchiveFiles, descriptor: Descriptor): AsyncGenerator<Uint8Array> {
  const slice = files.open(blobPath(descriptor.digest));
  try {
    requireSize(files, descriptor, slice.sizeBytes);
    yield* streamOf(slice);
  } finally {
    files.release(slice);
  }
}

function readNamed(files: ArchiveFiles, name: string, limitBytes: number): Uint8Array {
  const slice = files.open(name);
  try {
    return readSmall(slice, limitBytes);
  } finally {
    files.release(slice);
  }
}

/** A verified blob: size and digest are checked before anyone sees the bytes. */
function readBlob(files: ArchiveFiles, descriptor: Descriptor, limitBytes: number): Uint8Array {
  const slice = files.open(blobPath(descriptor.digest));
  try {
    requireSize(files, descriptor, slice.sizeBytes);
    const bytes = readSmall(slice, limitBytes);
    requireDigestOf(bytes, descriptor.digest, blobName(files, descriptor));
    return bytes;
  } finally {
    files.release(slice);
  }
}

function requireSize(files: ArchiveFiles, descriptor: Descriptor, sizeBytes: number): void {
  if (sizeBytes !== descriptor.size) throw new RktError('DIGEST', `${blobName(files, descriptor)}: wrong size: expected ${descriptor.size} bytes, found ${sizeBytes}`);
}

function blobPath(digest: string): string {
  const [algorithm, hex] = digest.split(':');
  return `blobs/${algorithm}/${hex}`;
}

function blobName(files: ArchiveFiles, descriptor: Descriptor): string {
  return `${files.origin}: ${blobPath(descriptor.digest)}`;
}

function withReference(descriptors: readonly Descriptor[], ref: string, origin: string): Descriptor[] {
  const matching = descriptors.filter((descriptor) => descriptor.digest === ref || referencesOf(descriptor).includes(ref));
  if (matching.length > 0) return matching;
  const names = [...new Set(descriptors.flatMap(referencesOf))];
  throw new RktError('NOT_FOUND', `${origin}: no image "${ref}" in it`, { hint: names.length === 0 ? 'its images have no names' : `there is: ${names.join(', ')}` });
}
