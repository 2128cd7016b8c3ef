/** HTTP servers with limits: whoever connects may be a guest that means harm. */
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { refusal } from './answer.ts';
import type { Answer } from './answer.ts';

const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 30_000;
/** Also for a client that does not read its answer. */
const SILENCE_TIMEOUT_MS = 30_000;
const CHECK_INTERVAL_MS = 5_000;
const HEADER_MAX_BYTES = 16 << 10;

export interface ServerLimits {
  bodyMaxBytes: number;
  maxConnections: number;
}

export interface Received {
  method: string;
  target: string;
  body: string;
}

export function limitedServer(limits: ServerLimits, answer: (request: Received) => Promise<Answer> | Answer): Server {
  const server = createServer(
    { headersTimeout: HEADERS_TIMEOUT_MS, requestTimeout: REQUEST_TIMEOUT_MS, connectionsCheckingInterval: CHECK_INTERVAL_MS, maxHeaderSize: HEADER_MAX_BYTES },
    (request, response) => {
      receive(request, limits.bodyMaxBytes)
        .then(async (body) => (body === null ? refusal(413, `a request may have ${limits.bodyMaxBytes} bytes`) : await answer({ method: request.method ?? '', target: request.url ?? '', body })))
        .then((made) => respond(response, made))
        // The client has gone, or there is a defect of ours that must not end the service for others.
        .catch(() => response.destroy());
    },
  );
  server.maxConnections = limits.maxConnections;
  server.setTimeout(SILENCE_TIMEOUT_MS);
  return server;
}

function respond(response: ServerResponse, { status, type, body }: Answer): void {
  const isTooLong = status === 413;
  response.writeHead(status, { 'Content-Type': type, 'Content-Length': Buffer.byteLength(body), ...(isTooLong ? { Connection: 'close' } : {}) });
  response.end(body);
}

/** Null when it is longer than allowed. */
function receive(request: IncomingMessage, maxBytes: number): Promise<string | null> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let receivedBytes = 0;
    request.on('data', (chunk: Buffer) => {
      receivedBytes += chunk.length;
      if (receivedBytes <= maxBytes) chunks.push(chunk);
      else resolve(null);
    });
    request.on('end', () => resolve(Buffer.concat(chunks).toString()));
    request.on('error', reject);
    request.on('close', () => reject(new Error('the client has gone')));
  });
}
