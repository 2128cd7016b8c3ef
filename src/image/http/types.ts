/** Requests, answers, and who makes them. */
import type { RktError } from '../../error.ts';
import type { RetryPolicy } from './retry.ts';

export interface HttpRequest {
  url: URL;
  method?: 'GET' | 'HEAD' | 'POST';
  /** Asked anew for each hop: what belongs to one server is not given to another. */
  headers?: (url: URL) => Readonly<Record<string, string>>;
  body?: string;
  /** Plain http: for the first URL and behind redirects. Default: neither. */
  allowHttp?: boolean;
  /** Overrides the client's. */
  verifyTls?: boolean;
  /** Statuses besides 2xx that are given back rather than thrown. */
  accept?: readonly number[];
  signal?: AbortSignal;
}

export interface HttpResponse {
  status: number;
  /** Behind redirects. */
  url: URL;
  /** Names in lower case. */
  headers: ReadonlyMap<string, string>;
  /** Read it to its end or call `discard`. Throws TransientFailure when the connection breaks. */
  body: AsyncGenerator<Uint8Array, void, undefined>;
  discard(): void;
}

export interface HttpClient {
  /** One request with its redirects. Throws TransientFailure for what may pass, RktError for the rest. */
  attempt(request: HttpRequest): Promise<HttpResponse>;
  /** As `attempt`, tried again where that may help. */
  send(request: HttpRequest): Promise<HttpResponse>;
  readonly retry: RetryPolicy;
  readonly onRetry: (error: RktError) => void;
  close(): void;
}
