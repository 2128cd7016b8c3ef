/**
 * Documents of OCI images (image-spec 1.1: descriptor.md, image-index.md, manifest.md, config.md, image-layout.md) and of
 * `docker save` archives (Docker image specification 1.2), as far as running an image needs them.
 */
import { anyValue, arrayOf, fail, integerBetween, mapOf, objectOf, optional, parseDocument, quote, refined, stringValue, withDefault } from './check.ts';
import type { Check } from './check.ts';

export interface OciPlatform {
  os: string;
  architecture: string;
  variant?: string;
}

export interface Descriptor {
  mediaType: string;
  /** `sha256:…` or `sha512:…`, well formed. */
  digest: string;
  size: number;
  urls?: string[];
  annotations?: Record<string, string>;
  platform?: OciPlatform;
  /** In lists of referrers: what kind of thing refers. */
  artifactType?: string;
}

export interface OciIndex {
  schemaVersion: 2;
  mediaType?: string;
  manifests: Descriptor[];
  annotations?: Record<string, string>;
}

export interface OciManifest {
  schemaVersion: 2;
  mediaType?: string;
  config: Descriptor;
  /** Lowest first; may be empty. */
  layers: Descriptor[];
  annotations?: Record<string, string>;
}

/** How to run the image. Field names are those of the JSON. */
export interface OciRunConfig {
  User?: string;
  ExposedPorts?: Record<string, unknown>;
  Env?: string[];
  Entrypoint?: string[];
  Cmd?: string[];
  Volumes?: Record<string, unknown>;
  WorkingDir?: string;
  Labels?: Record<string, string>;
  StopSignal?: string;
}

export interface OciConfig {
  created?: string;
  author?: string;
  architecture: string;
  os: string;
  variant?: string;
  config?: OciRunConfig;
  rootfs: { type: 'layers'; diff_ids: string[] };
}

/** One image of the `manifest.json` of a `docker save` archive: paths inside the archive. */
export interface DockerArchiveImage {
  Config: string;
  RepoTags: string[];
  Layers: string[];
}

export const MEDIA_TYPES = {
  index: ['application/vnd.oci.image.index.v1+json', 'application/vnd.docker.distribution.manifest.list.v2+json'],
  manifest: ['application/vnd.oci.image.manifest.v1+json', 'application/vnd.docker.distribution.manifest.v2+json'],
  config: ['application/vnd.oci.image.config.v1+json', 'application/vnd.docker.container.image.v1+json'],
  layer: [
    'application/vnd.oci.image.layer.v1.tar',
    'application/vnd.oci.image.layer.v1.tar+gzip',
    'application/vnd.oci.image.layer.v1.tar+zstd',
    'application/vnd.docker.image.rootfs.diff.tar',
    'application/vnd.docker.image.rootfs.diff.tar.gzip',
    'application/vnd.docker.image.rootfs.diff.tar.zstd',
  ],
  /** Layers that only whoever wrote the image may hand out. */
  foreignLayer: [
    'application/vnd.oci.image.layer.nondistributable.v1.tar',
    'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
    'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd',
    'application/vnd.docker.image.rootfs.foreign.diff.tar',
    'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
  ],
} as const satisfies Record<string, readonly string[]>;

export function isMediaType(kind: keyof typeof MEDIA_TYPES, mediaType: string): boolean {
  return (MEDIA_TYPES[kind] as readonly string[]).includes(mediaType);
}

/** The algorithm decides how many digits must follow; nothing else may be in a digest, since it becomes a path. */
export const digestValue: Check<string> = (value, place) => {
  const text = stringValue(value, place);
  if (/^sha256:[0-9a-f]{64}$/.test(text) || /^sha512:[0-9a-f]{128}$/.test(text)) return text;
  return fail(place, `expected a digest sha256:… or sha512:… with lower case hexadecimal digits, found ${quote(text)}`);
};

const platform = objectOf<OciPlatform>({ os: stringValue, architecture: stringValue, variant: optional(stringValue) });

const descriptor: Check<Descriptor> = objectOf<Descriptor>({
  mediaType: stringValue,
  digest: digestValue,
  size: integerBetween(0, Number.MAX_SAFE_INTEGER),
  urls: optional(arrayOf(stringValue)),
  annotations: optional(mapOf(stringValue)),
  platform: optional(platform),
  artifactType: optional(stringValue),
});

const schemaVersion: Check<2> = (value, place) =>
  value === 2 ? 2 : fail(place, value === 1 ? 'image manifests of schema version 1 are not supported: expected 2' : 'expected 2');

/** A document that is both manifest and index means different things to different readers (CVE-2021-41190). */
function notAlso<T>(check: Check<T>, foreignField: string): Check<T> {
  return (value, place) => {
    if (typeof value === 'object' && value !== null && Object.hasOwn(value, foreignField)) fail(place, `must not have a field "${foreignField}"`);
    return check(value, place);
  };
}

const index: Check<OciIndex> = notAlso(
  objectOf<OciIndex>({ schemaVersion, mediaType: optional(stringValue), manifests: withDefault(arrayOf(descriptor), []), annotations: optional(mapOf(stringValue)) }),
  'layers',
);

const manifest: Check<OciManifest> = notAlso(
  objectOf<OciManifest>({ schemaVersion, mediaType: optional(stringValue), config: descriptor, layers: withDefault(arrayOf(descriptor), []), annotations: optional(mapOf(stringValue)) }),
  'manifests',
);

const runConfig: Check<OciRunConfig> = objectOf<OciRunConfig>({
  User: optional(stringValue),
  ExposedPorts: optional(mapOf(anyValue)),
  Env: optional(arrayOf(stringValue)),
  Entrypoint: optional(arrayOf(stringValue)),
  Cmd: optional(arrayOf(stringValue)),
  Volumes: optional(mapOf(anyValue)),
  WorkingDir: optional(stringValue),
  Labels: optional(mapOf(stringValue)),
  StopSignal: optional(stringValue),
});

const config: Check<OciConfig> = objectOf<OciConfig>({
  created: optional(stringValue),
  author: optional(stringValue),
  architecture: stringValue,
  os: stringValue,
  variant: optional(stringValue),
  config: optional(runConfig),
  rootfs: objectOf<OciConfig['rootfs']>({
    type: (value, place) => (value === 'layers' ? value : fail(place, 'expected "layers"')),
    diff_ids: withDefault(arrayOf(digestValue), []),
  }),
});

const dockerArchive: Check<DockerArchiveImage[]> = refined(
  arrayOf(objectOf<DockerArchiveImage>({ Config: stringValue, RepoTags: withDefault(arrayOf(stringValue), []), Layers: withDefault(arrayOf(stringValue), []) })),
  (images) => (images.length === 0 ? 'expected at least one image' : undefined),
);

/** Throws RktError BAD_IMAGE `ORIGIN: FIELD: …`, as the others here. */
export function parseOciIndex(text: string, origin: string): OciIndex {
  return parseDocument(text, index, { origin, code: 'BAD_IMAGE' });
}

export function parseOciManifest(text: string, origin: string): OciManifest {
  return parseDocument(text, manifest, { origin, code: 'BAD_IMAGE' });
}

export function parseOciConfig(text: string, origin: string): OciConfig {
  return parseDocument(text, config, { origin, code: 'BAD_IMAGE' });
}

export function parseDockerArchive(text: string, origin: string): DockerArchiveImage[] {
  return parseDocument(text, dockerArchive, { origin, code: 'BAD_IMAGE' });
}
