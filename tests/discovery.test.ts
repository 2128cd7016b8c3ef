/** `rkt fetch NAME`: from a name to a verified image, over https, with keys that the name's own pages tell. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { makeGpg } from './helpers/gpg.ts';
import type { Gpg } from './helpers/gpg.ts';
import { makeAci } from './helpers/make-image.ts';
import { makeNamedWeb } from './helpers/named-web.ts';
import type { NamedWeb } from './helpers/named-web.ts';
import { makeHost } from './helpers/rkt.ts';
import type { Host, RunResult } from './helpers/rkt.ts';
import { makeHelloImage, makeStubStage1 } from './helpers/stub-stage1.ts';

const PAGE = '<!DOCTYPE html>\n<html><head><title>x</title><meta name="ac-discovery" content="example.com https://files.example.com/{os}/{arch}/{name}-{version}.{ext}"><meta name="ac-discovery-pubkeys" content="example.com https://example.com/keys.gpg"></head><body>hello</body></html>';
const ACI_URL = 'https://files.example.com/linux/amd64/example.com/team/app-1.0.aci';

interface Bench {
  host: Host;
  gpg: Gpg;
  web: NamedWeb;
  configDir: string;
  signer: string;
  /** Publishes an image of that name and version, signed. */
  publish(options?: { version?: string; name?: string; url?: string; signer?: string; content?: string; more?: object }): void;
  fetch(args: readonly string[], globals?: readonly string[]): Promise<RunResult>;
}

async function makeBench(t: { teardown(action: () => unknown): void }): Promise<Bench> {
  const host = makeHost('discovery');
  t.teardown(host.close);
  const gpg = makeGpg(t);
  const web = await makeNamedWeb(t, ['example.com', 'files.example.com', 'other.example.com']);
  const configDir = join(host.workDir, 'etc');
  mkdirSync(configDir);
  const signer = gpg.makeKey('Builder <builder@example.com>');
  web.pages.set('https://example.com', { body: PAGE });
  web.pages.set('https://example.com/keys.gpg', { body: gpg.exportKey(signer) });
  return {
    host,
    gpg,
    web,
    configDir,
    signer,
    publish: ({ version = '1.0', name = 'example.com/team/app', url = ACI_URL, signer: by = signer, content = 'published\n', more = {} } = {}) => {
      const labels = [{ name: 'version', value: version }, { name: 'os', value: 'linux' }, { name: 'arch', value: 'amd64' }];
      const file = makeAci(join(host.workDir, 'published.aci'), { layers: [[{ path: 'etc/', type: 'directory' }, { path: 'etc/hostname', content }]], manifest: { name, labels, ...more } });
      web.pages.set(url, { body: readFileSync(file) });
      web.pages.set(`${url}.asc`, { body: gpg.sign(file, by) });
    },
    fetch: (args, globals = []) => host.rkt([`--local-config=${configDir}`, `--system-config=${join(host.workDir, 'usr')}`, ...globals, 'fetch', '--full', ...args], { env: web.env }),
  };
}

t.test('a signed image by its name', async (t) => {
  const bench = await makeBench(t);
  bench.publish();
  const before = bench.host.listing();
  t.match(await bench.fetch(['example.com/team/app:1.0']), { status: 254, stderr: /To trust the key for "example\.com\/team\/app", do one of the following:[^]*openpgp: signature made by unknown entity/ }, 'nobody consented to the key');
  t.strictSame(bench.host.listing().filter((name) => !name.endsWith('/')), before.filter((name) => !name.endsWith('/')), 'the store is as it was');

  const { status, stdout, stderr } = await bench.fetch(['example.com/team/app:1.0'], ['--trust-keys-from-https']);
  t.equal(status, 0, stderr);
  t.match(stdout.toString(), /^sha512-[0-9a-f]{64}\n$/, 'standard output is the ID alone');
  t.match(stderr, /signature verified:\n {2}Builder <builder@example\.com>/);
  const verified = await bench.host.rkt(['image', 'verify', '--format=json', stdout.toString().trim()]);
  t.match(JSON.parse(verified.stdout.toString()), [{ name: 'example.com/team/app:1.0', verified_by: [{ kind: 'openpgp', fingerprint: bench.signer, identity: 'Builder <builder@example.com>', prefix: 'example.com/team/app' }] }]);
  const text = await bench.host.rkt(['image', 'verify', 'example.com/team/app:1.0']);
  t.match(text.stdout.toString(), `  signed with OpenPGP: Builder <builder@example.com>, key ${bench.signer}, trusted for example.com/team/app\n`);

  bench.publish({ version: '1.1', url: ACI_URL.replace('1.0', '1.1') });
  t.match(await bench.fetch(['example.com/team/app:1.1']), { status: 0 }, 'the key is known now');
});

