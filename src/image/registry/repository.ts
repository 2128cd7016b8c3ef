/** One repository of one registry (OCI distribution-spec 1.1). Whatever it gives has been checked against its digest. */
import { createHash } from 'node:crypto';
import { RktError } from '../../error.ts';
import type { ByteSource } from '../../rootfs/bytes.ts';
import { MEDIA_TYPES, parseOciIndex } from '../../schema/oci.ts';
import type { Descriptor } from '../../schema/oci.ts';
import { requireDigestOf, utf8Text } from '../bytes.ts';
import { wholeBody } from '../http/body.ts';
import type { HttpClient, HttpRequest, HttpResponse } from '../http/types.ts';
import { isCertificateError } from '../http/failure.ts';
import { download, rangeHeaders } from '../http/download.ts';
import type { DownloadOptions } from '../http/download.ts';
import { withRetries } from '../http/retry.ts';
import type { RegistryAccess } from '../verification.ts';
import { createAuthorizer } from './authorizer.ts';
import type { Authorizer } from './authorizer.ts';
import type { Credentials } from './authorization.ts';
import type { Endpoint } from './endpoints.ts';

export interface Manifest {
  bytes: Uint8Array;
  digest: string;
  mediaType: string;
}

export interface Repository extends RegistryAccess {
  /** `HOST/REPOSITORY`: begins messages. */
  readonly name: string;
  /** The bytes of a blob; size and end are checked, the digest is for the reader to check: it alone sees every byte. */
  openBlob(descriptor: Descriptor, hooks?: BlobHooks): ByteSource;
}

export interface BlobHooks {
  signal?: AbortSignal;
  onRetry?: (error: RktError) => void;
}

export interface RepositoryOptions {
  http: HttpClient;
  credentials: (host: string, repository: string) => Promise<Credentials | undefined>;
  /** Plain http may be tried where https is not spoken. */
  allowHttp: boolean;
  verifyTls: boolean;
}

/** Registries must take manifests up to this size (distribution-spec, "Pushing Manifests"). */
export const MANIFEST_MAX_BYTES = 4 << 20;
const LAYER_MAX_BYTES = 64 * 2 ** 30;
const REFERRER_PAGES_MAX = 10;
const ACCEPTED_MANIFESTS = [...MEDIA_TYPES.manifest, ...MEDIA_TYPES.index].join(', ');
const OLD_MANIFESTS = /^application\/vnd\.docker\.distribution\.manifest\.v1\+/;

