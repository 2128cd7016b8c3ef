/** ACIs of web servers: asked for no more often than needed, saved on the way, with the signature beside them. */
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { RktError } from '../error.ts';
import type { ByteSource } from '../rootfs/bytes.ts';
import type { ImageManifest } from '../schema/appc.ts';
import type { VerifiedBy } from '../schema/verified-by.ts';
import { fileError } from '../store/fs-error.ts';
import type { RemoteRecord } from '../store/remote-table.ts';
import { manifestHash } from '../store/store.ts';
import type { Workspace } from '../store/workspace.ts';
import { readSignature, SIGNATURE_MAX_BYTES, verifyAciFile } from './aci-signature.ts';
import { networkOf } from './fetch-types.ts';
import type { FetchOptions } from './fetch-types.ts';
import { streamOfFile } from './file-slice.ts';
import { wholeBody } from './http/body.ts';
import type { HttpResponse } from './http/types.ts';
import { download, rangeHeaders } from './http/download.ts';
import type { DownloadOptions } from './http/download.ts';
import { withRetries } from './http/retry.ts';
import type { AciSource } from './import-aci.ts';
import { openNetwork } from './network.ts';
import type { Network } from './network.ts';
import { fetchRemote } from './remote-image.ts';
import type { Known } from './remote-image.ts';

export interface WantedAci {
  url: string;
  /** As the user wrote it. */
  text: string;
  /** Where its signature is; default: beside it, with `.asc` behind the name. */
  signatureUrl?: string;
  publicKeyUrls?: readonly string[];
  /** Another image is being fetched that depends on it. */
  isDependency?: boolean;
}

export interface DownloadedAci {
  source: AciSource;
  /** Who vouches for an image of this name, once all of the source was read. Throws RktError. */
  vouch(name: string): Promise<VerifiedBy[]>;
  workspace: Workspace;
}

/** What becomes of an ACI: an image for apps, or a stage1. */
export interface AciUse<T> {
  /** The same file is another thing for each use. */
  kind: 'aci' | 'stage1';
  /** What was made of it the last time, if it is still in the store. */
  find(record: RemoteRecord): T | undefined;
  take(aci: DownloadedAci): Promise<T>;
  identify(taken: T): { id: string; manifest: ImageManifest };
}

const ACI_MAX_BYTES = 64 * 2 ** 30;
const ACCEPTED = 202;
const NOT_MODIFIED = 304;

/** Throws RktError; then the store is as it was. */
export async function fetchAci<T>(wanted: WantedAci, use: AciUse<T>, options: FetchOptions): Promise<T> {
  const key = `${use.kind}:${wanted.url}`;
  return await fetchRemote({ key, text: wanted.url, find: use.find, isFresh, mayWait: wanted.isDependency !== true }, options, async (last) => {
    const network = openNetwork(networkOf(options, wanted.text));
    const workspace = options.store.openWorkspace();
    try {
      return await fetchNow(wanted, use, { key, options, network, workspace, last });
    } finally {
      workspace.remove();
      network.close();
    }
  });
}

interface Fetching<T> {
  key: string;
  options: FetchOptions;
  network: Network;
  workspace: Workspace;
  last: Known<T> | undefined;
}

function isFresh({ downloadTimeMs, maxAgeSeconds }: RemoteRecord): boolean {
  return maxAgeSeconds !== undefined && Date.now() < downloadTimeMs + maxAgeSeconds * 1000;
}

async function fetchNow<T>(wanted: WantedAci, use: AciUse<T>, { key, options, network, workspace, last }: Fetching<T>): Promise<T> {
  const { store } = options;
  options.log?.(`remote fetching from URL ${JSON.stringify(wanted.url)}`);
  const insecure = network.settings.insecure.image;
  // A missing signature is told before anything large is fetched.
  const early = insecure ? undefined : await fetchSignature(wanted, { options, network });
  const first = await begin(wanted, { network, etag: last?.record.etag });
  const remember = (taken: T): T => {
    const { id, manifest } = use.identify(taken);
    const etag = first.headers.get('etag') ?? last?.record.etag;
    const maxAgeSeconds = maxAgeOf(first.headers.get('cache-control'));
    store.rememberRemote({ key, imageID: id, manifestHash: manifestHash(manifest), downloadTimeMs: Date.now(), unverified: insecure, ...(etag === undefined ? {} : { etag }), ...(maxAgeSeconds === undefined ? {} : { maxAgeSeconds }) });
    return taken;
  };
  if (first.status === NOT_MODIFIED && last !== undefined) {
    first.discard();
    options.log?.(`image for ${wanted.url} is unchanged`);
    return remember(last.found);
  }

  const file = join(workspace.path, 'image.aci');
  const vouch = async (name: string): Promise<VerifiedBy[]> => {
    if (insecure) return [{ kind: 'none', reason: 'insecure-option' }];
    const signature = early ?? (await fetchSignature(wanted, { options, network, isLate: true }));
    if (signature === undefined) throw new RktError('BAD_SIGNATURE', `${wanted.url}: the server defers the signature, and still does after the image was fetched`);
    return await verifyAciFile({ name, origin: wanted.url, file, signature, publicKeyUrls: wanted.publicKeyUrls ?? [] }, options);
  };
  let opened = 0;
  const source = {
    name: wanted.url,
    sizeBytes: contentLengthOf(first),
    open: (): ByteSource => (opened++ === 0 ? savedTo(file, stream(wanted, { network, first })) : streamOfFile(file)),
  };
  return remember(await use.take({ source, vouch, workspace }));
}

