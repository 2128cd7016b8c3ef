/**
 * What apps can ask about their own pod: HTTP/1.1 on a unix socket, one request a connection.
 *
 *   GET /quote?nonce=HEX[&data=HEX]   evidence for a verifier (src/tpm/evidence.ts)
 *   GET /log                          the event log as bytes
 */
import { EAGAIN, EINTR, EPOLLIN } from '../../runtime/abi.gen.ts';
import { close, readRaw, writeAll } from '../../runtime/linux/fds.ts';
import { changeMode } from '../../runtime/linux/files.ts';
import { accept, listenUnix } from '../../runtime/linux/sockets.ts';
import { after, unwatch, watch } from '../../runtime/loop.ts';

const REQUEST_MAX_BYTES = 16 << 10;
const REQUEST_TIMEOUT_MS = 10_000;
const MAX_CONNECTIONS = 32;

export interface AttestServices {
  /** A JSON document; throws what the requester gets to read. */
  quote(nonceHex: string, dataHex: string): Promise<string>;
  log(): Uint8Array;
}

export interface Answer {
  status: 200 | 400 | 404 | 405 | 503;
  type: 'application/json' | 'application/octet-stream' | 'text/plain';
  body: Uint8Array;
}

/** A request that its sender can mend. */
export class BadRequest extends Error {}

let connections = 0;

export function serveAttestation(path: string, services: AttestServices): void {
  const listener = listenUnix(path);
  changeMode(path, 0o666);
  watch(listener, EPOLLIN, () => {
    const fd = accept(listener);
    if (fd === undefined) return;
    if (connections >= MAX_CONNECTIONS) close(fd);
    else serve(fd, services);
  });
}

function serve(fd: number, services: AttestServices): void {
  connections++;
  let received = '';
  let isOpen = true;
  const end = (): void => {
    if (!isOpen) return;
    isOpen = false;
    connections--;
    timeout.cancel();
    unwatch(fd);
    close(fd);
  };
  const timeout = after(REQUEST_TIMEOUT_MS, end);
  const buffer = new Uint8Array(REQUEST_MAX_BYTES);
  watch(fd, EPOLLIN, () => {
    const count = readRaw(fd, buffer);
    if (count === -EAGAIN || count === -EINTR) return;
    if (count <= 0) return end();
    received += sys.text(buffer.subarray(0, count));
    if (received.length > REQUEST_MAX_BYTES) return end();
    if (!received.includes('\r\n\r\n') && !received.includes('\n\n')) return;
    unwatch(fd);
    answer(received.slice(0, received.indexOf('\n')).trim(), services).then((response) => {
      if (!isOpen) return;
      // It fits into the socket's buffer. A requester that does not read it cannot stop the agent: the descriptor does not block.
      writeAll(fd, encode(response));
    }).catch(() => undefined).finally(end);
  });
}

/** @param line `GET /quote?nonce=… HTTP/1.1` */
export async function answer(line: string, services: AttestServices): Promise<Answer> {
  const [method, target = '', version = ''] = line.split(' ');
  if (!version.startsWith('HTTP/1.')) return text(400, 'expected an HTTP/1.1 request');
  if (method !== 'GET') return text(405, 'only GET is known');
  const [path, query = ''] = target.split('?');
  if (path === '/log') return { status: 200, type: 'application/octet-stream', body: services.log() };
  if (path !== '/quote') return text(404, 'GET /quote?nonce=HEX[&data=HEX] or GET /log');
  const parameters = new Map(query.split('&').map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]));
  const nonce = parameters.get('nonce');
  if (nonce === undefined || nonce === '') return text(400, 'nonce=HEX is missing: the verifier gives it');
  try {
    return { status: 200, type: 'application/json', body: sys.utf8(await services.quote(nonce, parameters.get('data') ?? '')).subarray(0, -1) };
  } catch (error) {
    return text(error instanceof BadRequest ? 400 : 503, error instanceof Error ? error.message : String(error));
  }
}

function text(status: Answer['status'], message: string): Answer {
  return { status, type: 'text/plain', body: sys.utf8(`${message}\n`).subarray(0, -1) };
}

const REASONS: Readonly<Record<Answer['status'], string>> = { 200: 'OK', 400: 'Bad Request', 404: 'Not Found', 405: 'Method Not Allowed', 503: 'Service Unavailable' };

function encode({ status, type, body }: Answer): Uint8Array {
  const head = sys.utf8(`HTTP/1.1 ${status} ${REASONS[status]}\r\nContent-Type: ${type}\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n`).subarray(0, -1);
  const message = new Uint8Array(head.length + body.length);
  message.set(head);
  message.set(body, head.length);
  return message;
}