t.test('without a version: what the page calls latest', async (t) => {
  const bench = await makeBench(t);
  bench.publish({ version: '2.0', url: ACI_URL.replace('1.0', 'latest') });
  t.match(await bench.fetch(['example.com/team/app'], ['--trust-keys-from-https']), { status: 0 });
  t.match((await bench.host.rkt(['image', 'list', '--fields=name', '--no-legend'])).stdout.toString(), 'example.com/team/app:2.0');
});

t.test('refused: no signature, wrong signer, changed image, another image, a key for somebody else', async (t) => {
  const bench = await makeBench(t);
  const trusted = ['--trust-keys-from-https'];
  bench.publish();
  t.match(await bench.fetch(['example.com/team/app:1.0'], trusted), { status: 0 });
  await bench.host.rkt(['image', 'rm', 'example.com/team/app:1.0']);
  const before = bench.host.listing();
  const refused = async (message: RegExp, name = 'example.com/team/app:1.0'): Promise<void> => {
    t.match(await bench.fetch([name], trusted), { status: 254, stderr: message }, String(message));
    t.strictSame(bench.host.listing(), before, 'the store is as it was');
  };
  const signature = bench.web.pages.get(`${ACI_URL}.asc`);
  bench.web.pages.delete(`${ACI_URL}.asc`);
  await refused(/error downloading the signature file/);
  t.ok(!bench.web.asked.slice(-1)[0]?.endsWith('.aci'), 'nothing large is asked for without a signature');
  t.match(await bench.fetch(['example.com/team/app:1.0'], ['--insecure-options=image']), { status: 0 });
  await bench.host.rkt(['image', 'rm', 'example.com/team/app:1.0']);

  bench.publish({ signer: bench.gpg.makeKey('Stranger <x@example.com>') });
  await refused(/image "example\.com\/team\/app" verification failed: openpgp: signature made by unknown entity/);
  bench.publish({ content: 'another\n' });
  bench.web.pages.set(`${ACI_URL}.asc`, signature ?? { body: '' });
  await refused(/openpgp: invalid signature/);
  bench.publish({ name: 'example.com/team/other' });
  await refused(/error when reading the app name: .*example\.com\/team\/other/);
  bench.publish({ version: '0.9' });
  await refused(/requested value for label "version": "1\.0" differs from fetched aci label value: "0\.9"/);
  // The key is trusted for example.com/team/app alone.
  const otherUrl = ACI_URL.replace('team/app', 'team/application');
  bench.web.pages.delete('https://example.com/keys.gpg');
  bench.publish({ name: 'example.com/team/application', url: otherUrl });
  await refused(/signature made by unknown entity/, 'example.com/team/application:1.0');
});

t.test('credentials go to their own host only, also behind a redirect', async (t) => {
  const bench = await makeBench(t);
  mkdirSync(join(bench.configDir, 'auth.d'));
  writeFileSync(join(bench.configDir, 'auth.d/files.json'), JSON.stringify({ rktKind: 'auth', rktVersion: 'v1', domains: ['files.example.com'], type: 'basic', credentials: { user: 'me', password: 'secret' } }));
  const moved = 'https://other.example.com/app.aci';
  bench.publish({ url: moved });
  bench.web.pages.set(ACI_URL, { status: 302, headers: { location: moved }, body: '' });
  bench.web.pages.set(`${ACI_URL}.asc`, { status: 302, headers: { location: `${moved}.asc` }, body: '' });
  t.match(await bench.fetch(['example.com/team/app:1.0'], ['--trust-keys-from-https']), { status: 0 });
  const told = bench.web.asked.map((url, index) => [new URL(url).host, bench.web.headers[index]?.authorization !== undefined] as const);
  t.ok(told.some(([host, secret]) => host === 'files.example.com' && secret));
  t.strictSame(told.filter(([host, secret]) => host !== 'files.example.com' && secret), []);
});