function headersFor(network: Network, more: Record<string, string>): (url: URL) => Record<string, string> {
  return (url) => ({ accept: 'application/aci, application/octet-stream, */*', ...more, ...network.authorizationFor(url) });
}

async function begin({ url }: WantedAci, { network, etag }: { network: Network; etag: string | undefined }): Promise<HttpResponse> {
  const { http, settings } = network;
  const conditional: Record<string, string> = etag === undefined ? {} : { 'if-none-match': etag };
  return await http.send({ url: new URL(url), allowHttp: settings.insecure.http, accept: [NOT_MODIFIED], headers: headersFor(network, conditional) });
}

/** The body that has begun already, and what has to be asked for after a break. */
function stream({ url }: WantedAci, { network, first }: { network: Network; first: HttpResponse }): ByteSource {
  const { http, settings } = network;
  let begun: HttpResponse | undefined = first;
  const request: DownloadOptions = {
    name: url,
    limitBytes: ACI_MAX_BYTES,
    immutable: false,
    retry: http.retry,
    onRetry: http.onRetry,
    request: async (range) => {
      const response = range === undefined ? begun : undefined;
      begun = undefined;
      return response ?? (await http.attempt({ url: new URL(url), allowHttp: settings.insecure.http, headers: headersFor(network, rangeHeaders(range)) }));
    },
  };
  return download(request);
}

/** Kept on the way: the signature is over these bytes, and images that depend on others are read twice. */
async function* savedTo(path: string, source: ByteSource): AsyncGenerator<Uint8Array> {
  const fd = openSync(path, 'wx', 0o600);
  try {
    for await (const chunk of source) {
      for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at);
      yield chunk;
    }
  } catch (error) {
    throw fileError(error, `cannot write ${path}`);
  } finally {
    closeSync(fd);
  }
}

/** Undefined: the server asks to come back for it when the image was fetched. */
async function fetchSignature(wanted: WantedAci, { options, network, isLate }: { options: FetchOptions; network: Network; isLate?: boolean }): Promise<Uint8Array | undefined> {
  const location = options.signature ?? wanted.signatureUrl ?? signatureUrlOf(wanted.url);
  if (!/^https?:\/\//.test(location)) return await readSignature(location, network);
  options.log?.(`downloading signature from ${location}`);
  const { http, settings } = network;
  try {
    return await withRetries(http.retry, async () => {
      const response = await http.attempt({ url: new URL(location), allowHttp: settings.insecure.http, headers: (url) => network.authorizationFor(url) });
      if (response.status !== ACCEPTED) return await wholeBody(response, SIGNATURE_MAX_BYTES);
      response.discard();
      if (isLate !== true) options.log?.('server requested deferring the signature download');
      return undefined;
    }, { onRetry: http.onRetry });
  } catch (error) {
    throw new RktError(error instanceof RktError ? error.code : 'NETWORK', 'error downloading the signature file', { cause: error, hint: 'an unsigned image can be fetched with --insecure-options=image' });
  }
}

/** `…/app.aci` → `…/app.aci.asc`, whatever stands behind the path. */
export function signatureUrlOf(url: string): string {
  const signature = new URL(url);
  signature.pathname += '.asc';
  return signature.href;
}

/** `Cache-Control` (RFC 9111): undefined, nobody has to be asked again for so many seconds, or 0. */
export function maxAgeOf(cacheControl: string | undefined): number | undefined {
  if (cacheControl === undefined) return undefined;
  const directives = cacheControl.toLowerCase().split(',').map((directive) => directive.trim());
  if (directives.includes('no-cache') || directives.includes('no-store')) return 0;
  const seconds = directives.map((directive) => /^max-age="?(\d{1,10})"?$/.exec(directive)?.[1]).find((value) => value !== undefined);
  return seconds === undefined ? undefined : Number(seconds);
}

function contentLengthOf({ headers }: HttpResponse): number | undefined {
  const text = headers.get('content-length');
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}
