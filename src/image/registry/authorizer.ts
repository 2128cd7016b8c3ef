/** Proves to one registry who is asking: basic authentication, or tokens of the server it names (distribution-spec, "token authentication"). */
import { RktError } from '../../error.ts';
import { objectOf, optional, parseDocument, stringValue } from '../../schema/check.ts';
import { fetchWhole } from '../http/body.ts';
import type { HttpClient, HttpRequest } from '../http/types.ts';
import { shownUrl } from '../http/failure.ts';
import { parseChallenges } from './challenge.ts';
import type { Challenge } from './challenge.ts';
import { authorizationOf } from './authorization.ts';
import type { Credentials } from './authorization.ts';

export interface Authorizer {
  /** `Authorization` for the registry, as far as is known what it wants. */
  header(): string | undefined;
  /** Learns from a refusal. False: there is nothing else to show. Throws RktError when the token server refuses. */
  answer(challengeHeader: string, sent: string | undefined): Promise<boolean>;
}

export interface AuthorizerOptions {
  http: HttpClient;
  /** Of the registry: only its own address may name a token server, and only an https address may not name a plain one. */
  registry: URL;
  repository: string;
  credentials: Credentials | undefined;
  verifyTls: boolean;
}

interface TokenAnswer {
  token?: string;
  access_token?: string;
}

const tokenAnswer = objectOf<TokenAnswer>({ token: optional(stringValue), access_token: optional(stringValue) });

const TOKEN_MAX_BYTES = 1 << 20;
const CLIENT_ID = 'rkt';

export function createAuthorizer(options: AuthorizerOptions): Authorizer {
  const { credentials } = options;
  let current: string | undefined = credentials?.kind === 'bearer' ? authorizationOf(credentials) : undefined;
  let pending: Promise<boolean> | undefined;

  async function learn(challenges: readonly Challenge[], sent: string | undefined): Promise<boolean> {
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
    if (bearer !== undefined && credentials?.kind !== 'bearer') {
      current = `Bearer ${await fetchToken(bearer, options)}`;
      return true;
    }
    const basic = challenges.some(({ scheme }) => scheme === 'basic');
    if (!basic || credentials?.kind !== 'basic') return false;
    current = authorizationOf(credentials);
    return current !== sent;
  }

  return {
    header: () => current,
    answer: async (challengeHeader, sent) => {
      // Several layers are refused at once when a token runs out: one new token is enough for all.
      if (sent !== current) return true;
      pending ??= learn(parseChallenges(challengeHeader), sent).finally(() => (pending = undefined));
      return await pending;
    },
  };
}

async function fetchToken({ parameters }: Challenge, options: AuthorizerOptions): Promise<string> {
  const { http, registry, repository, credentials } = options;
  const realm = realmOf(parameters.get('realm'), registry);
  const service = parameters.get('service');
  const scope = `repository:${repository}:pull`;
  const name = `token server ${shownUrl(realm)}`;
  const request: HttpRequest = credentials?.kind === 'identity-token' ? exchangeRequest(realm, { scope, service, token: credentials.token }) : plainRequest(realm, { scope, service, credentials });
  try {
    const { bytes } = await fetchWhole(http, { ...request, allowHttp: registry.protocol === 'http:', verifyTls: options.verifyTls }, TOKEN_MAX_BYTES);
    const answer = parseDocument(new TextDecoder().decode(bytes), tokenAnswer, { origin: name, code: 'NETWORK' });
    const token = answer.token ?? answer.access_token;
    if (token === undefined || !/^[\x21-\x7e]+$/.test(token)) throw new RktError('NETWORK', `${name}: token: expected a token`);
    return token;
  } catch (error) {
    if (error instanceof RktError && error.code === 'PERMISSION') throw new RktError('PERMISSION', `${registry.host}/${repository}: the token server refuses ${credentials === undefined ? 'to serve anybody without credentials' : 'the credentials'}: ${error.message}`, { cause: error });
    throw error;
  }
}

/** OAuth 2: an identity token for an access token. */
function exchangeRequest(realm: URL, { scope, service, token }: { scope: string; service: string | undefined; token: string }): HttpRequest {
  const fields = { grant_type: 'refresh_token', refresh_token: token, client_id: CLIENT_ID, scope, ...(service === undefined ? {} : { service }) };
  return { url: realm, method: 'POST', headers: () => ({ 'content-type': 'application/x-www-form-urlencoded' }), body: String(new URLSearchParams(fields)) };
}

function plainRequest(realm: URL, { scope, service, credentials }: { scope: string; service: string | undefined; credentials: Credentials | undefined }): HttpRequest {
  const basic = credentials?.kind === 'basic' ? credentials : undefined;
  return {
    url: withQuery(realm, { scope, service, account: basic?.user }),
    headers: (url): Record<string, string> => (basic !== undefined && url.origin === realm.origin ? { authorization: authorizationOf(basic) } : {}),
  };
}

function realmOf(text: string | undefined, registry: URL): URL {
  const refuse = (reason: string, cause?: unknown): RktError => new RktError('NETWORK', `${registry.host}: names the token server ${JSON.stringify(text ?? '')}: ${reason}`, { cause });
  let realm: URL;
  try {
    realm = new URL(text ?? '', registry);
  } catch (cause) {
    throw refuse('not a URL', cause);
  }
  if (text === undefined || text === '') throw refuse('nothing');
  if (realm.protocol !== 'https:' && !(realm.protocol === 'http:' && registry.protocol === 'http:')) throw refuse('the credentials would travel in the open');
  return realm;
}

function withQuery(url: URL, parameters: Record<string, string | undefined>): URL {
  const result = new URL(url);
  for (const [name, value] of Object.entries(parameters)) if (value !== undefined) result.searchParams.append(name, value);
  return result;
}