t.test('no way down to plain http', async (t) => {
  const bench = await makeBench(t);
  bench.publish({ url: 'http://files.example.com/app.aci' });
  bench.web.pages.set('https://example.com', { body: PAGE.replace('https://files.example.com/{os}/{arch}/{name}-{version}.{ext}', 'http://files.example.com/app.{ext}') });
  t.match(await bench.fetch(['example.com/team/app:1.0'], ['--trust-keys-from-https']), { status: 254, stderr: /plain http is not allowed/ });
  bench.web.pages.set('https://example.com', { status: 302, headers: { location: 'http://example.com/page' }, body: '' });
  bench.web.pages.set('http://example.com/page', { body: PAGE });
  t.match(await bench.fetch(['example.com/team/app:1.0'], ['--trust-keys-from-https']), { status: 254, stderr: /discovery failed for "example\.com\/team\/app".*redirected from .* to plain http/ });
  t.ok(bench.web.asked.every((url) => url.startsWith('https:')));
  bench.web.pages.set('https://example.com', { body: PAGE.replace('https://files.example.com/{os}/{arch}/{name}-{version}.{ext}', 'http://files.example.com/app.{ext}') });
  t.match(await bench.fetch(['example.com/team/app:1.0'], ['--trust-keys-from-https', '--insecure-options=http']), { status: 0 });
});

t.test('images that one depends on are found by their names, too', async (t) => {
  const bench = await makeBench(t);
  const urlOf = (name: string): string => ACI_URL.replace('team/app', name);
  const dependsOn = (...names: string[]): object => ({ dependencies: names.map((name) => ({ imageName: `example.com/${name}`, labels: [{ name: 'version', value: '1.0' }] })) });
  const publish = (name: string, more: object = {}): void => bench.publish({ name: `example.com/${name}`, url: urlOf(name), content: `${name}\n`, more });
  publish('team/base');
  publish('team/lower', dependsOn('team/base'));
  publish('team/top', dependsOn('team/lower'));
  const files = (): string[] => bench.host.listing().filter((path) => /^cas\/image\/[^/]+\.json /.test(path));
  t.match(await bench.fetch(['example.com/team/top:1.0'], ['--trust-keys-from-https']), { status: 0 });
  t.equal(files().length, 3);
  const verified = await bench.host.rkt(['image', 'verify', '--format=json', 'example.com/team/base:1.0', 'example.com/team/lower:1.0', 'example.com/team/top:1.0']);
  for (const { verified_by } of JSON.parse(verified.stdout.toString()) as { verified_by: object[] }[]) t.match(verified_by, [{ kind: 'openpgp', fingerprint: bench.signer }], 'each is verified for itself');
  t.equal(bench.web.asked.filter((url) => url.endsWith('.aci')).length, 3);
  await bench.host.rkt(['image', 'rm', 'example.com/team/top:1.0']);
  t.match(await bench.fetch(['example.com/team/top:1.0']), { status: 0 });
  t.equal(bench.web.asked.filter((url) => url.endsWith('.aci')).length, 4, 'what is in the store is not fetched again');

  for (const name of ['base', 'lower', 'top']) await bench.host.rkt(['image', 'rm', `example.com/team/${name}:1.0`]);
  const before = bench.host.listing();
  bench.publish({ name: 'example.com/team/base', url: urlOf('team/base'), signer: bench.gpg.makeKey('Stranger <x@example.com>') });
  t.match(await bench.fetch(['example.com/team/top:1.0']), { status: 254, stderr: /base-1\.0\.aci: image "example\.com\/team\/base" verification failed: openpgp: signature made by unknown entity/ });
  publish('team/base', dependsOn('team/top'));
  t.match(await bench.fetch(['example.com/team/top:1.0']), { status: 254, stderr: /recursion error, image .* already referenced by a parent image/ });
  bench.web.pages.delete(urlOf('team/base'));
  t.match(await bench.fetch(['example.com/team/top:1.0']), { status: 254, stderr: /base-1\.0\.aci: bad HTTP status code: 404/ });
  t.strictSame(bench.host.listing(), before, 'the store is as it was');
});