/** Makes no request yet. */
export function openRepository({ host, repository, insecure }: Endpoint, options: RepositoryOptions): Repository {
  const { http } = options;
  const name = `${host}/${repository}`;
  const allowHttp = options.allowHttp || insecure;
  const verifyTls = options.verifyTls && !insecure;
  let base: Promise<Base> | undefined;
  const manifests = new Map<string, Promise<Manifest>>();

  interface Base {
    url: URL;
    authorizer: Authorizer;
  }

  /** Which protocol the registry speaks is found out once, by its own front door. */
  async function findBase(): Promise<Base> {
    const credentials = await options.credentials(host, repository);
    const baseOf = (protocol: string): Base => {
      const url = new URL(`${protocol}://${host}/v2/`);
      return { url, authorizer: createAuthorizer({ http, registry: url, repository, credentials, verifyTls }) };
    };
    if (!allowHttp) return baseOf('https');
    try {
      const https = baseOf('https');
      const response = await http.attempt({ url: https.url, verifyTls, accept: [401, 403, 404] });
      response.discard();
      return https;
    } catch (error) {
      // A certificate that is not trusted is no reason to do without any.
      if (isCertificateError(error)) throw error;
      return baseOf('http');
    }
  }

  /** One authorized request. Redirects lead to servers that get no credentials. */
  async function attempt(path: string, request: Omit<HttpRequest, 'url'>): Promise<HttpResponse> {
    const { url, authorizer } = await (base ??= findBase());
    const target = new URL(path, url);
    const ask = (authorization: string | undefined): Promise<HttpResponse> =>
      http.attempt({
        ...request,
        url: target,
        allowHttp,
        verifyTls,
        accept: [...(request.accept ?? []), 401],
        headers: (hop) => ({ ...request.headers?.(hop), ...(authorization !== undefined && hop.origin === url.origin ? { authorization } : {}) }),
      });
    let sent = authorizer.header();
    for (let attempts = 0; ; attempts++) {
      const response = await ask(sent);
      if (response.status !== 401) return response;
      response.discard();
      const isOwn = response.url.origin === url.origin;
      const mayTryAgain = attempts < 2 && isOwn && (await authorizer.answer(response.headers.get('www-authenticate') ?? '', sent));
      if (!mayTryAgain || authorizer.header() === undefined) throw refused(name, sent !== undefined);
      sent = authorizer.header();
    }
  }

  async function fetchManifest(reference: string): Promise<Manifest> {
    const isDigest = reference.includes(':');
    const what = isDigest ? `${name}@${reference}` : `${name}:${reference}`;
    return await withRetries(http.retry, async () => {
      const response = await attempt(`${repository}/manifests/${reference}`, { headers: () => ({ accept: ACCEPTED_MANIFESTS }) });
      const bytes = await wholeBody(response, MANIFEST_MAX_BYTES);
      if (isDigest) requireDigestOf(bytes, reference, what);
      // What the server says about the digest is only good for noticing that something on the way changed the bytes.
      const announced = response.headers.get('docker-content-digest');
      if (announced !== undefined && /^sha(256:[0-9a-f]{64}|512:[0-9a-f]{128})$/.test(announced)) requireDigestOf(bytes, announced, what);
      const mediaType = (response.headers.get('content-type') ?? '').split(';')[0]?.trim() ?? '';
      if (OLD_MANIFESTS.test(mediaType)) throw new RktError('UNSUPPORTED', `${what}: image manifests of schema version 1 are not supported`, { hint: 'push the image again with a newer tool' });
      return { bytes, digest: isDigest ? reference : `sha256:${createHash('sha256').update(bytes).digest('hex')}`, mediaType };
    }, { onRetry: http.onRetry });
  }

  function getManifest(reference: string): Promise<Manifest> {
    let manifest = manifests.get(reference);
    if (manifest === undefined) {
      manifest = fetchManifest(reference).then((found) => {
        manifests.set(found.digest, Promise.resolve(found));
        return found;
      });
      manifests.set(reference, manifest);
    }
    return manifest;
  }

  function openBlob({ digest, size }: Pick<Descriptor, 'digest' | 'size'>, { signal, onRetry }: BlobHooks = {}): AsyncGenerator<Uint8Array, void, undefined> {
    const options: DownloadOptions = {
      name: `${name}: ${digest}`,
      sizeBytes: size,
      limitBytes: LAYER_MAX_BYTES,
      immutable: true,
      retry: http.retry,
      onRetry: onRetry ?? http.onRetry,
      request: (range) => attempt(`${repository}/blobs/${digest}`, { headers: () => rangeHeaders(range), ...(signal === undefined ? {} : { signal }) }),
      ...(signal === undefined ? {} : { signal }),
    };
    return download(options);
  }

  async function getBlob(descriptor: { digest: string; size: number }, limitBytes: number): Promise<Uint8Array> {
    const what = `${name}: ${descriptor.digest}`;
    if (descriptor.size > limitBytes) throw new RktError('LIMIT', `${what}: ${descriptor.size} bytes, at most ${limitBytes} are accepted`);
    const chunks: Uint8Array[] = [];
    for await (const chunk of openBlob(descriptor)) chunks.push(chunk);
    const bytes = Buffer.concat(chunks);
    requireDigestOf(bytes, descriptor.digest, what);
    return bytes;
  }

  async function listReferrers(digest: string, artifactType?: string): Promise<Descriptor[]> {
    const query = artifactType === undefined ? '' : `?artifactType=${encodeURIComponent(artifactType)}`;
    const found: Descriptor[] = [];
    let path: string | undefined = `${repository}/referrers/${digest}${query}`;
    for (let page = 0; path !== undefined && page < REFERRER_PAGES_MAX; page++) {
      const answer = await referrersPage(path);
      if (answer === undefined) return ofType(await referrersByTag(digest), artifactType);
      found.push(...answer.descriptors);
      path = answer.next;
    }
    return ofType(found, artifactType);
  }

  async function referrersPage(path: string): Promise<{ descriptors: Descriptor[]; next: string | undefined } | undefined> {
    return await withRetries(http.retry, async () => {
      const response = await attempt(path, { accept: [404], headers: () => ({ accept: MEDIA_TYPES.index[0] }) });
      if (response.status === 404) {
        response.discard();
        return undefined;
      }
      const bytes = await wholeBody(response, MANIFEST_MAX_BYTES);
      const descriptors = parseOciIndex(utf8Text(bytes, `${name}: referrers`), `${name}: referrers`).manifests;
      return { descriptors, next: nextPage(response) };
    }, { onRetry: http.onRetry });
  }

  function nextPage(response: HttpResponse): string | undefined {
    const target = /<([^>]+)>\s*;\s*rel="?next"?/.exec(response.headers.get('link') ?? '')?.[1];
    if (target === undefined) return undefined;
    const url = new URL(target, response.url);
    return url.origin === response.url.origin ? url.href : undefined;
  }

  /** Registries without the referrers API keep the list under a tag (distribution-spec, "Referrers Tag Schema"). */
  async function referrersByTag(digest: string): Promise<Descriptor[]> {
    try {
      const { bytes } = await getManifest(digest.replace(':', '-'));
      return parseOciIndex(utf8Text(bytes, `${name}: referrers`), `${name}: referrers`).manifests;
    } catch (error) {
      if (error instanceof RktError && error.code === 'NOT_FOUND') return [];
      throw error;
    }
  }

  return { name, host, repository, getManifest, getBlob, listReferrers, openBlob };
}

function ofType(descriptors: readonly Descriptor[], artifactType: string | undefined): Descriptor[] {
  return descriptors.filter((descriptor) => artifactType === undefined || descriptor.artifactType === artifactType);
}

function refused(name: string, showed: boolean): RktError {
  return new RktError('PERMISSION', `${name}: bad HTTP status code: 401: ${showed ? 'the registry refuses the credentials' : 'the registry wants to know who is asking'}`, {
    hint: 'put credentials into auth.d of the configuration directory, or log in with `skopeo login`, `podman login` or `docker login`',
  });
}
