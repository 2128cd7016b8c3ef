/**
 * A service that gives a secret to pods that are what they should be, and to nobody else (the "background check" of RFC 9334).
 *
 *   POST /nonce             a new nonce, as text. It is good for one attempt, for a minute
 *   POST /secret?nonce=HEX  evidence in the body; answered with the secret, or with 403 and what is wrong
 *
 * A pod that has bound an RSA public key to its evidence (`data`, DER) gets the secret encrypted to that key, in base64.
 *
 *   node examples/verifier/server.ts --secret=FILE --ca=FILE --reference=FILE… [--policy=FILE] [--address=127.0.0.1] [--port=8080]
 */
import { constants, createPublicKey, publicEncrypt, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { parseArgs } from 'node:util';
import { parsePolicy, parseReference, RktError, verdictText, verify, type Policy, type Reference } from 'rkt/attest';

export interface VerifierOptions {
  /** At most 190 bytes, if it is to be encrypted. */
  secret: Uint8Array;
  caPem: string;
  references: readonly Reference[];
  policy?: Policy;
  nonceLifetimeMs?: number;
  log?(line: string): void;
}

interface Answer {
  status: number;
  body: string | Uint8Array;
}

const NONCE_BYTES = 32;
const NONCE_LIFETIME_MS = 60_000;
/** Whoever asks for more than can be used makes the oldest invalid. */
const MAX_NONCES = 10_000;
const MAX_EVIDENCE_BYTES = 16 << 20;
const MIN_RSA_BITS = 2048;

export function verifierServer(options: VerifierOptions): Server {
  const nonces = new Nonces(options.nonceLifetimeMs ?? NONCE_LIFETIME_MS);
  return createServer((request, response) => {
    answer(request, options, nonces).catch((error: unknown) => refusal(error)).then(({ status, body }) => {
      options.log?.(`${request.method} ${request.url?.split('?')[0]} ${status}`);
      response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(body);
    });
  });
}

async function answer(request: IncomingMessage, options: VerifierOptions, nonces: Nonces): Promise<Answer> {
  const url = new URL(request.url ?? '/', 'http://verifier');
  if (request.method !== 'POST') return { status: 405, body: 'only POST is known\n' };
  if (url.pathname === '/nonce') return { status: 201, body: nonces.issue() };
  if (url.pathname !== '/secret') return { status: 404, body: 'POST /nonce, POST /secret?nonce=HEX\n' };
  const nonceHex = url.searchParams.get('nonce') ?? '';
  // Before anything else: an attempt uses the nonce up, however it ends.
  if (!nonces.take(nonceHex)) return { status: 403, body: 'the nonce was not given by this verifier, has been used, or is too old\n' };
  const { secret, caPem, references, policy } = options;
  const verdict = await verify({ evidence: await readBody(request), nonceHex, caPem, references, ...(policy === undefined ? {} : { policy }) });
  if (!verdict.ok || verdict.claims === null) return { status: 403, body: verdictText(verdict) };
  const { uuid, dataHex, reference } = verdict.claims;
  options.log?.(`secret released to pod ${uuid}, which is as in ${reference}`);
  return { status: 200, body: dataHex === '' ? secret : encrypt(secret, dataHex) };
}

/** The key is the pod's: its evidence says so. */
function encrypt(secret: Uint8Array, keyHex: string): string {
  const key = createPublicKey({ key: Buffer.from(keyHex, 'hex'), format: 'der', type: 'spki' });
  if (key.asymmetricKeyType !== 'rsa' || (key.asymmetricKeyDetails?.modulusLength ?? 0) < MIN_RSA_BITS) throw new RktError('BAD_INPUT', `data: expected an RSA public key of at least ${MIN_RSA_BITS} bits`);
  return publicEncrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' }, secret).toString('base64');
}

async function readBody(request: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  let sizeBytes = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    sizeBytes += piece.length;
    if (sizeBytes > MAX_EVIDENCE_BYTES) throw new RktError('LIMIT', `evidence of more than ${MAX_EVIDENCE_BYTES} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString();
}

/** No secret for whatever cannot be understood; what is said of it is not the reason but the fact. */
function refusal(error: unknown): Answer {
  return { status: 400, body: `${error instanceof RktError ? error.message : 'the request cannot be understood'}\n` };
}

/** Given once, taken once. */
class Nonces {
  readonly #expiry = new Map<string, number>();
  readonly #lifetimeMs: number;

  constructor(lifetimeMs: number) {
    this.#lifetimeMs = lifetimeMs;
  }

  issue(): string {
    const nonce = randomBytes(NONCE_BYTES).toString('hex');
    this.#expiry.set(nonce, performance.now() + this.#lifetimeMs);
    const oldest = this.#expiry.keys().next();
    if (this.#expiry.size > MAX_NONCES && oldest.done === false) this.#expiry.delete(oldest.value);
    return nonce;
  }

  take(nonce: string): boolean {
    const expiry = this.#expiry.get(nonce);
    this.#expiry.delete(nonce);
    return expiry !== undefined && performance.now() < expiry;
  }
}

function main(): void {
  const file = { type: 'string' } as const;
  const { values } = parseArgs({ options: { secret: file, ca: file, reference: { type: 'string', multiple: true }, policy: file, address: { type: 'string', default: '127.0.0.1' }, port: { type: 'string', default: '8080' } } });
  const { secret, ca, reference = [], policy } = values;
  if (secret === undefined || ca === undefined || reference.length === 0) throw new Error('--secret=FILE, --ca=FILE and --reference=FILE are needed');
  const read = (path: string): string => readFileSync(path, 'utf8');
  const server = verifierServer({
    secret: readFileSync(secret),
    caPem: read(ca),
    references: reference.map((path) => parseReference(read(path), path)),
    ...(policy === undefined ? {} : { policy: parsePolicy(read(policy), policy) }),
    log: console.log,
  });
  server.listen(Number(values.port), values.address, () => console.log(`listening on ${values.address}:${values.port}`));
}

if (import.meta.main) main();