t.test('a stage1 image of a web server', async (t) => {
  const bench = await makeBench(t);
  const { host, web, gpg } = bench;
  const stage1Url = 'https://files.example.com/stage1.aci';
  const file = makeStubStage1(join(host.workDir, 'stage1.aci'));
  const hello = makeHelloImage(join(host.workDir, 'hello.aci'));
  const prepare = (globals: readonly string[] = [], url = stage1Url): Promise<RunResult> => host.rkt([`--local-config=${bench.configDir}`, `--system-config=${join(host.workDir, 'usr')}`, ...globals, 'prepare', `--stage1-url=${url}`, hello], { env: web.env });
  const ofStore = (): string[] => host.listing().filter((path) => path.startsWith('cas/') && !path.endsWith('/'));
  web.pages.set(stage1Url, { body: readFileSync(file) });
  const before = ofStore();
  t.match(await prepare(), { status: 254, stderr: /^prepare: error downloading the signature file: https:\/\/files\.example\.com\/stage1\.aci\.asc: bad HTTP status code: 404\n/ });
  web.pages.set(`${stage1Url}.asc`, { body: gpg.sign(file, bench.signer) });
  t.match(await prepare(), { status: 254, stderr: /stage1\.aci: image "example\.com\/stage1-stub" verification failed: openpgp: signature made by unknown entity/ });
  t.match(await prepare([], 'http://files.example.com/stage1.aci'), { status: 254, stderr: /plain http is not allowed/ });
  t.match(await prepare([], 'docker://files.example.com/stage1'), { status: 254, stderr: /expected a URL with https, http or file/ });
  t.strictSame(ofStore(), before, 'the store is as it was');

  const key = join(host.workDir, 'key.asc');
  writeFileSync(key, gpg.exportKey(bench.signer));
  await host.rkt([`--local-config=${bench.configDir}`, 'trust', '--prefix=example.com/stage1-stub', '--skip-fingerprint-review', key]);
  const prepared = await prepare();
  t.equal(prepared.status, 0, prepared.stderr);
  t.match((await host.rkt(['run-prepared', prepared.stdout.toString().trim()])).stdout.toString(), 'argv0: stage1/rootfs/run');
  const asked = web.asked.length;
  t.match(await prepare(), { status: 0 });
  t.equal(web.asked.length, asked, 'the store has it');
  mkdirSync(join(bench.configDir, 'stage1.d'));
  writeFileSync(join(bench.configDir, 'stage1.d/x.json'), JSON.stringify({ rktKind: 'stage1', rktVersion: 'v1', location: stage1Url }));
  t.match(await host.rkt([`--local-config=${bench.configDir}`, 'prepare', hello], { env: web.env }), { status: 0 }, 'configured instead of named');
  t.equal(web.asked.length, asked);
});

t.test('--signature for a file of this machine', async (t) => {
  const bench = await makeBench(t);
  const file = makeAci(join(bench.host.workDir, 'local.aci'));
  const signature = join(bench.host.workDir, 'local.aci.asc');
  writeFileSync(signature, bench.gpg.sign(file, bench.signer));
  t.match(await bench.fetch([file, `--signature=${signature}`]), { status: 254, stderr: /local\.aci: image "example\.com\/busybox" verification failed: openpgp: signature made by unknown entity/ });
  const key = join(bench.host.workDir, 'key.asc');
  writeFileSync(key, bench.gpg.exportKey(bench.signer));
  t.match(await bench.host.rkt([`--local-config=${bench.configDir}`, 'trust', '--root', '--skip-fingerprint-review', key]), { status: 0 });
  const { status, stderr } = await bench.fetch([file, `--signature=${signature}`]);
  t.equal(status, 0, stderr);
  const verified = await bench.host.rkt(['image', 'verify', 'example.com/busybox']);
  t.match(verified.stdout.toString(), /signed with OpenPGP: Builder <builder@example\.com>, key [0-9a-f]{40}, trusted for all images/);
  t.match(await bench.fetch([file, '--signature=/missing']), { status: 254, stderr: /error opening signature file/ });
});
