/** Bodies of answers as streams. */
import type { IncomingMessage } from 'node:http';
import { RktError } from '../../error.ts';
import type { HttpClient, HttpRequest, HttpResponse } from './types.ts';
import { shownUrl } from './failure.ts';
import { TransientFailure, withRetries } from './retry.ts';

const CHECKS_PER_SILENCE = 4;

/**
 * The chunks of a body. Only the time the server lets this side wait counts as silence, not the time this side takes.
 * Throws TransientFailure when the connection ends early or stays silent.
 */
export async function* streamOfBody(message: IncomingMessage, { name, silenceMs }: { name: string; silenceMs: number }): AsyncGenerator<Uint8Array, void, undefined> {
  const chunks = message[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  let waitingSinceMs: number | undefined;
  const guard = setInterval(() => {
    if (waitingSinceMs !== undefined && performance.now() - waitingSinceMs >= silenceMs) message.destroy(new Error(`no data for ${Math.round(silenceMs / 1000)} seconds`));
  }, silenceMs / CHECKS_PER_SILENCE);
  try {
    for (;;) {
      waitingSinceMs = performance.now();
      const next = await chunks.next();
      waitingSinceMs = undefined;
      if (next.done === true) return;
      yield next.value;
    }
  } catch (error) {
    if (error instanceof Error && error.name === 'AbortError') throw error;
    throw new TransientFailure(new RktError('NETWORK', `${name}: the connection broke: ${error instanceof Error ? error.message : String(error)}`, { cause: error }));
  } finally {
    clearInterval(guard);
    message.destroy();
  }
}

/** All of a small body. Throws LIMIT when it is larger, TransientFailure when the connection breaks. */
export async function wholeBody(response: HttpResponse, limitBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  const announced = Number(response.headers.get('content-length') ?? 0);
  try {
    if (announced > limitBytes) throw tooLarge(response, limitBytes);
    for await (const chunk of response.body) {
      sizeBytes += chunk.length;
      if (sizeBytes > limitBytes) throw tooLarge(response, limitBytes);
      chunks.push(chunk);
    }
  } finally {
    response.discard();
  }
  return Buffer.concat(chunks);
}

function tooLarge(response: HttpResponse, limitBytes: number): RktError {
  return new RktError('LIMIT', `${shownUrl(response.url)}: the answer is larger than ${limitBytes} bytes`);
}

/** A small document, whole, tried again where that may help. */
export async function fetchWhole(client: HttpClient, request: HttpRequest, limitBytes: number): Promise<{ response: HttpResponse; bytes: Uint8Array }> {
  return await withRetries(client.retry, async () => {
    const response = await client.attempt(request);
    return { response, bytes: await wholeBody(response, limitBytes) };
  }, { onRetry: client.onRetry });
}
