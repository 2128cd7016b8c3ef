/**
 * Fetching from registries and web servers that behave, and from some that do not: one clear error, and a store that is as it
 * was before. Advisories: credentials and redirects (containerd CVE-2020-15157), documents with two meanings
 * (CVE-2021-41190), sizes that lie, bytes used before their digest was known.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import type { Test } from 'tap';
import type { RktError } from '../src/error.ts';
import { ALLOW_ALL, fetchBench, QUICK_RETRY } from './helpers/fetching.ts';
import type { FetchBench } from './helpers/fetching.ts';
import { aciMembers, compress, makeTar } from './helpers/make-image.ts';
import type { TarMember } from './helpers/make-image.ts';
import { body, endless, flipped, half, silence, status } from './helpers/misbehaving.ts';
import { seededRandom } from './helpers/random.ts';
import { answerRange, changed, rangeStart, registryHandler, registryImage, serve } from './helpers/registry-server.ts';
import type { Handler, TestImage } from './helpers/registry-server.ts';

const NOISE = Buffer.from(seededRandom(1).bytes(300_000));
const SMALL: TarMember[] = [{ path: 'etc/', type: 'directory' }, { path: 'etc/hostname', content: 'small\n' }];
const LARGE: TarMember[] = [{ path: 'noise', content: NOISE }];
const IMAGE = registryImage({ layers: [LARGE, SMALL, [{ path: 'etc/.wh.hostname' }]] });
const LAYER = IMAGE.manifest.layers[0] ?? { digest: '', size: 0 };

function pathIs(text: string): (request: { url?: string }) => boolean {
  return ({ url }) => url?.includes(text) === true;
}

const isLayer = pathIs(LAYER.digest);

/** Every failure is one RktError with a message of one line, and leaves nothing in the store. */
async function rejects(t: Test, bench: FetchBench, attempt: Promise<unknown>, expected: { code: string; message?: RegExp | string; hint?: RegExp | string }): Promise<void> {
  const before = bench.contents();
  const error = await attempt.then(() => undefined, (reason: unknown) => reason as RktError);
  t.match(error, { name: 'RktError', ...expected });
  t.notMatch(error?.message ?? '', /\n/, 'one line');
  t.strictSame(bench.contents(), before, 'the store is as it was');
}

t.test('an image of a registry', async (t) => {
  const bench = fetchBench(t);
  const server = await serve(t, [registryHandler(IMAGE)]);
  const parts = new Map<string, number>();
  const image = await bench.fetch(`docker://${server.host}/app:v1`, { onProgress: ({ part, doneBytes }) => parts.set(part ?? '', doneBytes) });
  t.match(image, { name: `127.0.0.1_${server.host.split(':')[1] ?? ''}/app`, labels: { version: 'v1' }, source: 'oci', verifiedBy: [{ kind: 'none', reason: 'insecure-option' }] });
  t.strictSame([...parts].sort(), IMAGE.manifest.layers.map(({ digest, size }) => [digest, size] as [string, number]).sort(), 'progress of each layer, to its end');

  const requests = server.seen.length;
  t.equal((await bench.fetch(`docker://${server.host}/app:v1`)).id, image.id);
  t.equal((await bench.fetch(`docker://${server.host}/app:v1`, { pullPolicy: 'never' })).id, image.id);
  t.equal(server.seen.length, requests, 'the store answers for what it has');
  await bench.fetch(`docker://${server.host}/app:v1`, { pullPolicy: 'update' });
  t.equal(server.count('/blobs/'), 4, 'an update asks for the manifest alone: config and layers are known');
  const pinned = await bench.fetch(`docker://${server.host}/app@${IMAGE.digest}`);
  t.equal(pinned.id, image.id);
  t.ok(pinned.verifiedBy?.some((entry) => entry.kind === 'digest' && entry.digest === IMAGE.digest));
  await rejects(t, bench, bench.fetch(`docker://${server.host}/app:v2`, { pullPolicy: 'never' }), { code: 'NOT_FOUND', message: /app:v2: not in the store$/ });
  await rejects(t, bench, bench.fetch(`docker://${server.host}/app:v2`), { code: 'NOT_FOUND', message: /bad HTTP status code: 404 \(NAME_UNKNOWN: not here\)$/ });
  t.equal(server.seen[0]?.headers['user-agent'], 'rkt/test');
});

