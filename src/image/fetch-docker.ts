/** Images of registries: `docker://NAME`. */
import { RktError } from '../error.ts';
import type { Descriptor } from '../schema/oci.ts';
import { MEDIA_TYPES } from '../schema/oci.ts';
import type { VerifiedBy } from '../schema/verified-by.ts';
import { manifestHash } from '../store/store.ts';
import { utf8Text } from './bytes.ts';
import { canonicalReference, DEFAULT_TAG } from './docker-reference.ts';
import type { DockerReference } from './docker-reference.ts';
import { networkOf, platformOf, stillThere } from './fetch-types.ts';
import type { FetchContext, Imported } from './fetch-types.ts';
import { importLayered } from './import-layered.ts';
import { openNetwork } from './network.ts';
import type { Network } from './network.ts';
import { chooseImage, layerBlobs } from './oci-image.ts';
import type { BlobSource } from './oci-image.ts';
import { platformText } from './platform.ts';
import { endpointsOf } from './registry/endpoints.ts';
import { openRepository } from './registry/repository.ts';
import type { Manifest, Repository } from './registry/repository.ts';
import { fetchRemote } from './remote-image.ts';
import type { Known } from './remote-image.ts';

export interface WantedFromRegistry {
  reference: DockerReference;
  /** As the user wrote it. */
  text: string;
}

/** Enough to fill a line, not so many that a server takes offence. */
const PARALLEL_DOWNLOADS = 3;

/** Throws RktError; then the store is as it was. */
export async function importFromRegistry(wanted: WantedFromRegistry, context: FetchContext): Promise<Imported> {
  const { reference, text } = wanted;
  const key = [`docker:${canonicalReference(reference)}`, platformText(platformOf(context))].join(' ');
  // What has this digest does not change; but who keeps layers may not have all of them yet.
  const isFresh = (): boolean => reference.digest !== undefined && context.keepLayers !== true;
  return await fetchRemote({ key, text, find: (record) => stillThere(record, context.store), isFresh, mayWait: true }, context, async (last) => {
    const network = openNetwork(networkOf(context, text));
    try {
      return await fetchNow(wanted, { key, context, network, last });
    } finally {
      network.close();
    }
  });
}

interface Fetching {
  key: string;
  context: FetchContext;
  network: Network;
  /** What the reference led to the last time. */
  last: Known<Imported> | undefined;
}

async function fetchNow(wanted: WantedFromRegistry, { key, context, network, last }: Fetching): Promise<Imported> {
  const { store } = context;
  context.log?.(`remote fetching from URL ${JSON.stringify(wanted.text)}`);
  const { repository, manifest } = await findManifest(wanted, network);
  const insecure = network.settings.insecure.image;
  const remember = (imported: Imported, imageDigest: string): Imported => {
    store.rememberRemote({ key, imageID: imported.image.id, manifestHash: manifestHash(imported.manifest), downloadTimeMs: Date.now(), unverified: insecure, digest: manifest.digest, imageDigest });
    return imported;
  };
  const known = last?.record.digest === manifest.digest && context.keepLayers !== true ? last.record.imageDigest : undefined;
  if (last !== undefined && known !== undefined) {
    store.addVerifiedBy(last.found.image.id, await vouchersOf({ wanted, repository, manifestDigest: manifest.digest, imageDigest: known }, network));
    return remember(last.found, known);
  }
  const source = registrySource(repository, context);
  const chosen = await chooseImage(source, descriptorOf(manifest, wanted.text), platformOf(context));
  const imageDigest = chosen.descriptor.digest;
  const verifiedBy = await vouchersOf({ wanted, repository, manifestDigest: manifest.digest, imageDigest }, network);
  const image = {
    source: manifest.mediaType.startsWith('application/vnd.docker.') ? ('docker' as const) : ('oci' as const),
    origin: source.origin,
    id: chosen.id,
    config: chosen.config,
    configDigest: chosen.manifest.config.digest,
    manifestDigest: imageDigest,
    documents: chosen.documents,
    naming: { reference: canonicalReference(wanted.reference), fileName: wanted.reference.repository },
    layers: layerBlobs(source, chosen),
  };
  return remember(await importLayered(image, { text: wanted.text, verifiedBy, parallelDownloads: PARALLEL_DOWNLOADS }, context), imageDigest);
}

