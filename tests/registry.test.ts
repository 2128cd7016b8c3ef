/** Fetching from a real registry (Debian's docker-registry), filled by skopeo: TLS with an authority of its own, passwords, tokens, a pod. */
import { execFileSync } from 'node:child_process';
import { createHash, createSign, X509Certificate } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { copyImage, startDockerRegistry } from './helpers/docker-registry.ts';
import { ALLOW_ALL, fetchBench } from './helpers/fetching.ts';
import { busyboxMembers, makeOciLayout } from './helpers/make-image.ts';
import { seededRandom } from './helpers/random.ts';
import { registryHandler, registryImage, serve } from './helpers/registry-server.ts';
import type { Handler } from './helpers/registry-server.ts';
import { makeHost, PROGRAM } from './helpers/rkt.ts';
import { makeStubStage1 } from './helpers/stub-stage1.ts';
import { onTerminal } from './helpers/terminal.ts';

const LAYERS = [busyboxMembers(), [{ path: 'etc/motd', content: 'x\n' }], [{ path: 'etc/.wh.motd' }]];
const SECURE = { ...ALLOW_ALL, http: false };

interface Certificates {
  ca: string;
  cert: string;
  key: string;
}

/** An authority and a certificate for 127.0.0.1. */
function makeCertificates(dir: string): Certificates {
  mkdirSync(dir, { recursive: true });
  const path = (name: string): string => join(dir, name);
  const openssl = (...args: string[]): void => void execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=test authority', '-keyout', path('ca.key'), '-out', path('ca.crt'));
  openssl('req', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=127.0.0.1', '-keyout', path('server.key'), '-out', path('server.csr'));
  writeFileSync(path('extensions'), 'subjectAltName=IP:127.0.0.1');
  openssl('x509', '-req', '-in', path('server.csr'), '-CA', path('ca.crt'), '-CAkey', path('ca.key'), '-CAcreateserial', '-days', '2', '-extfile', path('extensions'), '-out', path('server.crt'));
  return { ca: path('ca.crt'), cert: path('server.crt'), key: path('server.key') };
}

t.test('plain: the image is the one skopeo pushed, in both of its formats', async (t) => {
  const bench = fetchBench(t);
  const { host } = await startDockerRegistry(t);
  const layout = makeOciLayout(join(bench.dir, 'a.oci'), { layers: LAYERS, reference: 'v1' });
  const local = await bench.fetch(`oci:${layout}`);
  bench.store.removeImage(local.id);
  await copyImage('--dest-tls-verify=false', `oci:${layout}:v1`, `docker://${host}/team/app:v1`);
  const image = await bench.fetch(`docker://${host}/team/app:v1`);
  t.equal(image.id, local.id, 'the same image from a layout and from a registry');
  t.equal(image.disk.rootHashHex, local.disk.rootHashHex);
  await copyImage('--dest-tls-verify=false', '--format=v2s2', `oci:${layout}:v1`, `docker://${host}/team/app:docker`);
  const docker = await bench.fetch(`docker://${host}/team/app:docker`);
  t.match(docker, { source: 'docker', labels: { version: 'docker' } });
  t.equal(docker.disk.rootHashHex, local.disk.rootHashHex);
  const digest = execFileSync('skopeo', ['inspect', '--tls-verify=false', '--format={{.Digest}}', `docker://${host}/team/app:v1`], { encoding: 'utf8' }).trim();
  t.equal((await bench.fetch(`docker://${host}/team/app@${digest}`)).id, local.id);
  const before = bench.contents();
  await t.rejects(bench.fetch(`docker://${host}/team/app:missing`), { code: 'NOT_FOUND', message: /404 \(MANIFEST_UNKNOWN: manifest unknown\)$/ });
  await t.rejects(bench.fetch(`docker://${host}/team/app:v1`, { pullPolicy: 'update', network: { insecure: SECURE } }), { code: 'NETWORK', message: /does not speak TLS/ });
  t.strictSame(bench.contents(), before);
});

t.test('TLS with an authority of its own, and passwords', async (t) => {
  const bench = fetchBench(t);
  const tls = makeCertificates(join(bench.dir, 'tls'));
  const passwords = join(bench.dir, 'htpasswd');
  writeFileSync(passwords, execFileSync('htpasswd', ['-nbB', 'me', 'secret']));
  const { host } = await startDockerRegistry(t, { tls, auth: { htpasswd: { realm: 'test', path: passwords } } });
  const layout = makeOciLayout(join(bench.dir, 'a.oci'), { layers: LAYERS, reference: 'v1' });
  await copyImage('--dest-tls-verify=false', '--dest-creds=me:secret', `oci:${layout}:v1`, `docker://${host}/app:v1`);
  const url = `docker://${host}/app:v1`;
  const before = bench.contents();
  await t.rejects(bench.fetch(url, { network: { insecure: SECURE } }), { code: 'NETWORK', message: /the certificate is not trusted/, hint: /certs\.d/ });
  await t.rejects(bench.fetch(url, { network: { insecure: ALLOW_ALL } }), { code: 'NETWORK', message: /the certificate is not trusted/ }, 'leave to use plain http is none to accept any certificate');

  const certs = join(bench.dir, 'config/certs.d', host);
  mkdirSync(certs, { recursive: true });
  writeFileSync(join(certs, 'ca.crt'), readFileSync(tls.ca));
  await t.rejects(bench.fetch(url, { network: { insecure: SECURE } }), { code: 'PERMISSION', message: /401: the registry wants to know who is asking$/ });
  const network = (password: string): object => ({ insecure: SECURE, authConfigs: [{ rktKind: 'dockerAuth', rktVersion: 'v1', registries: [host], credentials: { user: 'me', password } }] });
  await t.rejects(bench.fetch(url, { network: network('wrong') }), { code: 'PERMISSION', message: /refuses the credentials$/ });
  t.strictSame(bench.contents(), before);
  t.ok((await bench.fetch(url, { network: network('secret') })).id);
  writeFileSync(join(certs, 'ca.crt'), 'no certificate');
  await t.rejects(bench.fetch(url, { pullPolicy: 'update', network: network('secret') }), { code: 'BAD_INPUT', message: /ca\.crt: not a certificate in PEM form$/ });

  writeFileSync(join(certs, 'ca.crt'), readFileSync(tls.ca));
  execFileSync('skopeo', ['login', '--tls-verify=false', '--authfile', join(bench.dir, 'auth.json'), '-u', 'me', '-p', 'secret', host], { stdio: 'ignore' });
  const env = { HOME: bench.dir, REGISTRY_AUTH_FILE: join(bench.dir, 'auth.json'), CONTAINERS_REGISTRIES_CONF: '/nonexistent' };
  t.ok((await bench.fetch(url, { pullPolicy: 'update', network: { insecure: SECURE, env } })).id, 'what `skopeo login` wrote');
  const other = fetchBench(t);
  t.ok((await other.fetch(url, { network: { insecure: { ...SECURE, tls: true }, env } })).id, '--insecure-options=tls');
});

t.test('tokens of a token server', async (t) => {
  const bench = fetchBench(t);
  const tls = makeCertificates(join(bench.dir, 'tls'));
  const asked: string[] = [];
  const tokens = await serve(t, [
    (request, response) => {
      const { searchParams } = new URL(request.url ?? '', 'http://x');
      asked.push(request.url ?? '');
      if (request.headers.authorization !== `Basic ${Buffer.from('me:secret').toString('base64')}`) response.writeHead(401).end();
      else response.end(JSON.stringify({ token: makeToken(tls, searchParams) }));
      return true;
    },
  ], { key: readFileSync(tls.key, 'utf8'), cert: readFileSync(tls.cert, 'utf8') });
  const { host } = await startDockerRegistry(t, { tls, auth: { token: { realm: `https://${tokens.host}/token`, service: 'test registry', issuer: 'test', rootcertbundle: tls.cert } } });
  const layout = makeOciLayout(join(bench.dir, 'a.oci'), { layers: LAYERS, reference: 'v1' });
  await copyImage('--dest-tls-verify=false', '--dest-creds=me:secret', `oci:${layout}:v1`, `docker://${host}/app:v1`);
  for (const server of [host, tokens.host]) {
    mkdirSync(join(bench.dir, 'config/certs.d', server), { recursive: true });
    writeFileSync(join(bench.dir, 'config/certs.d', server, 'ca.crt'), readFileSync(tls.ca));
  }
  const authConfigs = [{ rktKind: 'dockerAuth', rktVersion: 'v1', registries: [host], credentials: { user: 'me', password: 'secret' } }];
  asked.length = 0;
  t.ok((await bench.fetch(`docker://${host}/app:v1`, { network: { insecure: SECURE, authConfigs } })).id);
  t.equal(asked.length, 1, 'one token for manifest, config and layers');
  await t.rejects(fetchBench(t).fetch(`docker://${host}/app:v1`, { network: { insecure: { ...SECURE, tls: true } } }), { code: 'PERMISSION', message: /token server refuses/ });
});

/** What the registry accepts: a JWT of the scope asked for, with the certificate in its header (distribution-spec, "JWT authentication"). */
function makeToken(tls: Certificates, asked: URLSearchParams): string {
  const nowSeconds = Math.floor(Date.now() / 1000);
  const access = asked.getAll('scope').map((scope) => {
    const [type, name, actions = ''] = scope.split(':');
    return { type, name, actions: actions.split(',') };
  });
  const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const x5c = [new X509Certificate(readFileSync(tls.cert)).raw.toString('base64')];
  const claims = { iss: 'test', sub: 'me', aud: asked.get('service'), exp: nowSeconds + 300, nbf: nowSeconds - 10, iat: nowSeconds, jti: createHash('sha256').update(String(asked)).digest('hex'), access };
  const text = `${encode({ typ: 'JWT', alg: 'RS256', x5c })}.${encode(claims)}`;
  return `${text}.${createSign('sha256').update(text).sign(readFileSync(tls.key)).toString('base64url')}`;
}

t.test('rkt fetch and rkt run of an image of a registry', async (t) => {
  const bench = fetchBench(t);
  const { host } = await startDockerRegistry(t);
  const layout = makeOciLayout(join(bench.dir, 'a.oci'), { layers: LAYERS, reference: 'v1' });
  await copyImage('--dest-tls-verify=false', `oci:${layout}:v1`, `docker://${host}/app:v1`);
  const machine = makeHost('registry');
  t.teardown(machine.close);
  const env = { HOME: machine.workDir, XDG_RUNTIME_DIR: undefined };
  const before = machine.listing();
  const refused = await machine.rkt(['fetch', `docker://${host}/app:v1`], { env });
  t.equal(refused.status, 254);
  t.match(refused.stderr, /^fetch: https:\/\/127\.0\.0\.1:\d+\/v2\/app\/manifests\/v1: the server does not speak TLS, or not in a way that is accepted\n$/);
  t.strictSame(machine.listing().filter((path) => !path.endsWith('/')), before);

  const fetched = await machine.rkt(['--insecure-options=http,image', 'fetch', '--full', `docker://${host}/app:v1`], { env });
  t.equal(fetched.status, 0, fetched.stderr);
  t.match(fetched.stdout.toString(), /^sha512-[0-9a-f]{64}\n$/);
  t.match(fetched.stderr, /^fetch: sha256:[0-9a-f]{12}: [\d.]+(B|KiB|MiB)$/m, 'a line for each layer');
  const events = await machine.rkt(['--insecure-options=http,image', 'image', 'fetch', '--format=json', '--keep-layers', `docker://${host}/app:v1`], { env });
  const lines = events.stdout.toString().trim().split('\n').map((line) => JSON.parse(line) as { event: string; id?: string; doneBytes?: number; totalBytes?: number });
  t.match(lines.at(-1), { event: 'image', id: fetched.stdout.toString().trim() });
  t.ok(lines.filter(({ event, doneBytes, totalBytes }) => event === 'progress' && doneBytes === totalBytes).length === LAYERS.length, 'each layer to its end');

  const ran = await machine.rkt(['--insecure-options=http,image', 'run', '--net=none', `docker://${host}/app:v1`, '--exec', '/bin/sh', '--', '-c', 'echo from a registry; ls /etc/motd'], { env });
  t.equal(ran.stdout.toString(), 'from a registry\n');
  t.equal(ran.status, 1, 'the upper layer has taken the file away');
});

t.test('twenty processes that want the same new image fetch and render it once', async (t) => {
  const image = registryImage({ layers: LAYERS });
  const server = await serve(t, [registryHandler(image)]);
  const machine = makeHost('registry-many');
  t.teardown(machine.close);
  const env = { HOME: machine.workDir, XDG_RUNTIME_DIR: undefined };
  const stage1 = `--stage1-path=${makeStubStage1(join(machine.workDir, 'stub.aci'))}`;
  const url = `docker://${server.host}/app:v1`;
  const commands = Array.from({ length: 20 }, (_, index) => (index % 2 === 0 ? ['fetch', '--full', url] : ['prepare', stage1, url]));
  const results = await Promise.all(commands.map((command) => machine.rkt(['--insecure-options=http,image', ...command], { env })));
  for (const { status, stderr } of results) t.equal(status, 0, stderr);
  t.equal(new Set(results.filter((_, index) => index % 2 === 0).map(({ stdout }) => stdout.toString())).size, 1);
  for (const digest of [image.manifest.config.digest, ...image.manifest.layers.map((layer) => layer.digest)]) t.equal(server.count(`/blobs/${digest}`), 1);
  t.equal(results.filter(({ stderr }) => stderr.includes('fetch: sha256:') || stderr.includes('prepare: sha256:')).length, 1, 'one of them has told of layers');
  const listing = machine.listing();
  t.equal(listing.filter((path) => /^cas\/tree\/[^/]+\/disk /.test(path)).length, 1);
  t.strictSame(listing.filter((path) => /^cas\/(?:tmp|locks)\/./.test(path)), [], 'nothing unfinished, no lock is left');
});

t.test('progress on a terminal: a line for each layer that is under way, a line for each that is complete', async (t) => {
  const image = registryImage({ layers: [[{ path: 'a', content: Buffer.from(seededRandom(1).bytes(200_000)) }], [{ path: 'b', content: Buffer.from(seededRandom(2).bytes(200_000)) }]] });
  const slowly: Handler = ({ url = '' }, response) => {
    const digest = image.manifest.layers.map((layer) => layer.digest).find((candidate) => url.includes(candidate));
    const bytes = image.blobs.get(digest ?? '');
    if (bytes === undefined) return false;
    response.writeHead(200, { 'content-length': bytes.length });
    const pieces = 10;
    for (let piece = 0; piece < pieces; piece++) {
      const part = bytes.subarray(Math.floor((piece * bytes.length) / pieces), Math.floor(((piece + 1) * bytes.length) / pieces));
      setTimeout(() => (piece + 1 < pieces ? response.write(part) : response.end(part)), piece * 150);
    }
    return true;
  };
  const server = await serve(t, [slowly, registryHandler(image)]);
  const machine = makeHost('registry-terminal');
  t.teardown(machine.close);
  const { status, screen } = await onTerminal([PROGRAM, `--dir=${machine.dataDir}`, '--insecure-options=http,image', 'fetch', '--full', `docker://${server.host}/app:v1`], [], { HOME: machine.workDir });
  t.equal(status, 0, screen);
  const [first = '', second = ''] = image.manifest.layers.map(({ digest }) => digest.slice(0, 'sha256:'.length + 12));
  t.match(screen, new RegExp(`${first}: [1-9]\\d?% of 19\\dKiB\n${second}: [1-9]\\d?% of 19\\dKiB`), 'both at a time');
  for (const layer of [first, second]) t.match(screen, new RegExp(`${layer}: 19\\dKiB\n`));
  // What a person sees in the end: cursor movements carried out.
  t.match(shown(screen), new RegExp(`^(?:sha256:[0-9a-f]{12}: 19\\dKiB\n){2}sha512-[0-9a-f]{64}\n$`));
});

/** The screen after "to the beginning of the line", "clear it" and "a line up". */
function shown(output: string): string {
  const lines = [''];
  let row = 0;
  for (const [token] of output.replace(/^.*?\r(?=\x1b\[K)/, '').matchAll(/\r|\n|\x1b\[K|\x1b\[A|[^\r\n\x1b]+/g)) {
    if (token === '\n') lines[++row] ??= '';
    else if (token === '\x1b[A') row--;
    else if (token === '\x1b[K') lines[row] = '';
    else if (token !== '\r') lines[row] += token;
  }
  return lines.join('\n');
}
