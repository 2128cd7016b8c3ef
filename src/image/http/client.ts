/**
 * Requests to web servers and registries. Redirects are followed here, hop by hop, because headers that prove who is
 * asking belong to one server and must not travel to the next.
 */
import { Agent as HttpAgent, request as requestHttp } from 'node:http';
import type { ClientRequest, IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as requestHttps } from 'node:https';
import { isIP } from 'node:net';
import type { SecureContext } from 'node:tls';
import { RktError } from '../../error.ts';
import { secureContextOf } from './certificates.ts';
import { networkFailure, shownUrl, statusFailure } from './failure.ts';
import { DEFAULT_RETRY_POLICY, withRetries } from './retry.ts';
import type { RetryPolicy } from './retry.ts';
import type { HttpClient, HttpRequest, HttpResponse } from './types.ts';
import { streamOfBody } from './body.ts';

export interface HttpClientOptions {
  userAgent: string;
  /** Server certificates are checked. */
  verifyTls: boolean;
  /** Directories of `HOST[:PORT]/` with certificates, most important first. */
  certsDirs: readonly string[];
  /** How long a server may be silent. */
  silenceMs?: number;
  retry?: RetryPolicy;
  /** Where `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` are. */
  env?: Record<string, string | undefined>;
  /** Told before each pause. */
  onRetry?: (message: string) => void;
}

const DEFAULT_SILENCE_MS = 30_000;
const REDIRECTS_MAX = 10;
const CONNECTIONS_PER_HOST = 6;
const REDIRECT_STATUSES: readonly number[] = [301, 302, 303, 307, 308];

export function createHttpClient(options: HttpClientOptions): HttpClient {
  const retry = options.retry ?? DEFAULT_RETRY_POLICY;
  const agentOptions = { keepAlive: true, maxSockets: CONNECTIONS_PER_HOST, proxyEnv: options.env ?? process.env };
  const agents = { http: new HttpAgent(agentOptions), https: new HttpsAgent(agentOptions) };
  const contexts = new Map<string, SecureContext>();
  const onRetry = (error: RktError): void => options.onRetry?.(`${error.message}; trying again`);

  function contextOf(host: string): SecureContext {
    let context = contexts.get(host);
    if (context === undefined) contexts.set(host, (context = secureContextOf(host, options.certsDirs)));
    return context;
  }

  function start(url: URL, request: HttpRequest): ClientRequest {
    const common = {
      method: request.method ?? 'GET',
      headers: { 'user-agent': options.userAgent, 'accept-encoding': 'identity', ...request.headers?.(url) },
      ...(request.signal === undefined ? {} : { signal: request.signal }),
    };
    if (url.protocol === 'http:') return requestHttp(url, { ...common, agent: agents.http });
    const { hostname } = url;
    // The types of https do not name what it passes on to tls.
    const tls = { secureContext: contextOf(url.host), rejectUnauthorized: request.verifyTls ?? options.verifyTls, ...(isIP(hostname) === 0 ? { servername: hostname } : {}) };
    return requestHttps(url, { ...common, agent: agents.https, ...tls });
  }

  async function hop(url: URL, request: HttpRequest): Promise<HttpResponse> {
    const silenceMs = options.silenceMs ?? DEFAULT_SILENCE_MS;
    const message = await responseTo(start(url, request), { url, body: request.body, silenceMs });
    return {
      status: message.statusCode ?? 0,
      url,
      headers: headersOf(message),
      body: streamOfBody(message, { name: shownUrl(url), silenceMs }),
      discard: () => message.destroy(),
    };
  }

  async function attempt(request: HttpRequest): Promise<HttpResponse> {
    let { url } = request;
    let current = request;
    for (let redirects = 0; ; redirects++) {
      requireScheme(url, current);
      const response = await hop(url, current);
      if (response.status >= 200 && response.status < 300) return response;
      if (request.accept?.includes(response.status) === true) return response;
      if (!REDIRECT_STATUSES.includes(response.status)) throw await statusFailure(response);
      response.discard();
      if (redirects >= REDIRECTS_MAX) throw new RktError('NETWORK', `${shownUrl(request.url)}: more than ${REDIRECTS_MAX} redirects`);
      url = redirectTarget(response);
      if (response.status === 303 || (current.method === 'POST' && response.status < 303)) current = withoutBody(current);
    }
  }

  return {
    attempt,
    send: (request) => withRetries(retry, () => attempt(request), { onRetry, ...(request.signal === undefined ? {} : { signal: request.signal }) }),
    retry,
    onRetry,
    close: () => {
      agents.http.destroy();
      agents.https.destroy();
    },
  };
}

function requireScheme(url: URL, request: HttpRequest): void {
  if (url.protocol === 'https:' || (url.protocol === 'http:' && request.allowHttp === true)) return;
  if (url.protocol !== 'http:') throw new RktError('NETWORK', `${shownUrl(request.url)}: leads to ${JSON.stringify(url.protocol)}, which is no web address`);
  const what = url === request.url ? 'plain http is not allowed' : `redirected from ${shownUrl(request.url)} to plain http`;
  throw new RktError('NETWORK', `${shownUrl(url)}: ${what}`, { hint: 'allow it with --insecure-options=http' });
}

function redirectTarget(response: HttpResponse): URL {
  const location = response.headers.get('location') ?? '';
  try {
    return new URL(location, response.url);
  } catch (cause) {
    throw new RktError('NETWORK', `${shownUrl(response.url)}: redirected to nowhere (location: ${JSON.stringify(location)})`, { cause });
  }
}

function withoutBody({ body, ...request }: HttpRequest): HttpRequest {
  void body;
  return { ...request, method: request.method === 'HEAD' ? 'HEAD' : 'GET' };
}

function responseTo(request: ClientRequest, context: { url: URL; body: string | undefined; silenceMs: number }): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => request.destroy(new Error(`no answer for ${Math.round(context.silenceMs / 1000)} seconds`)), context.silenceMs);
    request.on('error', (error) => {
      clearTimeout(timer);
      reject(networkFailure(context.url, error));
    });
    request.on('response', (message) => {
      clearTimeout(timer);
      resolve(message);
    });
    request.end(context.body);
  });
}

function headersOf(message: IncomingMessage): Map<string, string> {
  return new Map(Object.entries(message.headers).flatMap(([name, value]) => (value === undefined ? [] : [[name, Array.isArray(value) ? value.join(', ') : value]])));
}
