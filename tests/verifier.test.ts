/** The example verifier and its pod: a secret for the pod that was expected, nothing for anybody else. */
import { constants, generateKeyPairSync, privateDecrypt } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { makeClientImage } from '../examples/verifier/make-image.ts';
import { verifierServer, type VerifierOptions } from '../examples/verifier/server.ts';
import { parsePolicy, parseReference, type Reference } from '../src/attest/index.ts';
import { attestationOf } from './helpers/attestation.ts';
import { makeHost } from './helpers/rkt.ts';

const EXAMPLE = join(import.meta.dirname, '../examples/verifier');
/** Where a guest of the user-mode network finds this machine. */
const GATEWAY = '10.0.2.2';
const SECRET = 'open sesame';

const host = makeHost('verifier');
t.teardown(host.close);
const { file, succeed, predict, start } = attestationOf(host);

const image = makeClientImage(file('client.oci'));

interface Service {
  port: number;
  /** What it has logged. */
  lines: string[];
  post(path: string, body?: string): Promise<{ status: number; text: string }>;
}

async function serve(options: Omit<VerifierOptions, 'secret' | 'log' | 'caPem'>): Promise<Service> {
  const lines: string[] = [];
  const caPem = readFileSync((await succeed(['attest', 'init'])).toString().trim(), 'utf8');
  const server = verifierServer({ secret: Buffer.from(SECRET), caPem, log: (line) => lines.push(line), ...options });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  return {
    port,
    lines,
    async post(path, body = '') {
      const response = await fetch(`http://127.0.0.1:${port}${path}`, { method: 'POST', body });
      return { status: response.status, text: await response.text() };
    },
  };
}

const policy = parsePolicy(readFileSync(join(EXAMPLE, 'policy.json'), 'utf8'));

async function referenceFor(name: string, args: readonly string[]): Promise<Reference> {
  return parseReference(readFileSync(await predict(name, args), 'utf8'), name);
}

t.test('an app gets its secret, if its pod is the one that was predicted', async (t) => {
  const references: Reference[] = [];
  const service = await serve({ policy, references });
  const pod = (...flags: readonly string[]): string[] => ['--net=user', ...flags, image, '--exec=/bin/fetch-secret.sh', '--', `http://${GATEWAY}:${service.port}`];
  references.push(await referenceFor('client', pod('--sealed')));

  const expected = await host.rkt(['run', ...pod('--sealed')]);
  t.equal(expected.stdout.toString(), SECRET, expected.stderr);
  t.equal(expected.status, 0);
  t.ok(service.lines.some((line) => /^secret released to pod [0-9a-f-]{36}, which is as in client$/.test(line)));

  const other = await host.rkt(['run', ...pod()]);
  t.match(other.stdout.toString(), /^FAIL {2}Reference .*policy: sealed is false, expected true/m, other.stderr);
  t.notMatch(other.stdout.toString(), SECRET);
  t.not(other.status, 0);
});

t.test('evidence that the host has made', async (t) => {
  const pod = ['--net=none', '--sealed', image, '--exec=/bin/sleep', '--', '600'];
  const references = [await referenceFor('sleeper', pod)];
  const service = await serve({ policy, references });
  const { uuid, ended } = await start(pod);
  const nonce = async (): Promise<string> => (await service.post('/nonce')).text;
  const evidence = async (nonceHex: string, dataHex = ''): Promise<string> => (await succeed(['attest', 'quote', `--nonce=${nonceHex}`, `--data=${dataHex}`, uuid])).toString();

  const first = await nonce();
  const document = await evidence(first);
  t.strictSame(await service.post(`/secret?nonce=${first}`, document), { status: 200, text: SECRET });
  const again = await service.post(`/secret?nonce=${first}`, document);
  t.equal(again.status, 403, 'a nonce is good for one attempt');
  t.match(again.text, /has been used/);
  const replayed = await service.post(`/secret?nonce=${await nonce()}`, document);
  t.equal(replayed.status, 403, 'old evidence for a new nonce');
  t.match(replayed.text, /^FAIL {2}Freshness/m);
  t.equal((await service.post('/secret?nonce=00112233445566778899aabbccddeeff', await evidence('00112233445566778899aabbccddeeff'))).status, 403, 'a nonce of somebody else');
  const hasty = await serve({ policy, references, nonceLifetimeMs: 0 });
  const late = (await hasty.post('/nonce')).text;
  t.match(await hasty.post(`/secret?nonce=${late}`, await evidence(late)), { status: 403, text: /too old/ });
  const failed = await nonce();
  t.equal((await service.post(`/secret?nonce=${failed}`, 'no evidence')).status, 403);
  t.equal((await service.post(`/secret?nonce=${failed}`, await evidence(failed))).status, 403, 'an attempt that fails uses the nonce up');

  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const bound = await nonce();
  const { status, text } = await service.post(`/secret?nonce=${bound}`, await evidence(bound, publicKey.export({ type: 'spki', format: 'der' }).toString('hex')));
  t.equal(status, 200);
  t.equal(privateDecrypt({ key: privateKey, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' }, Buffer.from(text, 'base64')).toString(), SECRET);
  const noKey = await nonce();
  t.match(await service.post(`/secret?nonce=${noKey}`, await evidence(noKey, 'c0ffee')), { status: 400 });

  t.equal((await service.post('/elsewhere')).status, 404);
  t.equal((await fetch(`http://127.0.0.1:${service.port}/nonce`)).status, 405);
  t.equal((await service.post(`/secret?nonce=${await nonce()}`, 'x'.repeat(17 << 20))).status, 400, 'more than is read');
  await host.rkt(['stop', '--force', uuid]);
  await ended;
});
