/** What can go wrong between this machine and a server, in words, and whether it may go right the next time. */
import { RktError } from '../../error.ts';
import type { ErrorCode } from '../../error.ts';
import type { HttpResponse } from './types.ts';
import { parseRetryAfter, TransientFailure } from './retry.ts';

const TRANSIENT_STATUSES: readonly number[] = [408, 425, 429, 500, 502, 503, 504];
const STATUS_CODES: Readonly<Record<number, ErrorCode>> = { 401: 'PERMISSION', 403: 'PERMISSION', 404: 'NOT_FOUND', 410: 'NOT_FOUND' };

/** Errors of Node that say nobody is there: asking again at once will not help. */
const LASTING: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ENOTFOUND: 'no such host',
  EHOSTUNREACH: 'no route to host',
  ENETUNREACH: 'network is unreachable',
  EPROTO: 'the server does not speak TLS, or not in a way that is accepted',
  ERR_SSL_WRONG_VERSION_NUMBER: 'the server does not speak TLS',
  ERR_SSL_PACKET_LENGTH_TOO_LONG: 'the server does not speak TLS',
};

const CERTIFICATE_ERRORS = /^(DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_|CERT_|ERR_TLS_CERT)/;

const TRANSIENT: Readonly<Record<string, string>> = {
  ECONNRESET: 'the connection was closed',
  EPIPE: 'the connection was closed',
  ETIMEDOUT: 'the connection timed out',
  EAI_AGAIN: 'the name could not be resolved at the moment',
};

/** A URL for messages: without what may be secret in it. */
export function shownUrl(url: URL): string {
  return `${url.origin === 'null' ? url.protocol : url.origin}${url.pathname}`;
}

export function isCertificateError(error: unknown): boolean {
  return error instanceof RktError && error.cause instanceof Error && 'code' in error.cause && CERTIFICATE_ERRORS.test(String(error.cause.code));
}

/** Turns an error of Node's http modules into a failure. What is no such error passes unchanged. */
export function networkFailure(url: URL, error: unknown): unknown {
  if (!(error instanceof Error) || error.name === 'AbortError' || error instanceof RktError || error instanceof TransientFailure) return error;
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  if (CERTIFICATE_ERRORS.test(code)) {
    return new RktError('NETWORK', `${shownUrl(url)}: the certificate is not trusted: ${certificateComplaint(error)}`, { cause: error, hint: `if its authority is to be trusted, put the authority's certificate into certs.d/${url.host}/ca.crt of the configuration directory` });
  }
  // Node's words would say the same once more.
  const [lasting, transient] = [LASTING[code], TRANSIENT[code]];
  if (lasting !== undefined) return new RktError('NETWORK', `${shownUrl(url)}: ${lasting}`);
  return new TransientFailure(new RktError('NETWORK', `${shownUrl(url)}: ${transient ?? error.message}`, transient === undefined ? { cause: error } : {}));
}

/** Node goes on with advice for people who start Node themselves. */
function certificateComplaint({ message }: Error): string {
  return message.split(';')[0] ?? message;
}

/** The failure an answer stands for. rkt's words. */
export async function statusFailure(response: HttpResponse): Promise<Error> {
  const { status } = response;
  const detail = await complaintOf(response);
  const error = new RktError(STATUS_CODES[status] ?? 'NETWORK', `${shownUrl(response.url)}: bad HTTP status code: ${status}${detail === '' ? '' : ` (${detail})`}`);
  if (!TRANSIENT_STATUSES.includes(status)) return error;
  return new TransientFailure(error, parseRetryAfter(response.headers.get('retry-after'), Date.now()));
}

const COMPLAINT_MAX_BYTES = 64 << 10;
const COMPLAINT_MAX_CHARACTERS = 200;

/** What a registry says is wrong (distribution-spec, "Error Codes"), made safe for a terminal. */
async function complaintOf(response: HttpResponse): Promise<string> {
  if (response.headers.get('content-type')?.includes('json') !== true) {
    response.discard();
    return '';
  }
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  try {
    for await (const chunk of response.body) {
      chunks.push(chunk);
      if ((sizeBytes += chunk.length) > COMPLAINT_MAX_BYTES) break;
    }
    const document = JSON.parse(Buffer.concat(chunks).toString('utf8')) as { errors?: { code?: unknown; message?: unknown }[] } | null;
    const texts = (document?.errors ?? []).map(({ code, message }) => [code, message].filter((part) => typeof part === 'string').join(': '));
    return printable(texts.join('; ')).slice(0, COMPLAINT_MAX_CHARACTERS);
  } catch {
    return '';
  } finally {
    response.discard();
  }
}

function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?');
}
