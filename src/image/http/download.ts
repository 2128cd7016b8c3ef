/** Large downloads as one stream, however often the connection breaks: what arrived is never asked for again. */
import { setTimeout as sleep } from 'node:timers/promises';
import { RktError } from '../../error.ts';
import type { HttpResponse } from './types.ts';
import { pauseMs, TransientFailure, withRetries } from './retry.ts';
import type { RetryPolicy } from './retry.ts';

/** The rest of something (RFC 9110, 14 and 13.1.5). */
export interface RangeRequest {
  fromBytes: number;
  /** The server answers with the whole instead when what it has is no longer this. */
  ifRange: string | undefined;
}

export interface DownloadOptions {
  /** Begins messages. */
  name: string;
  /** The size something else vouches for. Another size is an error. */
  sizeBytes?: number;
  limitBytes: number;
  /** Content that is named by its digest is the same however often it is asked for; else the server must tell that it is. */
  immutable: boolean;
  /** One request; throws TransientFailure where another may succeed. */
  request(range: RangeRequest | undefined): Promise<HttpResponse>;
  retry: RetryPolicy;
  onRetry?: (error: RktError) => void;
  /** Told the size as soon as the server has answered. */
  onSize?: (sizeBytes: number | undefined) => void;
  signal?: AbortSignal;
}

/** Breaks of the connection in all, progress or not: nothing honest needs as many. */
const RESUMES_MAX = 100;
const PARTIAL_CONTENT = 206;

interface Progress {
  receivedBytes: number;
  totalBytes: number | undefined;
  validator: string | undefined;
}

/** Throws RktError; NETWORK when the connection breaks again and again without progress. */
export async function* download(options: DownloadOptions): AsyncGenerator<Uint8Array, void, undefined> {
  const progress: Progress = { receivedBytes: 0, totalBytes: options.sizeBytes, validator: undefined };
  let response = await start(options, progress);
  options.onSize?.(progress.totalBytes);
  let skipBytes = 0;
  for (let resumes = 0, fruitless = 0; ; resumes++) {
    const before = progress.receivedBytes;
    const failure = yield* received(response, { options, progress, skipBytes });
    if (failure === undefined) return;
    fruitless = progress.receivedBytes > before ? 0 : fruitless + 1;
    options.signal?.throwIfAborted();
    if (fruitless + 1 >= options.retry.attempts || resumes >= RESUMES_MAX) throw failure.error;
    if (!options.immutable && progress.validator === undefined) throw new RktError('NETWORK', failure.error.message, { cause: failure, hint: 'the server gives neither ETag nor Last-Modified, so the download cannot be continued; try again' });
    options.onRetry?.(failure.error);
    if (fruitless > 0) await sleep(pauseMs(options.retry, fruitless, failure), undefined, options.signal === undefined ? {} : { signal: options.signal });
    ({ response, skipBytes } = await resume(options, progress));
  }
}

/** Passes a body on. Returns why it ended early, or undefined when it is complete. */
async function* received(response: HttpResponse, context: { options: DownloadOptions; progress: Progress; skipBytes: number }): AsyncGenerator<Uint8Array, TransientFailure | undefined, undefined> {
  const { options, progress } = context;
  let { skipBytes } = context;
  try {
    for await (const chunk of response.body) {
      const fresh = skipBytes === 0 ? chunk : chunk.subarray(Math.min(skipBytes, chunk.length));
      skipBytes -= chunk.length - fresh.length;
      if (fresh.length === 0) continue;
      progress.receivedBytes += fresh.length;
      requireWithin(options, progress);
      yield fresh;
    }
  } catch (error) {
    if (error instanceof TransientFailure) return error;
    throw error;
  }
  if (progress.totalBytes === undefined || progress.receivedBytes === progress.totalBytes) return undefined;
  return new TransientFailure(new RktError('NETWORK', `${options.name}: the connection ended after ${progress.receivedBytes} of ${progress.totalBytes} bytes`));
}

function requireWithin({ name, sizeBytes, limitBytes }: DownloadOptions, { receivedBytes }: Progress): void {
  if (sizeBytes !== undefined && receivedBytes > sizeBytes) throw wrongSize(name, sizeBytes, `at least ${receivedBytes}`);
  if (receivedBytes > limitBytes) throw new RktError('LIMIT', `${name}: larger than ${limitBytes} bytes`);
}

function wrongSize(name: string, expectedBytes: number, found: string): RktError {
  return new RktError('DIGEST', `${name}: wrong size: expected ${expectedBytes} bytes, found ${found}`);
}

async function start(options: DownloadOptions, progress: Progress): Promise<HttpResponse> {
  const response = await withRetries(options.retry, () => options.request(undefined), hooks(options));
  const announced = numberOf(response.headers.get('content-length'));
  try {
    if (announced !== undefined && options.sizeBytes !== undefined && announced !== options.sizeBytes) throw wrongSize(options.name, options.sizeBytes, String(announced));
    if (announced !== undefined && announced > options.limitBytes) throw new RktError('LIMIT', `${options.name}: ${announced} bytes, at most ${options.limitBytes} are accepted`);
  } catch (error) {
    response.discard();
    throw error;
  }
  progress.totalBytes ??= announced;
  progress.validator = validatorOf(response);
  return response;
}

/** Asks for what is missing. A server that knows no ranges sends all of it again; what is known of it is left out. */
async function resume(options: DownloadOptions, progress: Progress): Promise<{ response: HttpResponse; skipBytes: number }> {
  const { receivedBytes } = progress;
  if (receivedBytes === 0) return { response: await start(options, progress), skipBytes: 0 };
  const response = await withRetries(options.retry, () => options.request({ fromBytes: receivedBytes, ifRange: progress.validator }), hooks(options));
  try {
    if (response.status !== PARTIAL_CONTENT) {
      if (!options.immutable && validatorOf(response) !== progress.validator) throw new RktError('NETWORK', `${options.name}: changed on the server while it was downloaded`, { hint: 'try again' });
      return { response, skipBytes: receivedBytes };
    }
    const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get('content-range') ?? '');
    if (range === null || Number(range[1]) !== receivedBytes) throw new RktError('NETWORK', `${options.name}: asked for the bytes from ${receivedBytes} on, the server sent ${JSON.stringify(response.headers.get('content-range') ?? 'something else')}`);
    const total = range[2] === '*' ? undefined : Number(range[2]);
    if (total !== undefined && progress.totalBytes !== undefined && total !== progress.totalBytes) throw wrongSize(options.name, progress.totalBytes, String(total));
    return { response, skipBytes: 0 };
  } catch (error) {
    response.discard();
    throw error;
  }
}

function hooks({ onRetry, signal }: DownloadOptions): { onRetry?: (error: RktError) => void; signal?: AbortSignal } {
  return { ...(onRetry === undefined ? {} : { onRetry }), ...(signal === undefined ? {} : { signal }) };
}

/** What `If-Range` accepts: a strong ETag, or the time of the last change. */
function validatorOf({ headers }: HttpResponse): string | undefined {
  const etag = headers.get('etag');
  return etag !== undefined && !etag.startsWith('W/') ? etag : headers.get('last-modified');
}

function numberOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** The headers that ask for a range. */
export function rangeHeaders(range: RangeRequest | undefined): Record<string, string> {
  if (range === undefined) return {};
  return { range: `bytes=${range.fromBytes}-`, ...(range.ifRange === undefined ? {} : { 'if-range': range.ifRange }) };
}
