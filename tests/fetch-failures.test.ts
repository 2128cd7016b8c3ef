/**
 * Everything that can go wrong between a name and the store, as a person sees it: exit status 254, one line that says why,
 * and a store in which not a byte has changed. The program's clock runs a hundred times faster here, so that silence and pauses
 * need not be waited for. What resumes and succeeds is in fetch.test.ts.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { cosignPayload, digestOf, ecKeys, pem, signPayload } from './helpers/cosign.ts';
import { storeContents } from './helpers/fetching.ts';
import { makeGpg } from './helpers/gpg.ts';
import { aciMembers, compress, makeOciLayout, makeTar } from './helpers/make-image.ts';
import type { TarMember, TestCompression } from './helpers/make-image.ts';
import { body, endless, flipped, half, silence, status } from './helpers/misbehaving.ts';
import { makeNamedWeb } from './helpers/named-web.ts';
import type { NamedWeb } from './helpers/named-web.ts';
import { seededRandom } from './helpers/random.ts';
import { changed, registryHandler, registryImage, serve } from './helpers/registry-server.ts';
import type { Handler, TestImage } from './helpers/registry-server.ts';
import { makeHost } from './helpers/rkt.ts';
import type { Host } from './helpers/rkt.ts';

t.jobs = 2;

const NOISE = Buffer.from(seededRandom(1).bytes(300_000));
const LAYERS: TarMember[][] = [[{ path: 'noise', content: NOISE }], [{ path: 'etc/', type: 'directory' }]];
const IMAGE = registryImage({ layers: LAYERS });
const LAYER = IMAGE.manifest.layers[0] ?? { digest: '', size: 0 };
const LAYER_BYTES = IMAGE.blobs.get(LAYER.digest) ?? Buffer.alloc(0);
const ACI = compress(makeTar(aciMembers({ layers: LAYERS })), 'gzip');

/** Told on the way, and what to do about it. */
const BESIDES = /(?:; trying again|; continuing)$|^fetch: (?:sha256:[0-9a-f]{12}|https?:\S+): [\d.]+(?:B|KiB|MiB)$|^ {2}hint: /;

interface Bench {
  host: Host;
  configDir: string;
  /** The command fails, and nothing else happens. */
  refuses(t: Test, name: string, attempt: { args: readonly string[]; env?: Record<string, string>; says: RegExp }): Promise<void>;
}

/** The store has an image already, so that there is something to damage. */
async function makeBench(t: { teardown(action: () => unknown): void }, name: string): Promise<Bench> {
  const host = makeHost(name, { quickClock: true });
  t.teardown(host.close);
  const configDir = join(host.workDir, 'etc');
  mkdirSync(configDir);
  await host.rkt(['fetch', '--keep-layers', makeOciLayout(join(host.workDir, 'sound.oci'))]);
  return {
    host,
    configDir,
    refuses: async (t, name, { args, env = {}, says }) => {
      const before = storeContents(host.dataDir);
      const result = await host.rkt([`--local-config=${configDir}`, `--system-config=${join(host.workDir, 'usr')}`, ...args], { env: { HOME: host.workDir, CONTAINERS_REGISTRIES_CONF: '/nonexistent', ...env } });
      const told = result.stderr.trimEnd().split('\n').filter((line) => !BESIDES.test(line));
      t.equal(result.status, 254, `${name}: ${result.stderr}`);
      t.equal(result.stdout.length, 0);
      t.equal(told.length, 1, `one line: ${told.join(' | ')}`);
      t.match(told[0], /^fetch: /);
      t.match(told[0], says, name);
      t.strictSame(storeContents(host.dataDir), before, 'the store is as it was');
    },
  };
}

function when(text: string, handle: Handler): Handler {
  return (request, response) => (request.url?.includes(text) === true ? handle(request, response) : false);
}

const onLayer = (handle: Handler): Handler => when(LAYER.digest, handle);
const onManifest = (handle: Handler): Handler => when('/manifests/', handle);

