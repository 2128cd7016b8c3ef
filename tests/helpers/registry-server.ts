/** A registry for one image, made for tests: it serves what it should, or what an interceptor makes of a request. */
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { ociLayoutFiles } from './make-image.ts';
import type { ImageOptions } from './make-image.ts';

export interface SeenRequest {
  method: string;
  path: string;
  headers: IncomingMessage['headers'];
}

export interface TestServer {
  /** `127.0.0.1:PORT`. */
  host: string;
  seen: SeenRequest[];
  /** Requests whose path contains the text. */
  count(text: string): number;
}

/** True: the request was answered. */
export type Handler = (request: IncomingMessage, response: ServerResponse) => boolean | Promise<boolean>;

export interface Tls {
  key: string;
  cert: string;
}

interface Teardown {
  teardown(action: () => unknown): void;
}

/** Answers with the first handler that does, else with 404. */
export async function serve(t: Teardown, handlers: readonly Handler[], tls?: Tls): Promise<TestServer> {
  const seen: SeenRequest[] = [];
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    seen.push({ method: request.method ?? '', path: request.url ?? '', headers: request.headers });
    void (async () => {
      for (const handler of handlers) if (await handler(request, response)) return;
      response.writeHead(404, { 'content-type': 'application/json' }).end('{"errors":[{"code":"NAME_UNKNOWN","message":"not here"}]}');
    })();
  };
  const server: Server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    count: (text) => seen.filter(({ path }) => path.includes(text)).length,
  };
}

export interface TestImage {
  /** Blobs and manifests by digest. */
  blobs: Map<string, Buffer>;
  /** Of the index or manifest the tag leads to. */
  digest: string;
  manifest: { mediaType: string; config: { digest: string }; layers: { digest: string; size: number }[] };
}

/** What a registry has to hold for an image; with several option sets an index of platforms. */
export function registryImage(...images: ImageOptions[]): TestImage {
  const files = ociLayoutFiles(images.length === 0 ? [{}] : images);
  const blobs = new Map([...files].flatMap(([name, bytes]) => (name.startsWith('blobs/') ? [[name.slice('blobs/'.length).replace('/', ':'), bytes] as const] : [])));
  const index = JSON.parse(String(files.get('index.json'))) as { manifests: { digest: string }[] };
  const digest = index.manifests[0]?.digest ?? '';
  const top = JSON.parse(String(blobs.get(digest))) as TestImage['manifest'] & { manifests?: { digest: string }[] };
  const manifest = top.manifests === undefined ? top : (JSON.parse(String(blobs.get(top.manifests[0]?.digest ?? ''))) as TestImage['manifest']);
  return { blobs, digest, manifest };
}

/** Replaces a document by another that is as large as it happens to be; what named it no longer fits. */
export function changed(image: TestImage, digest: string, change: (bytes: Buffer) => Buffer): TestImage {
  const bytes = image.blobs.get(digest);
  if (bytes === undefined) throw new Error(`no blob ${digest}`);
  return { ...image, blobs: new Map(image.blobs).set(digest, change(Buffer.from(bytes))) };
}

/** The distribution API for `REPOSITORY:v1`. */
export function registryHandler({ blobs, digest }: TestImage, repository = 'app'): Handler {
  return (request, response) => {
    const path = (request.url ?? '').split('?')[0] ?? '';
    if (path === '/v2/') return answer(response, Buffer.from('{}'), 'application/json');
    const [, kind, reference] = new RegExp(`^/v2/${repository}/(manifests|blobs)/(.+)$`).exec(path) ?? [];
    const bytes = kind === undefined || reference === undefined ? undefined : blobs.get(kind === 'manifests' && reference === 'v1' ? digest : reference);
    if (bytes === undefined) return false;
    if (kind === 'manifests') return answer(response, bytes, (JSON.parse(String(bytes)) as { mediaType?: string }).mediaType ?? 'application/json');
    return answerRange(request, response, bytes);
  };
}

function answer(response: ServerResponse, bytes: Buffer, contentType: string): boolean {
  response.writeHead(200, { 'content-type': contentType, 'content-length': bytes.length }).end(bytes);
  return true;
}

/** A file with ranges and an ETag. */
export function answerRange(request: IncomingMessage, response: ServerResponse, bytes: Buffer): boolean {
  const etag = `"${createHash('sha256').update(bytes).digest('hex')}"`;
  const from = rangeStart(request);
  const isPartial = from > 0 && (request.headers['if-range'] ?? etag) === etag;
  const rest = isPartial ? bytes.subarray(from) : bytes;
  response.writeHead(isPartial ? 206 : 200, { 'content-type': 'application/octet-stream', etag, 'content-length': rest.length, ...(isPartial ? { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {}) }).end(rest);
  return true;
}

export function rangeStart(request: IncomingMessage): number {
  return Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
}