t.test('an image nobody vouched for is not taken by someone who wants to know who did', async (t) => {
  const bench = fetchBench(t);
  const server = await serve(t, [registryHandler(IMAGE)]);
  await bench.fetch(`docker://${server.host}/app:v1`);
  const requests = server.seen.length;
  writeFileSync(join(bench.dir, 'policy.json'), '');
  await bench.fetch(`docker://${server.host}/app:v1`, { network: { insecure: { ...ALLOW_ALL, image: false } } }).catch(() => undefined);
  t.ok(server.seen.length > requests, 'it is verified anew');
});

t.test('the platform is chosen from an index', async (t) => {
  const bench = fetchBench(t);
  const platforms = registryImage({ layers: [SMALL], architecture: 'arm64' }, { layers: [SMALL, LARGE], architecture: 'amd64' });
  const server = await serve(t, [registryHandler(platforms)]);
  const url = `docker://${server.host}/app:v1`;
  t.equal((await bench.fetch(url, { platform: { os: 'linux', architecture: 'amd64' } })).labels['arch'], 'amd64');
  t.equal((await bench.fetch(url, { platform: { os: 'linux', architecture: 'arm64' } })).labels['arch'], 'aarch64');
  await rejects(t, bench, bench.fetch(url, { platform: { os: 'linux', architecture: 's390x' } }), { code: 'UNSUPPORTED', message: /linux\/s390x is needed, the image is for linux\/arm64, linux\/amd64$/ });
});

t.test('twenty at once fetch and render once', async (t) => {
  const bench = fetchBench(t);
  const server = await serve(t, [registryHandler(IMAGE)]);
  for (const pullPolicy of ['new', 'update'] as const) {
    const images = await Promise.all(Array.from({ length: 20 }, () => bench.fetch(`docker://${server.host}/app:v1`, { pullPolicy })));
    t.equal(new Set(images.map(({ id }) => id)).size, 1);
    for (const { digest } of IMAGE.manifest.layers) t.equal(server.count(`/blobs/${digest}`), 1);
  }
});

