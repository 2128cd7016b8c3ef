/**
 * Web servers for any host names, on this machine: what has HTTPS_PROXY and NODE_EXTRA_CA_CERTS of `env` reaches them under
 * their names, with certificates of an authority of their own.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { scratchDir } from './scratch-dir.ts';

export interface Page {
  body: string | Uint8Array;
  status?: number;
  headers?: Record<string, string>;
}

export interface NamedWeb {
  /** By URL without query, such as `https://example.com/x`. Change it at will. */
  pages: Map<string, Page>;
  /** URLs that were asked for, with query. */
  asked: string[];
  /** Headers of the requests, in the same order. */
  headers: IncomingMessage['headers'][];
  env: Record<string, string>;
}

interface Test {
  teardown(action: () => unknown): void;
}

export async function makeNamedWeb(t: Test, names: readonly string[]): Promise<NamedWeb> {
  const directory = scratchDir(t, 'web');
  const { caFile, certFile, keyFile } = makeCertificates(directory, names);
  const pages = new Map<string, Page>();
  const asked: string[] = [];
  const headers: IncomingMessage['headers'][] = [];
  const answer = (url: URL, request: IncomingMessage, response: ServerResponse): void => {
    asked.push(url.href);
    headers.push(request.headers);
    const page = pages.get(`${url.origin}${url.pathname}`.replace(/\/$/, ''));
    response.writeHead(page?.status ?? (page === undefined ? 404 : 200), page?.headers ?? {});
    response.end(page?.body ?? '');
  };
  const secure = createHttpsServer({ cert: readFileSync(certFile), key: readFileSync(keyFile) }, (request, response) => answer(new URL(`https://${request.headers.host ?? ''}${request.url ?? ''}`), request, response));
  const proxy = createHttpServer((request, response) => answer(new URL(request.url ?? '', `http://${request.headers.host ?? ''}`), request, response));
  await new Promise<void>((resolve) => secure.listen(0, '127.0.0.1', resolve));
  const { port } = secure.address() as AddressInfo;
  proxy.on('connect', (_request, client) => {
    const upstream = connect(port, '127.0.0.1', () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n');
      upstream.pipe(client);
      client.pipe(upstream);
    });
    for (const socket of [upstream, client]) socket.on('error', () => socket.destroy());
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const server of [secure, proxy]) {
      server.close();
      server.closeAllConnections();
    }
  });
  const address = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  return { pages, asked, headers, env: { HTTPS_PROXY: address, HTTP_PROXY: address, NO_PROXY: '', NODE_EXTRA_CA_CERTS: caFile } };
}

/** An authority, and a certificate of it for all names. */
function makeCertificates(directory: string, names: readonly string[]): { caFile: string; certFile: string; keyFile: string } {
  const file = (name: string): string => join(directory, name);
  const openssl = (...args: string[]): void => void execFileSync('openssl', args, { stdio: 'pipe' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  openssl('req', '-x509', ...key, '-keyout', file('ca.key'), '-out', file('ca.crt'), '-subj', '/CN=Test authority', '-days', '2');
  openssl('req', ...key, '-keyout', file('web.key'), '-out', file('web.csr'), '-subj', '/CN=web');
  writeFileSync(file('web.ext'), `subjectAltName=${names.map((name) => `DNS:${name}`).join(',')}\n`);
  openssl('x509', '-req', '-in', file('web.csr'), '-CA', file('ca.crt'), '-CAkey', file('ca.key'), '-CAcreateserial', '-days', '2', '-extfile', file('web.ext'), '-out', file('web.crt'));
  return { caFile: file('ca.crt'), certFile: file('web.crt'), keyFile: file('web.key') };
}
