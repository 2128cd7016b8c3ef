/** From an index or a manifest to the one image that is for the platform: the same in a layout and in a registry. */
import { RktError } from '../error.ts';
import type { ByteSource } from '../rootfs/bytes.ts';
import { isMediaType, parseOciConfig, parseOciIndex, parseOciManifest } from '../schema/oci.ts';
import type { Descriptor, OciConfig, OciIndex, OciManifest, OciPlatform } from '../schema/oci.ts';
import type { Platform } from '../schema/platform.ts';
import { digestHex } from '../store/digest.ts';
import { imageIdOf } from '../store/store.ts';
import { utf8Text } from './bytes.ts';
import { requireDiffIDs } from './layered-image.ts';
import type { ImageDocuments, LayerBlob } from './layered-image.ts';
import { samePlatform, suitableDescriptors, unsupportedPlatform } from './platform.ts';

/** Limits of what is read into memory: those registries have. */
export const INDEX_MAX_BYTES = 4 << 20;
const CONFIG_MAX_BYTES = 8 << 20;
const LAYERS_MAX = 1000;
const NESTING_MAX = 4;
/** An index that does not say what its images are for makes each of them be looked at. */
const CANDIDATES_MAX = 32;

const REF_NAME = 'org.opencontainers.image.ref.name';
const CONTAINERD_NAME = 'io.containerd.image.name';

/** Where the blobs of an image are. */
export interface BlobSource {
  /** Begins messages. */
  readonly origin: string;
  /** Verified: size and digest are checked before anyone sees the bytes. */
  readDocument(descriptor: Descriptor, limitBytes: number): Promise<Uint8Array> | Uint8Array;
  /** A layer as stored, not verified yet. */
  openLayer(descriptor: Descriptor, signal?: AbortSignal): ByteSource;
  /** How a blob is called in messages. */
  nameOf(descriptor: Descriptor): string;
}

export interface ChosenImage {
  /** Of the image manifest. */
  descriptor: Descriptor;
  /** The entry of the outermost index that led there: it has the names. */
  topDescriptor: Descriptor;
  manifest: OciManifest;
  config: OciConfig;
  /** `sha512-…`, of the bytes of the config. */
  id: string;
  documents: ImageDocuments;
}

interface ChooseContext {
  platform: Platform;
  nesting: number;
  /** Whether different names in the index mean a choice the user has to make. */
  top: boolean;
}

/** The image of a descriptor of either kind. Throws UNSUPPORTED when there is none for the platform. */
export async function chooseImage(source: BlobSource, descriptor: Descriptor, platform: Platform): Promise<ChosenImage> {
  return await choose(source, [descriptor], { platform, nesting: 0, top: false });
}

/** Of the entries of a layout's index. Throws AMBIGUOUS when several have names of their own. */
export async function chooseNamed(source: BlobSource, descriptors: readonly Descriptor[], options: { platform: Platform; anyName: boolean }): Promise<ChosenImage> {
  return await choose(source, descriptors, { platform: options.platform, nesting: 0, top: options.anyName });
}

/** Tries the entries of an index in order of their fitness until one is really for the platform. */
async function choose(source: BlobSource, descriptors: readonly Descriptor[], context: ChooseContext): Promise<ChosenImage> {
  const offered: OciPlatform[] = [];
  const suitable = suitableDescriptors(descriptors, context.platform);
  const fitting: ChosenImage[] = [];
  for (const descriptor of suitable.slice(0, CANDIDATES_MAX)) {
    if (fitting.some((chosen) => chosen.topDescriptor.digest === descriptor.digest)) continue;
    const found = await resolve(source, descriptor, { context, offered });
    if (found === undefined) continue;
    fitting.push({ ...found, topDescriptor: descriptor });
    // Only names can make a second image a different choice rather than a less fitting one.
    if (!context.top || referencesOf(descriptor).length === 0) break;
  }
  const [first, ...others] = fitting;
  if (first === undefined) {
    offered.push(...descriptors.flatMap(({ platform }) => (platform === undefined || samePlatform(platform, context.platform) ? [] : [platform])));
    if (offered.length > 0) throw unsupportedPlatform(source.origin, context.platform, offered);
    throw new RktError('BAD_IMAGE', `${source.origin}: no image in it${descriptors.length === 0 ? '' : ` (only ${mediaTypesOf(descriptors)})`}`);
  }
  if (others.some((other) => referencesOf(other.topDescriptor).length > 0)) {
    const names = fitting.flatMap(({ topDescriptor }) => referencesOf(topDescriptor).slice(0, 1));
    throw new RktError('AMBIGUOUS', `${source.origin}: several images in it: ${names.join(', ')}`, { hint: `choose one: oci:${source.origin}:${names[0] ?? 'REF'}` });
  }
  return first;
}

async function resolve(source: BlobSource, descriptor: Descriptor, found: { context: ChooseContext; offered: OciPlatform[] }): Promise<ChosenImage | undefined> {
  const { context, offered } = found;
  const name = source.nameOf(descriptor);
  const bytes = await source.readDocument(descriptor, INDEX_MAX_BYTES);
  if (isMediaType('index', descriptor.mediaType)) {
    if (context.nesting >= NESTING_MAX) throw new RktError('LIMIT', `${source.origin}: image indexes nested more than ${NESTING_MAX} deep`);
    const nested: OciIndex = parseOciIndex(utf8Text(bytes, name), name);
    requireSameMediaType(nested.mediaType, descriptor, name);
    return await choose(source, nested.manifests, { ...context, nesting: context.nesting + 1, top: false });
  }
  const manifest = parseOciManifest(utf8Text(bytes, name), name);
  requireSameMediaType(manifest.mediaType, descriptor, name);
  if (!isMediaType('config', manifest.config.mediaType)) throw new RktError('UNSUPPORTED', `${name}: config.mediaType: not a container image: ${manifest.config.mediaType}`);
  if (manifest.layers.length > LAYERS_MAX) throw new RktError('LIMIT', `${name}: ${manifest.layers.length} layers, at most ${LAYERS_MAX} are accepted`);
  manifest.layers.forEach((layer, position) => requireLayer(layer, `${name}: layers[${position}]`));
  const configBytes = await source.readDocument(manifest.config, CONFIG_MAX_BYTES);
  const configName = source.nameOf(manifest.config);
  const config = parseOciConfig(utf8Text(configBytes, configName), configName);
  if (!samePlatform(config, context.platform)) {
    offered.push(config);
    return undefined;
  }
  requireDiffIDs(config, manifest.layers.length, source.origin);
  const id = imageIdOf(digestHex('sha512', configBytes));
  return { descriptor, topDescriptor: descriptor, manifest, config, id, documents: { manifest: bytes, config: configBytes } };
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

export function layerBlobs(source: BlobSource, { manifest, config }: ChosenImage): LayerBlob[] {
  return manifest.layers.map((descriptor, position) => ({
    name: `${source.origin}: layer ${descriptor.digest}`,
    digest: descriptor.digest,
    mediaType: descriptor.mediaType,
    sizeBytes: descriptor.size,
    diffID: config.rootfs.diff_ids[position] ?? '',
    open: (signal) => source.openLayer(descriptor, signal),
  }));
}

/** Names of an entry, the most telling first. */
export function referencesOf(descriptor: Descriptor): string[] {
  return [descriptor.annotations?.[CONTAINERD_NAME], descriptor.annotations?.[REF_NAME]].filter((name) => name !== undefined && name !== '') as string[];
}

function mediaTypesOf(descriptors: readonly Descriptor[]): string {
  return [...new Set(descriptors.map((descriptor) => descriptor.mediaType))].join(', ');
}