/** Asks mirrors in order, then the registry; what is reported is what the registry itself said. */
async function findManifest({ reference, text }: WantedFromRegistry, network: Network): Promise<{ repository: Repository; manifest: Manifest }> {
  const { insecure, onMessage } = network.settings;
  const endpoints = endpointsOf(reference, await network.registries());
  for (const endpoint of endpoints) {
    const repository = openRepository(endpoint, { http: network.http, credentials: network.credentials, allowHttp: insecure.http, verifyTls: !insecure.tls });
    try {
      return { repository, manifest: await repository.getManifest(reference.digest ?? reference.tag ?? DEFAULT_TAG) };
    } catch (error) {
      if (!endpoint.isMirror || !(error instanceof RktError)) throw error;
      onMessage(`mirror ${repository.name} is of no use for ${text}: ${error.message}`);
    }
  }
  throw new RktError('INTERNAL', `${text}: no place to fetch it from`);
}

/** The registry may not say what a document is; the document does. */
function descriptorOf({ bytes, digest, mediaType }: Manifest, text: string): Descriptor {
  const known = ([...MEDIA_TYPES.manifest, ...MEDIA_TYPES.index] as readonly string[]).includes(mediaType);
  return { mediaType: known ? mediaType : ownMediaType(bytes, text), digest, size: bytes.length };
}

function ownMediaType(bytes: Uint8Array, text: string): string {
  let document: { mediaType?: unknown; manifests?: unknown; schemaVersion?: unknown } | null;
  try {
    document = JSON.parse(utf8Text(bytes, text)) as typeof document;
  } catch (cause) {
    throw new RktError('BAD_IMAGE', `${text}: the registry's answer is no image manifest`, { cause });
  }
  if (typeof document?.mediaType === 'string') return document.mediaType;
  return Array.isArray(document?.manifests) ? MEDIA_TYPES.index[0] : MEDIA_TYPES.manifest[0];
}

function registrySource(repository: Repository, context: FetchContext): BlobSource {
  return {
    origin: repository.name,
    nameOf: ({ digest }) => `${repository.name}: ${digest}`,
    readDocument: async (descriptor, limitBytes) => {
      if (descriptor.size > limitBytes) throw new RktError('LIMIT', `${repository.name}: ${descriptor.digest}: ${descriptor.size} bytes, at most ${limitBytes} are accepted`);
      const isManifest = ([...MEDIA_TYPES.manifest, ...MEDIA_TYPES.index] as readonly string[]).includes(descriptor.mediaType);
      if (!isManifest) return await repository.getBlob(descriptor, limitBytes);
      const { bytes } = await repository.getManifest(descriptor.digest);
      if (bytes.length !== descriptor.size) throw new RktError('DIGEST', `${repository.name}: ${descriptor.digest}: wrong size: expected ${descriptor.size} bytes, found ${bytes.length}`);
      return bytes;
    },
    openLayer: (descriptor, signal) =>
      repository.openBlob(descriptor, { ...(signal === undefined ? {} : { signal }), onRetry: (error) => context.onWarning?.(`${error.message}; continuing`) }),
  };
}

interface Subject {
  wanted: WantedFromRegistry;
  repository: Repository;
  /** Of what the reference led to, and of the image that was chosen in it. */
  manifestDigest: string;
  imageDigest: string;
}

/** Before any layer is fetched. Throws BAD_SIGNATURE. */
async function vouchersOf({ wanted, repository, manifestDigest, imageDigest }: Subject, network: Network): Promise<VerifiedBy[]> {
  const { reference } = wanted;
  const pinned: VerifiedBy[] = reference.digest === undefined ? [] : [{ kind: 'digest', digest: reference.digest }];
  if (network.settings.insecure.image) return [...pinned, { kind: 'none', reason: 'insecure-option' }];
  const { verifyRegistryImage } = await import('./signature/verify-registry-image.ts');
  const subject = { reference: canonicalReference(reference), manifestDigest, imageManifestDigest: imageDigest, access: repository };
  return [...pinned, ...(await verifyRegistryImage(subject, network.verification))];
}