t.test('a connection that is dropped at every tenth is taken up where it broke', async (t) => {
  for (const [name, handler] of [['registry', registryHandler(IMAGE)], ['web server', aciHandler()]] as const) {
    const bench = fetchBench(t);
    const size = name === 'registry' ? LAYER.size : ACI.length;
    const step = Math.ceil(size / 10);
    const sent: [from: number, to: number][] = [];
    const dropping: Handler = (request, response) => {
      if (!(name === 'registry' ? isLayer(request) : pathIs('/a.aci')(request))) return false;
      const from = rangeStart(request);
      const bytes = (name === 'registry' ? IMAGE.blobs.get(LAYER.digest) : ACI) ?? Buffer.alloc(0);
      const to = Math.min(from + step, bytes.length);
      sent.push([from, to]);
      response.writeHead(from === 0 ? 200 : 206, { 'content-length': bytes.length - from, etag: '"same"', ...(from === 0 ? {} : { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` }) });
      response.write(bytes.subarray(from, to), () => (to < bytes.length ? response.socket?.end() : response.end()));
      return true;
    };
    const server = await serve(t, [dropping, handler]);
    const image = await bench.fetch(name === 'registry' ? `docker://${server.host}/app:v1` : `http://${server.host}/a.aci`);
    t.ok(image.id);
    t.equal(sent.length, 10, name);
    sent.forEach(([from], index) => t.equal(from, index === 0 ? 0 : sent[index - 1]?.[1], 'no byte twice'));
  }
});

t.test('a server without ranges sends all again; a file that changed meanwhile is not pieced together', async (t) => {
  const dropOnce = (bytes: Buffer, etag: () => string): Handler => {
    let attempts = 0;
    return (request, response) => {
      if (!isLayer(request) && !pathIs('/a.aci')(request)) return false;
      response.writeHead(200, { 'content-length': bytes.length, etag: etag() });
      if (attempts++ === 0) response.write(bytes.subarray(0, 100_000), () => response.socket?.end());
      else response.end(bytes);
      return true;
    };
  };
  const bench = fetchBench(t);
  const layer = IMAGE.blobs.get(LAYER.digest) ?? Buffer.alloc(0);
  const server = await serve(t, [dropOnce(layer, () => '"same"'), registryHandler(IMAGE)]);
  t.ok((await bench.fetch(`docker://${server.host}/app:v1`)).id);
  let version = 0;
  const changing = await serve(t, [dropOnce(ACI, () => `"${version++}"`)]);
  await rejects(t, bench, bench.fetch(`http://${changing.host}/a.aci`), { code: 'NETWORK', message: /a\.aci: changed on the server while it was downloaded$/ });
});

t.test('servers that misbehave', async (t) => {
  const whenLayer = (handle: Handler): Handler => (request, response) => (isLayer(request) ? handle(request, response) : false);
  const whenManifest = (handle: Handler): Handler => (request, response) => (pathIs('/manifests/')(request) ? handle(request, response) : false);
  const layerBytes = IMAGE.blobs.get(LAYER.digest) ?? Buffer.alloc(0);
  const manifestBytes = IMAGE.blobs.get(IMAGE.digest) ?? Buffer.alloc(0);
  const withManifest = (change: (manifest: Record<string, unknown>) => object): Handler => whenManifest(body(JSON.stringify(change(JSON.parse(String(manifestBytes)) as Record<string, unknown>)), { 'content-type': IMAGE.manifest.mediaType }));
  const cases: [name: string, image: TestImage, handlers: Handler[], expected: { code: string; message?: RegExp; hint?: RegExp }][] = [
    ['a changed layer', changed(IMAGE, LAYER.digest, flipped), [], { code: 'DIGEST', message: /layer sha256:\w+: wrong digest: expected sha256:\w+, found sha256:\w+$/ }],
    ['a changed config', changed(IMAGE, IMAGE.manifest.config.digest, flipped), [], { code: 'DIGEST', message: /wrong digest/ }],
    ['a layer cut short that says so', changed(IMAGE, LAYER.digest, (bytes) => bytes.subarray(0, -1000)), [], { code: 'DIGEST', message: /wrong size: expected \d+ bytes, found \d+$/ }],
    ['a longer layer', changed(IMAGE, LAYER.digest, (bytes) => Buffer.concat([bytes, Buffer.alloc(10)])), [], { code: 'DIGEST', message: /wrong size/ }],
    ['a longer layer of unknown length', IMAGE, [whenLayer((_, response) => { response.writeHead(200); response.write(layerBytes); response.end(Buffer.alloc(100_000)); return true; })], { code: 'DIGEST', message: /wrong size: expected \d+ bytes, found at least \d+$/ }],
    ['a layer without end', IMAGE, [whenLayer(endless)], { code: 'DIGEST', message: /wrong size/ }],
    ['always the same half', IMAGE, [whenLayer(half(layerBytes, 'drop'))], { code: 'NETWORK', message: /the connection broke/ }],
    ['another range than asked for', IMAGE, [whenLayer((request, response) => { response.writeHead(rangeStart(request) === 0 ? 200 : 206, { 'content-length': LAYER.size, 'content-range': `bytes 0-${LAYER.size - 1}/${LAYER.size}` }); response.write(layerBytes.subarray(0, 1000), () => response.socket?.end()); return true; })], { code: 'NETWORK', message: /asked for the bytes from 1000 on, the server sent "bytes 0-/ }],
    ['a range of something larger', IMAGE, [whenLayer((request, response) => { const from = rangeStart(request); response.writeHead(from === 0 ? 200 : 206, from === 0 ? { 'content-length': LAYER.size } : { 'content-range': `bytes ${from}-99/100` }); response.write(layerBytes.subarray(from, from + 1000), () => response.socket?.end()); return true; })], { code: 'DIGEST', message: /wrong size/ }],
    ['silence instead of an answer', IMAGE, [whenManifest(silence)], { code: 'NETWORK', message: /no answer for/ }],
    ['silence in the middle of a layer', IMAGE, [whenLayer(half(layerBytes, 'silence'))], { code: 'NETWORK', message: /no data for/ }],
    ['redirects in a circle', IMAGE, [whenLayer(status(307, { location: '?again' }))], { code: 'NETWORK', message: /more than 10 redirects$/ }],
    ['a redirect to nowhere', IMAGE, [whenLayer(status(302, {}))], { code: 'NETWORK', message: /more than 10 redirects|redirected to nowhere/ }],
    ['a redirect to a file', IMAGE, [whenLayer(status(302, { location: 'file:///etc/passwd' }))], { code: 'NETWORK', message: /leads to "file:", which is no web address$/ }],
    ['too many requests, for an hour', IMAGE, [whenManifest(status(429, { 'retry-after': '3600' }))], { code: 'NETWORK', message: /bad HTTP status code: 429$/, hint: /asks to wait 3600 seconds/ }],
    ['too many requests, for ever', IMAGE, [whenManifest(status(429, { 'retry-after': '0' }))], { code: 'NETWORK', message: /bad HTTP status code: 429$/ }],
    ['an error of the server', IMAGE, [whenManifest(status(500))], { code: 'NETWORK', message: /bad HTTP status code: 500$/ }],
    ['a manifest without end', IMAGE, [whenManifest(endless)], { code: 'LIMIT', message: /larger than 4194304 bytes$/ }],
    ['a manifest that announces too much', IMAGE, [whenManifest((_, response) => { response.writeHead(200, { 'content-length': 1e9 }).write('x'); return true; })], { code: 'LIMIT' }],
    ['no JSON', IMAGE, [whenManifest(body('<html>'))], { code: 'BAD_IMAGE', message: /no image manifest$/ }],
    ['a manifest of schema version 1', IMAGE, [whenManifest(body('{"schemaVersion":1}', { 'content-type': 'application/vnd.docker.distribution.manifest.v1+prettyjws' }))], { code: 'UNSUPPORTED', message: /schema version 1 are not supported$/ }],
    ['schema version 1 under another name', IMAGE, [whenManifest(body('{"schemaVersion":1}'))], { code: 'BAD_IMAGE', message: /schema version 1 are not supported/ }],
    ['a manifest that is also an index', IMAGE, [withManifest((manifest) => ({ ...manifest, manifests: [] }))], { code: 'BAD_IMAGE', message: /must not have a field "manifests"$/ }],
    ['a manifest that calls itself an index', IMAGE, [withManifest((manifest) => ({ ...manifest, mediaType: 'application/vnd.oci.image.index.v1+json' }))], { code: 'BAD_IMAGE', message: /mediaType: expected .*manifest\.v1\+json, found/ }],
    ['a layer from elsewhere', IMAGE, [withManifest((manifest) => ({ ...manifest, layers: [{ ...LAYER, mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', urls: ['http://127.0.0.1/'] }] }))], { code: 'UNSUPPORTED', message: /must be fetched from elsewhere/ }],
    ['a digest that names another', IMAGE, [whenManifest(body(manifestBytes, { 'content-type': IMAGE.manifest.mediaType, 'docker-content-digest': `sha256:${'0'.repeat(64)}` }))], { code: 'DIGEST' }],
    ['wrong sizes in the manifest', IMAGE, [withManifest((manifest) => ({ ...manifest, config: { ...(manifest['config'] as object), size: 1 } }))], { code: 'DIGEST', message: /wrong size/ }],
    ['no answer to who is asking', IMAGE, [status(401)], { code: 'PERMISSION', message: /401: the registry wants to know who is asking$/, hint: /auth\.d/ }],
  ];
  for (const [name, image, handlers, expected] of cases) {
    await t.test(name, async (t) => {
      const bench = fetchBench(t);
      const server = await serve(t, [...handlers, registryHandler(image)]);
      await rejects(t, bench, bench.fetch(`docker://${server.host}/app:v1`, { network: { silenceMs: 200 } }), expected);
      // The same store serves the sound image afterwards.
      const sound = await serve(t, [registryHandler(IMAGE)]);
      t.ok((await bench.fetch(`docker://${sound.host}/app:v1`)).id);
    });
  }
});

t.test('another manifest for a digest', async (t) => {
  const bench = fetchBench(t);
  const server = await serve(t, [registryHandler(changed(IMAGE, IMAGE.digest, (bytes) => Buffer.concat([bytes, Buffer.from(' ')])))]);
  await rejects(t, bench, bench.fetch(`docker://${server.host}/app@${IMAGE.digest}`), { code: 'DIGEST', message: /wrong digest: expected sha256:\w+, found/ });
  const platforms = registryImage({ layers: [SMALL], architecture: 'amd64' }, { layers: [LARGE], architecture: 'arm64' });
  const manifest = [...platforms.blobs].find(([, bytes]) => bytes.includes('"layers"') && bytes.length > 0)?.[0] ?? '';
  const indexed = await serve(t, [registryHandler(changed(platforms, manifest, (bytes) => Buffer.concat([bytes, Buffer.from(' ')])))]);
  await rejects(t, bench, bench.fetch(`docker://${indexed.host}/app:v1`, { platform: { os: 'linux', architecture: 'amd64' } }), { code: 'DIGEST' });
});

t.test('a server that asks for patience gets it', async (t) => {
  const bench = fetchBench(t);
  const refusals = new Map<string, number>();
  const busy: Handler = ({ url }, response) => {
    const count = refusals.get(url ?? '') ?? 0;
    refusals.set(url ?? '', count + 1);
    if (count > 0) return false;
    response.writeHead(429, { 'retry-after': '1' }).end();
    return true;
  };
  const server = await serve(t, [busy, registryHandler(registryImage({ layers: [] }))]);
  const startMs = performance.now();
  t.ok((await bench.fetch(`docker://${server.host}/app:v1`, { network: { insecure: ALLOW_ALL } })).id);
  t.ok(performance.now() - startMs >= 1900, 'a second for the manifest, a second for the config');
});

t.test('nobody is there', async (t) => {
  const bench = fetchBench(t);
  await rejects(t, bench, bench.fetch('docker://127.0.0.1:1/app:v1'), { code: 'NETWORK', message: /connection refused$/ });
  await rejects(t, bench, bench.fetch('https://127.0.0.1:1/a.aci'), { code: 'NETWORK', message: 'https://127.0.0.1:1/a.aci: connection refused' });
});

t.test('credentials stay with the registry they are for', async (t) => {
  const credentials = { rktKind: 'dockerAuth', rktVersion: 'v1', credentials: { user: 'me', password: 'secret' } };
  const wantsBasic: Handler = ({ headers }, response) => {
    if (headers.authorization === `Basic ${Buffer.from('me:secret').toString('base64')}`) return false;
    response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
    return true;
  };
  const storage = await serve(t, [(request, response) => answerRange(request, response, IMAGE.blobs.get(request.url?.slice(1) ?? '') ?? Buffer.alloc(0))]);
  const elsewhere: Handler = ({ url = '' }, response) => {
    if (!url.includes('/blobs/')) return false;
    response.writeHead(307, { location: `http://${storage.host}/${url.split('/blobs/')[1] ?? ''}` }).end();
    return true;
  };
  const bench = fetchBench(t);
  const server = await serve(t, [wantsBasic, elsewhere, registryHandler(IMAGE)]);
  const image = await bench.fetch(`docker://${server.host}/app:v1`, { network: { authConfigs: [{ ...credentials, registries: [server.host] }] } });
  t.ok(image.id);
  t.ok(storage.seen.length >= 4);
  t.ok(storage.seen.every(({ headers }) => headers.authorization === undefined), 'the storage behind a redirect gets none');

  const other = fetchBench(t);
  await rejects(t, other, other.fetch(`docker://${server.host}/app:v1`, { network: { authConfigs: [{ ...credentials, registries: ['example.com'] }] } }), { code: 'PERMISSION', message: /wants to know who is asking$/ });
  await rejects(t, other, other.fetch(`docker://${server.host}/app:v1`, { network: { authConfigs: [{ ...credentials, registries: [server.host], credentials: { user: 'me', password: 'wrong' } }] } }), { code: 'PERMISSION', message: /refuses the credentials$/ });
});

t.test('containerd CVE-2020-15157: only the registry itself may say where tokens come from', async (t) => {
  const thief = await serve(t, [(_, response) => { response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${thief.host}/token",service="x"` }).end(); return true; }]);
  const bench = fetchBench(t);
  const redirecting: Handler = ({ url = '' }, response) => {
    if (!url.includes('/blobs/')) return false;
    response.writeHead(307, { location: `http://${thief.host}${url}` }).end();
    return true;
  };
  const server = await serve(t, [redirecting, registryHandler(IMAGE)]);
  const authConfigs = [{ rktKind: 'dockerAuth', registries: [server.host], credentials: { user: 'me', password: 'secret' } }];
  await rejects(t, bench, bench.fetch(`docker://${server.host}/app:v1`, { network: { authConfigs } }), { code: 'PERMISSION' });
  t.equal(thief.count('/token'), 0);
  t.ok(thief.seen.every(({ headers }) => headers.authorization === undefined));
});

t.test('tokens', async (t) => {
  const tokenServer = await serve(t, [
    (request, response) => {
      const { searchParams } = new URL(request.url ?? '', 'http://x');
      const isKnown = request.headers.authorization === `Basic ${Buffer.from('me:secret').toString('base64')}`;
      response.writeHead(isKnown ? 200 : 401, {}).end(JSON.stringify({ token: `for-${searchParams.get('scope') ?? ''}` }));
      return true;
    },
  ]);
  const wantsToken: Handler = ({ headers }, response) => {
    if (headers.authorization === 'Bearer for-repository:app:pull') return false;
    response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${tokenServer.host}/token",service="registry",scope="repository:app:pull,push"` }).end();
    return true;
  };
  const server = await serve(t, [wantsToken, registryHandler(IMAGE)]);
  const bench = fetchBench(t);
  await rejects(t, bench, bench.fetch(`docker://${server.host}/app:v1`), { code: 'PERMISSION', message: /the token server refuses to serve anybody without credentials/ });
  const auth = (entry: object): void => {
    mkdirSync(join(bench.dir, '.docker'), { recursive: true });
    writeFileSync(join(bench.dir, '.docker/config.json'), JSON.stringify(entry));
  };
  auth({ auths: { [server.host]: { auth: Buffer.from('me:wrong').toString('base64') } } });
  await rejects(t, bench, bench.fetch(`docker://${server.host}/app:v1`), { code: 'PERMISSION', message: /the token server refuses the credentials/ });
  auth({ credHelpers: { [server.host]: 'test' } });
  await rejects(t, bench, bench.fetch(`docker://${server.host}/app:v1`), { code: 'MISSING_DEPENDENCY', message: 'the credential helper docker-credential-test is not installed' });
  writeFileSync(join(bench.dir, 'docker-credential-test'), `#!/bin/sh\nread host; [ "$1" = get ] && [ "$host" = ${server.host} ] && echo '{"ServerURL":"x","Username":"me","Secret":"secret"}'\n`, { mode: 0o755 });
  const requests = tokenServer.seen.length;
  t.ok((await bench.fetch(`docker://${server.host}/app:v1`)).id);
  t.equal(tokenServer.seen.length - requests, 1, 'one token for all');
  t.match(tokenServer.seen.at(-1)?.path, /^\/token\?scope=repository%3Aapp%3Apull&service=registry&account=me$/, 'no more rights are asked for than are needed');
});

t.test('registries.conf: mirrors, other locations, blocked registries, short names', async (t) => {
  const bench = fetchBench(t);
  const empty = await serve(t, []);
  const mirror = await serve(t, [registryHandler(IMAGE, 'mirror/app')]);
  const configure = (text: string): void => writeFileSync(join(bench.dir, 'registries.conf'), text);
  configure(`
[[registry]]
prefix = "example.com"
location = "${empty.host}"
[[registry.mirror]]
location = "${empty.host}/none"
[[registry.mirror]]
location = "${mirror.host}/mirror"
[[registry]]
prefix = "example.com/blocked"
blocked = true
[aliases]
tool = "example.com/app"
`);
  const image = await bench.fetch('docker://example.com/app:v1');
  t.match(image, { name: 'example.com/app', labels: { version: 'v1' } }, 'it keeps the name it was asked for by');
  t.match(bench.messages.join('\n'), /mirror 127\.0\.0\.1:\d+\/none\/app is of no use for docker:\/\/example\.com\/app:v1/);
  await rejects(t, bench, bench.fetch('docker://example.com/blocked/app:v1'), { code: 'PERMISSION', message: /the registry is blocked/ });
  t.equal((await bench.fetch('tool:v1', { pullPolicy: 'update' })).id, image.id);
  await rejects(t, bench, bench.fetch('docker://example.com/other:v1'), { code: 'NOT_FOUND' });
  configure('[[registry]]\nlocation = 3\n');
  await rejects(t, bench, bench.fetch('docker://example.com/app:v2'), { code: 'BAD_INPUT', message: /registries\.conf: registry\[0\]\.location: expected a string, found number 3$/ });
});

t.test('kept layers serve the next fetch', async (t) => {
  const bench = fetchBench(t);
  const server = await serve(t, [registryHandler(IMAGE)]);
  const image = await bench.fetch(`docker://${server.host}/app:v1`, { keepLayers: true });
  for (const { digest } of IMAGE.manifest.layers) t.ok(bench.store.keptBlob(digest));
  bench.store.removeImage(image.id);
  const again = await bench.fetch(`docker://${server.host}/app:v1`);
  t.equal(again.disk.rootHashHex, image.disk.rootHashHex);
  for (const { digest } of IMAGE.manifest.layers) t.equal(server.count(`/blobs/${digest}`), 1);
  bench.store.removeImage(image.id);
  bench.store.keepBlob(LAYER.digest, damagedCopy(bench));
  t.equal((await bench.fetch(`docker://${server.host}/app:v1`)).disk.rootHashHex, image.disk.rootHashHex, 'a damaged one is fetched again');
});

function damagedCopy(bench: FetchBench): string {
  const path = join(bench.dir, 'damaged');
  writeFileSync(path, gzipSync('damaged'));
  return path;
}

const ACI = compress(makeTar(aciMembers({ layers: [LARGE, SMALL] })), 'gzip');

function aciHandler(headers: Record<string, string> = {}): Handler {
  const etag = `"${createHash('sha256').update(ACI).digest('hex')}"`;
  return (request, response) => {
    if (request.url !== '/a.aci') return false;
    if (request.headers['if-none-match'] === etag) {
      response.writeHead(304, { etag, ...headers }).end();
      return true;
    }
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    return answerRange(request, response, ACI);
  };
}

t.test('an ACI of a web server', async (t) => {
  const bench = fetchBench(t);
  const server = await serve(t, [aciHandler()]);
  const url = `http://${server.host}/a.aci`;
  const image = await bench.fetch(url);
  t.match(image, { name: 'example.com/busybox', source: 'aci', verifiedBy: [{ kind: 'none', reason: 'insecure-option' }] });
  const requests = server.seen.length;
  t.equal((await bench.fetch(url)).id, image.id);
  t.equal(server.seen.length, requests);
  t.equal((await bench.fetch(url, { pullPolicy: 'update' })).id, image.id);
  t.ok(server.seen.at(-1)?.headers['if-none-match'], 'an update asks whether it has changed');
  t.equal((await bench.fetch(`cimd:aci-archive:v=0:${encodeURIComponent(url)}`, { pullPolicy: 'never' })).id, image.id);
  const strict = { network: { insecure: { ...ALLOW_ALL, image: false } } };
  await rejects(t, bench, bench.fetch(`http://${server.host}/a.aci?signed`, strict), { code: 'NOT_FOUND', message: 'error downloading the signature file' });
  t.equal(server.count('a.aci.asc'), 1);
  t.equal(server.count('a.aci?signed'), 0, 'without a signature the image is not even asked for');
  await rejects(t, bench, bench.fetch(url, { pullPolicy: 'update', network: { insecure: { ...ALLOW_ALL, http: false } } }), { code: 'NETWORK', message: /plain http is not allowed$/, hint: /--insecure-options=http/ });
});

t.test('an ACI that may be kept for a while is not asked for again', async (t) => {
  const bench = fetchBench(t);
  const server = await serve(t, [aciHandler({ 'cache-control': 'max-age=60' })]);
  const url = `http://${server.host}/a.aci`;
  await bench.fetch(url);
  const log: string[] = [];
  await bench.fetch(url, { pullPolicy: 'update', log: (message) => log.push(message) });
  t.equal(server.count('a.aci'), 1);
  t.ok(log.includes(`image for ${url} isn't expired, not fetching.`));
});

t.test('a server that defers the signature', async (t) => {
  const bench = fetchBench(t);
  let asked = 0;
  const deferring: Handler = (request, response) => {
    if (!pathIs('.asc')(request)) return false;
    response.writeHead(asked++ === 0 ? 202 : 200).end('no signature');
    return true;
  };
  const server = await serve(t, [deferring, aciHandler()]);
  await rejects(t, bench, bench.fetch(`http://${server.host}/a.aci`, { network: { insecure: { ...ALLOW_ALL, image: false } } }), { code: 'BAD_SIGNATURE' });
  t.strictSame(server.seen.map(({ path }) => path), ['/a.aci.asc', '/a.aci', '/a.aci.asc']);
});

t.test('passwords for web servers travel over TLS only', async (t) => {
  const bench = fetchBench(t);
  const server = await serve(t, [aciHandler()]);
  await bench.fetch(`http://${server.host}/a.aci`, { network: { authConfigs: [{ rktKind: 'auth', domains: [server.host], type: 'basic', credentials: { user: 'me', password: 'secret' } }] } });
  t.equal(server.seen[0]?.headers.authorization, undefined);
});

t.test('through a proxy, except where it is not wanted', async (t) => {
  const bench = fetchBench(t);
  const server = await serve(t, [registryHandler(IMAGE)]);
  const proxied: string[] = [];
  const proxy = await serve(t, [async (request, response) => {
    proxied.push(request.url ?? '');
    const target = new URL(request.url ?? '');
    request.url = target.pathname;
    return await registryHandler(IMAGE)(request, response);
  }]);
  const env = { HOME: bench.dir, CONTAINERS_REGISTRIES_CONF: '/nonexistent' };
  await bench.fetch('docker://registry.invalid/app:v1', { network: { env: { ...env, HTTP_PROXY: `http://${proxy.host}` } } });
  t.ok(proxied.includes('http://registry.invalid/v2/app/manifests/v1'));
  const before = proxied.length;
  await bench.fetch(`docker://${server.host}/app:v1`, { network: { env: { ...env, HTTP_PROXY: `http://${proxy.host}`, NO_PROXY: '127.0.0.1' } } });
  t.equal(proxied.length, before);
});

t.test('pauses between attempts', async (t) => {
  const bench = fetchBench(t);
  const server = await serve(t, [(_, response) => { response.writeHead(503).end(); return true; }]);
  await rejects(t, bench, bench.fetch(`docker://${server.host}/app:v1`, { network: { retry: { ...QUICK_RETRY, attempts: 4 } } }), { code: 'NETWORK', message: /503$/ });
  t.equal(server.count('/manifests/'), 4);
  t.equal(bench.messages.filter((message) => message.endsWith('trying again')).length, 3);
});
