/** OCI image layouts (image-spec: image-layout.md), in a directory or a tar. */
import { createHash } from 'node:crypto';
import { RktError } from '../error.ts';
import { isMediaType, parseOciConfig, parseOciIndex, parseOciManifest } from '../schema/oci.ts';
import type { Descriptor, OciIndex, OciManifest, OciPlatform } from '../schema/oci.ts';
import type { Platform } from '../schema/platform.ts';
import { imageIdOf } from '../store/store.ts';
import type { ArchiveFiles } from './archive.ts';
import { requireDigestOf, utf8Text } from './bytes.ts';
import { readSmall, streamOf } from './file-slice.ts';
import { requireDiffIDs } from './layered-image.ts';
import type { LayerBlob, LayeredImage } from './layered-image.ts';
import { samePlatform, suitableDescriptors, unsupportedPlatform } from './platform.ts';

/** Limits of what is read into memory: those registries have. */
const INDEX_MAX_BYTES = 4 << 20;
const CONFIG_MAX_BYTES = 8 << 20;
const LAYERS_MAX = 1000;
const NESTING_MAX = 4;

const REF_NAME = 'org.opencontainers.image.ref.name';
const CONTAINERD_NAME = 'io.containerd.image.name';

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
export function openOciLayout(files: ArchiveFiles, options: ChooseOptions): LayeredImage {
  requireLayoutVersion(files);
  const indexName = `${files.origin}: index.json`;
  const index = parseOciIndex(utf8Text(readNamed(files, 'index.json', INDEX_MAX_BYTES), indexName), indexName);
  const candidates = options.ref === undefined ? index.manifests : withReference(index.manifests, options.ref, files.origin);
  const chosen = choose(files, { ...index, manifests: candidates }, { platform: options.platform, nesting: 0, top: options.ref === undefined });
  const { manifest, config } = chosen;
  requireDiffIDs(config.parsed, manifest.layers.length, files.origin);
  const reference = referencesOf(chosen.topDescriptor)[0];
  return {
    source: 'oci',
    origin: files.origin,
    id: config.id,
    config: config.parsed,
    configDigest: manifest.config.digest,
    manifestDigest: chosen.descriptor.digest,
    naming: { fileName: options.fileName, ...(reference === undefined ? {} : { reference }) },
    layers: manifest.layers.map((descriptor, position) => layerBlob(files, descriptor, config.parsed.rootfs.diff_ids[position] ?? '')),
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

interface ParsedConfig {
  parsed: ReturnType<typeof parseOciConfig>;
  id: string;
}

interface Chosen {
  /** Of the image manifest. */
  descriptor: Descriptor;
  /** The entry of index.json that led there: it has the names. */
  topDescriptor: Descriptor;
  manifest: OciManifest;
  config: ParsedConfig;
}

interface ChooseContext {
  platform: Platform;
  nesting: number;
  /** Whether different names in the index mean a choice the user has to make. */
  top: boolean;
}

/** Tries the entries of an index in order of their fitness until one is really for the platform. */
function choose(files: ArchiveFiles, index: OciIndex, context: ChooseContext): Chosen {
  const offered: OciPlatform[] = [];
  const suitable = suitableDescriptors(index.manifests, context.platform);
  const fitting: Chosen[] = [];
  for (const descriptor of suitable) {
    if (fitting.some((chosen) => chosen.topDescriptor.digest === descriptor.digest)) continue;
    const found = resolve(files, descriptor, { context, offered });
    if (found === undefined) continue;
    fitting.push({ ...found, topDescriptor: descriptor });
    // Only names can make a second image a different choice rather than a less fitting one.
    if (!context.top || referencesOf(descriptor).length === 0) break;
  }
  const [first, ...others] = fitting;
  if (first === undefined) {
    offered.push(...index.manifests.flatMap(({ platform }) => (platform === undefined || samePlatform(platform, context.platform) ? [] : [platform])));
    if (offered.length > 0) throw unsupportedPlatform(files.origin, context.platform, offered);
    throw new RktError('BAD_IMAGE', `${files.origin}: no image in it${index.manifests.length === 0 ? '' : ` (only ${mediaTypesOf(index.manifests)})`}`);
  }
  if (others.some((other) => referencesOf(other.topDescriptor).length > 0)) {
    const names = fitting.flatMap(({ topDescriptor }) => referencesOf(topDescriptor).slice(0, 1));
    throw new RktError('AMBIGUOUS', `${files.origin}: several images in it: ${names.join(', ')}`, { hint: `choose one: oci:${files.origin}:${names[0] ?? 'REF'}` });
  }
  return first;
}

function resolve(files: ArchiveFiles, descriptor: Descriptor, found: { context: ChooseContext; offered: OciPlatform[] }): Omit<Chosen, 'topDescriptor'> | undefined {
  const { context, offered } = found;
  if (isMediaType('index', descriptor.mediaType)) {
    if (context.nesting >= NESTING_MAX) throw new RktError('LIMIT', `${files.origin}: image indexes nested more than ${NESTING_MAX} deep`);
    const name = blobName(files, descriptor);
    const nested = parseOciIndex(utf8Text(readBlob(files, descriptor, INDEX_MAX_BYTES), name), name);
    requireSameMediaType(nested.mediaType, descriptor, name);
    return choose(files, nested, { ...context, nesting: context.nesting + 1, top: false });
  }
  const name = blobName(files, descriptor);
  const manifest = parseOciManifest(utf8Text(readBlob(files, descriptor, INDEX_MAX_BYTES), name), name);
  requireSameMediaType(manifest.mediaType, descriptor, name);
  if (!isMediaType('config', manifest.config.mediaType)) throw new RktError('UNSUPPORTED', `${name}: config.mediaType: not a container image: ${manifest.config.mediaType}`);
  if (manifest.layers.length > LAYERS_MAX) throw new RktError('LIMIT', `${name}: ${manifest.layers.length} layers, at most ${LAYERS_MAX} are accepted`);
  manifest.layers.forEach((layer, position) => requireLayer(layer, `${name}: layers[${position}]`));
  const config = readConfig(files, manifest.config);
  if (!samePlatform(config.parsed, context.platform)) {
    offered.push(config.parsed);
    return undefined;
  }
  return { descriptor, manifest, config };
}

function requireLayer(layer: Descriptor, place: string): void {
  if (isMediaType('foreignLayer', layer.mediaType) || (layer.urls?.length ?? 0) > 0) {
    throw new RktError('UNSUPPORTED', `${place}: a layer that must be fetched from elsewhere (${layer.mediaType}) is not supported`);
  }
  if (!isMediaType('layer', layer.mediaType)) throw new RktError('UNSUPPORTED', `${place}.mediaType: unknown kind of layer: ${layer.mediaType}`);
}

/** A document that says it is something else than the descriptor says is a trap (CVE-2021-41190). */
function requireSameMediaType(own: string | undefined, descriptor: Descriptor, name: string): void {
  if (own !== undefined && own !== descriptor.mediaType) throw new RktError('BAD_IMAGE', `${name}: mediaType: expected ${descriptor.mediaType}, found ${own}`);
}

function readConfig(files: ArchiveFiles, descriptor: Descriptor): ParsedConfig {
  const bytes = readBlob(files, descriptor, CONFIG_MAX_BYTES);
  const name = blobName(files, descriptor);
  return { parsed: parseOciConfig(utf8Text(bytes, name), name), id: imageIdOf(createHash('sha512').update(bytes).digest('hex')) };
}

function layerBlob(files: ArchiveFiles, descriptor: Descriptor, diffID: string): LayerBlob {
  return {
    name: `${files.origin}: layer ${descriptor.digest}`,
    digest: descriptor.digest,
    sizeBytes: descriptor.size,
    diffID,
    open: () => openLayer(files, descriptor),
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

/** Names of an entry, the most telling first. */
function referencesOf(descriptor: Descriptor): string[] {
  return [descriptor.annotations?.[CONTAINERD_NAME], descriptor.annotations?.[REF_NAME]].filter((name) => name !== undefined && name !== '') as string[];
}

function withReference(descriptors: readonly Descriptor[], ref: string, origin: string): Descriptor[] {
  const matching = descriptors.filter((descriptor) => descriptor.digest === ref || referencesOf(descriptor).includes(ref));
  if (matching.length > 0) return matching;
  const names = [...new Set(descriptors.flatMap(referencesOf))];
  throw new RktError('NOT_FOUND', `${origin}: no image "${ref}" in it`, { hint: names.length === 0 ? 'its images have no names' : `there is: ${names.join(', ')}` });
}

function mediaTypesOf(descriptors: readonly Descriptor[]): string {
  return [...new Set(descriptors.map((descriptor) => descriptor.mediaType))].join(', ');
}