t.test('registries', async (t) => {
  const bench = await makeBench(t, 'bad-registry');
  const manifestBytes = IMAGE.blobs.get(IMAGE.digest) ?? Buffer.alloc(0);
  const withManifest = (change: object): Handler => onManifest(body(JSON.stringify({ ...(JSON.parse(String(manifestBytes)) as object), ...change }), { 'content-type': IMAGE.manifest.mediaType }));
  const cases: [name: string, server: { image?: TestImage; handlers?: Handler[]; reference?: string }, says: RegExp][] = [
    ['a changed layer', { image: changed(IMAGE, LAYER.digest, flipped) }, /layer sha256:\w+: wrong digest: expected sha256:\w+, found sha256:\w+$/],
    ['a changed configuration', { image: changed(IMAGE, IMAGE.manifest.config.digest, flipped) }, /wrong digest: expected/],
    ['a changed manifest', { handlers: [withManifest({ layers: [{ ...LAYER, mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip' }] })] }, /the image has 1 layers, its config names 2 \(rootfs\.diff_ids\)$/],
    ['another manifest for a digest', { image: changed(IMAGE, IMAGE.digest, (bytes) => Buffer.concat([bytes, Buffer.from(' ')])), reference: `@${IMAGE.digest}` }, /wrong digest: expected sha256:\w+, found/],
    ['a blob cut short', { image: changed(IMAGE, LAYER.digest, (bytes) => bytes.subarray(0, -1000)) }, /wrong size: expected \d+ bytes, found \d+$/],
    ['a blob that is longer than it should be', { image: changed(IMAGE, LAYER.digest, (bytes) => Buffer.concat([bytes, bytes])) }, /wrong size: expected \d+ bytes, found/],
    ['a manifest that lies about sizes', { handlers: [withManifest({ config: { ...IMAGE.manifest.config, size: 1 } })] }, /wrong size: expected 1 bytes/],
    ['a layer without end', { handlers: [onLayer(endless)] }, /wrong size/],
    ['a manifest without end', { handlers: [onManifest(endless)] }, /larger than 4194304 bytes$/],
    ['redirects in a circle', { handlers: [onLayer(status(307, { location: '?again' }))] }, /more than 10 redirects$/],
    ['a redirect to a file', { handlers: [onLayer(status(302, { location: 'file:///etc/passwd' }))] }, /leads to "file:", which is no web address$/],
    ['429 for ever', { handlers: [onManifest(status(429))] }, /bad HTTP status code: 429$/],
    ['429 for an hour', { handlers: [onManifest(status(429, { 'retry-after': '3600' }))] }, /bad HTTP status code: 429$/],
    ['silence instead of an answer', { handlers: [onManifest(silence)] }, /no answer for 30 seconds$/],
    ['silence in the middle of a layer', { handlers: [onLayer(half(LAYER_BYTES, 'silence'))] }, /no data for 30 seconds$/],
    ['a connection that always drops at the same byte', { handlers: [onLayer(half(LAYER_BYTES, 'drop'))] }, /the connection broke/],
    ['nobody who may ask', { handlers: [status(401)] }, /401: the registry wants to know who is asking$/],
    ['no such image', { reference: ':v2' }, /404 \(NAME_UNKNOWN: not here\)$/],
    ['an error of the server', { handlers: [onManifest(status(500))] }, /bad HTTP status code: 500$/],
    ['no manifest', { handlers: [onManifest(body('<html>'))] }, /is no image manifest/],
    ['a manifest of schema version 1', { handlers: [onManifest(body('{"schemaVersion":1}'))] }, /schema version 1 are not supported/],
    ['a layer from elsewhere', { handlers: [withManifest({ layers: [{ ...LAYER, mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', urls: ['http://127.0.0.1/'] }] })] }, /must be fetched from elsewhere/],
  ];
  for (const [name, { image = IMAGE, handlers = [], reference = ':v1' }, says] of cases) {
    const server = await serve(t, [...handlers, registryHandler(image)]);
    await bench.refuses(t, name, { args: ['--insecure-options=http,image', 'fetch', `docker://${server.host}/app${reference}`], says });
  }
  await bench.refuses(t, 'nobody there', { args: ['fetch', 'docker://127.0.0.1:1/app'], says: /connection refused$/ });
  const plain = await serve(t, [registryHandler(IMAGE)]);
  await bench.refuses(t, 'no TLS', { args: ['--insecure-options=image', 'fetch', `docker://${plain.host}/app:v1`], says: /does not speak TLS/ });
  t.match(await bench.host.rkt(['--insecure-options=http,image', 'fetch', `docker://${plain.host}/app:v1`]), { status: 0 }, 'the same store takes the sound image');
});

t.test('web servers', async (t) => {
  const bench = await makeBench(t, 'bad-web');
  const cases: [name: string, handler: Handler, says: RegExp][] = [
    ['a changed ACI', body(flipped(Buffer.from(ACI))), /truncated or damaged gzip data/],
    ['an ACI cut short', body(ACI.subarray(0, -1000)), /truncated or damaged gzip data/],
    ['fewer bytes than announced', half(ACI, 'drop'), /the connection broke|changed on the server/],
    ['redirects in a circle', status(302, { location: '/a.aci' }), /more than 10 redirects$/],
    ['429 for ever', status(429), /bad HTTP status code: 429$/],
    ['silence instead of an answer', silence, /no answer for 30 seconds$/],
    ['silence in the middle', half(ACI, 'silence'), /no data for 30 seconds$/],
    ['no ACI', body('<html>'), /a\.aci/],
    ['an ACI for another machine', body(compress(makeTar(aciMembers({ layers: LAYERS, architecture: 'arm64' })), 'gzip')), /linux\/amd64 is needed/],
    ['no field name', body(makeTar(aciMembers({ layers: LAYERS, manifest: { name: '' } }))), /manifest: name: /],
  ];
  for (const [name, handler, says] of cases) {
    const server = await serve(t, [handler]);
    await bench.refuses(t, name, { args: ['--insecure-options=http,image', 'fetch', `http://${server.host}/a.aci`], says });
  }
  const server = await serve(t, [body(ACI)]);
  await bench.refuses(t, 'plain http', { args: ['--insecure-options=image', 'fetch', `http://${server.host}/a.aci`], says: /plain http is not allowed/ });
  await bench.refuses(t, 'a signature of nothing', { args: ['--insecure-options=http', 'fetch', `http://${server.host}/a.aci`], says: /a\.aci: image "example\.com\/busybox" verification failed: keystore: no valid signatures found in signature file/ });
});

const NAME = 'example.com/app';
const URL_OF_ACI = 'https://files.example.com/app-1.0.aci';
const PAGE = '<meta name="ac-discovery" content="example.com https://files.example.com/app-{version}.{ext}">';
const LONG_AGO = '20200101T000000';

interface AciOptions {
  version?: string;
  layers?: TarMember[][];
  compression?: TestCompression;
}

function aciNamed(name: string, { version = '1.0', layers = LAYERS, compression = 'gzip' }: AciOptions = {}): Buffer {
  return compress(makeTar(aciMembers({ layers, manifest: { name, labels: [{ name: 'version', value: version }, { name: 'os', value: 'linux' }, { name: 'arch', value: 'amd64' }] } })), compression);
}

t.test('discovery and signatures of ACIs', async (t) => {
  const bench = await makeBench(t, 'bad-discovery');
  const gpg = makeGpg(t);
  const web = await makeNamedWeb(t, ['example.com', 'files.example.com']);
  const good = aciNamed(NAME);
  const file = join(bench.host.workDir, 'signed.aci');
  const signed = (bytes: Buffer, key: string, now?: string): Buffer => {
    writeFileSync(file, bytes);
    return gpg.sign(file, key, now === undefined ? {} : { now });
  };
  const trust = (key: string): void => {
    const directory = join(bench.configDir, 'trustedkeys/prefix.d', NAME);
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, key), gpg.exportKey(key));
  };
  const [key, stranger, revoked, expired] = [gpg.makeKey('Builder <b@example.com>'), gpg.makeKey('Stranger <x@example.com>'), gpg.makeKey('Revoked <r@example.com>', { now: LONG_AGO }), gpg.makeKey('Expired <e@example.com>', { now: LONG_AGO, expires: '1y' })];
  const ofRevoked = signed(good, revoked, '20200601T000000');
  gpg.revoke(revoked);
  for (const trusted of [key, revoked, expired]) trust(trusted);
  const publish = (aci: Buffer, signature: Buffer | undefined): void => {
    web.pages.set('https://example.com', { body: PAGE });
    web.pages.set(URL_OF_ACI, { body: aci });
    if (signature === undefined) web.pages.delete(`${URL_OF_ACI}.asc`);
    else web.pages.set(`${URL_OF_ACI}.asc`, { body: signature });
  };
  const sound = signed(good, key);
  const cases: [name: string, prepare: (pages: NamedWeb['pages']) => void, says: RegExp][] = [
    ['no signature', () => publish(good, undefined), /error downloading the signature file: .*404/],
    ['a signature that is none', () => publish(good, Buffer.from('signed, believe me')), /no valid signatures found in signature file/],
    ['a wrong key', () => publish(good, signed(good, stranger)), /verification failed: openpgp: signature made by unknown entity$/],
    ['a revoked key', () => publish(good, ofRevoked), /signature made by a revoked key/],
    ['an expired key', () => publish(good, signed(good, expired, '20200601T000000')), /signature made by a key that has expired on 2020-12-31/],
    ['a changed ACI', () => publish(aciNamed(NAME, { layers: [LAYERS[1] ?? []] }), sound), /verification failed: openpgp: invalid signature/],
    ['the same files, compressed otherwise', () => publish(aciNamed(NAME, { compression: 'none' }), sound), /verification failed: openpgp: invalid signature/],
    ['another name', () => publish(aciNamed('example.com/other'), signed(aciNamed('example.com/other'), key)), /error when reading the app name: "example\.com\/app" expected but "example\.com\/other" found/],
    ['another version', () => publish(aciNamed(NAME, { version: '0.9' }), signed(aciNamed(NAME, { version: '0.9' }), key)), /requested value for label "version": "1\.0" differs from fetched aci label value: "0\.9"/],
    ['a page that says nothing', (pages) => pages.set('https://example.com', { body: 'hello' }), /discovery failed for "example\.com\/app"/],
    ['no page', (pages) => pages.delete('https://example.com'), /discovery failed for "example\.com\/app"/],
    ['pages in a circle', (pages) => { for (const page of ['https://example.com', 'https://example.com/app']) pages.set(page, { status: 302, headers: { location: '/?ac-discovery=1' }, body: '' }); }, /discovery failed for "example\.com\/app".*more than 10 redirects/],
    ['a page that leads down to plain http', (pages) => pages.set('https://example.com', { body: PAGE.replace('https:', 'http:') }), /plain http is not allowed/],
  ];
  for (const [name, prepare, says] of cases) {
    web.pages.clear();
    publish(good, sound);
    prepare(web.pages);
    await bench.refuses(t, name, { args: ['fetch', `${NAME}:1.0`], env: web.env, says });
  }
  web.pages.clear();
  publish(good, sound);
  await bench.refuses(t, 'an authority nobody knows', { args: ['fetch', `${NAME}:1.0`], env: { ...web.env, NODE_EXTRA_CA_CERTS: '' }, says: /discovery failed .*: the certificate is not trusted: unable to verify the first certificate$/ });
  t.match(await bench.host.rkt([`--local-config=${bench.configDir}`, 'fetch', `${NAME}:1.0`], { env: web.env }), { status: 0 }, 'the same store takes the sound image');
});

t.test('signatures of images of registries', async (t) => {
  const bench = await makeBench(t, 'bad-signed');
  const gpg = makeGpg(t);
  const [signer, stranger] = [gpg.makeKey('Signer <s@example.com>', { algorithm: 'rsa2048' }), gpg.makeKey('Stranger <x@example.com>', { algorithm: 'rsa2048' })];
  const keyPath = join(bench.host.workDir, 'signer.gpg');
  const { privateKey, publicKey } = ecKeys();
  const cosignPath = join(bench.host.workDir, 'cosign.pub');
  writeFileSync(cosignPath, pem(publicKey));
  const other = registryImage({ layers: [LAYERS[1] ?? []] });
  const server = await serve(t, [registryHandler(IMAGE), registryHandler(other, 'other')]);
  const signatures = join(bench.host.workDir, 'signatures');
  mkdirSync(join(bench.configDir, 'registries.d'));
  writeFileSync(join(bench.configDir, 'registries.d/x.yaml'), `docker:\n  ${server.host}:\n    lookaside: file://${signatures}\n`);
  const policy = (requirement: object): void => writeFileSync(join(bench.configDir, 'policy.json'), JSON.stringify({ default: [{ type: 'reject' }], transports: { docker: { [server.host]: [requirement] } } }));
  const simple = { type: 'signedBy', keyType: 'GPGKeys', keyPath };
  const place = (key: string, digest: string, reference: string): void => {
    const payload = JSON.stringify({ critical: { type: 'atomic container signature', image: { 'docker-manifest-digest': digest }, identity: { 'docker-reference': reference } }, optional: {} });
    const directory = join(signatures, `app@${IMAGE.digest.replace(':', '=')}`);
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, 'signature-1'), gpg.run(['--local-user', key, '--output', '-', '--sign'], payload));
  };
  const reference = `${server.host}/app:v1`;
  const refuses = async (name: string, says: RegExp): Promise<void> => bench.refuses(t, name, { args: ['--insecure-options=http', 'fetch', `docker://${reference}`], says });

  policy(simple);
  writeFileSync(keyPath, gpg.exportKey(signer, { armor: false }));
  await refuses('no signature', /a signature was required, but no signature exists/);
  place(stranger, IMAGE.digest, reference);
  await refuses('a wrong key', /openpgp: signature made by unknown entity/);
  place(signer, other.digest, reference);
  await refuses('the signature of another manifest', /signature for digest sha256:[0-9a-f]{64} does not match/);
  place(signer, IMAGE.digest, `${server.host}/app:v2`);
  await refuses('the signature of another name', /signature for identity ".*\/app:v2" is not accepted/);
  place(signer, IMAGE.digest, reference);
  gpg.revoke(signer);
  writeFileSync(keyPath, gpg.exportKey(signer, { armor: false }));
  await refuses('a revoked key', /signature made by a revoked key/);
  policy({ type: 'reject' });
  await refuses('a policy that rejects', /the policy rejects every image of that name/);
  writeFileSync(join(bench.configDir, 'policy.json'), '{');
  await refuses('a policy that is none', /policy\.json/);
  policy({ type: 'sigstoreSigned', keyPath: cosignPath, signedIdentity: { type: 'matchRepository' } });
  await refuses('no cosign signature', /a signature was required, but no signature exists/);

  const attach = (payload: Buffer, key: typeof privateKey): Handler => {
    const { annotations } = signPayload(payload, key);
    const layer = digestOf(payload);
    const manifest = { schemaVersion: 2, mediaType: IMAGE.manifest.mediaType, config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: IMAGE.manifest.config.digest, size: IMAGE.blobs.get(IMAGE.manifest.config.digest)?.length ?? 0 }, layers: [{ mediaType: 'application/vnd.dev.cosign.simplesigning.v1+json', digest: layer, size: payload.length, annotations }] };
    return async (request, response) => when(`${IMAGE.digest.replace(':', '-')}.sig`, body(JSON.stringify(manifest), { 'content-type': IMAGE.manifest.mediaType }))(request, response) || await when(layer, body(payload))(request, response);
  };
  const cosigned = async (name: string, handler: Handler, says: RegExp): Promise<void> => {
    const signedServer = await serve(t, [handler, registryHandler(IMAGE)]);
    writeFileSync(join(bench.configDir, 'policy.json'), JSON.stringify({ default: [{ type: 'sigstoreSigned', keyPath: cosignPath, signedIdentity: { type: 'exactRepository', dockerRepository: 'example.com/app' } }] }));
    await bench.refuses(t, name, { args: ['--insecure-options=http', 'fetch', `docker://${signedServer.host}/app:v1`], says });
  };
  await cosigned('a wrong cosign key', attach(cosignPayload(IMAGE.digest, 'example.com/app'), ecKeys().privateKey), /sigstore: signature verification failed/);
  await cosigned('a cosign signature of another image', attach(cosignPayload(other.digest, 'example.com/app'), privateKey), /signature for digest sha256:[0-9a-f]{64} does not match/);
  await cosigned('a cosign signature of another name', attach(cosignPayload(IMAGE.digest, 'example.com/else'), privateKey), /is not accepted/);
});
