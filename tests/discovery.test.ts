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

const PAGE = '<!DOCTYPE html>\n<html><head><title>x</title><meta name="ac-discovery" content="example.com https://files.example.com/{os}/{arch}/{name}-{version}.{ext}"><meta name="ac-discovery-pubkeys" content="example.com https://example.com/keys.gpg"></head><body>hello</body></html>';
const ACI_URL = 'https://files.example.com/linux/amd64/example.com/team/app-1.0.aci';

interface Bench {
  host: Host;
  gpg: Gpg;
  web: NamedWeb;
  configDir: string;
  signer: string;
  /** Publishes an image of that name and version, signed. */
  publish(options?: { version?: string; name?: string; url?: string; signer?: string; content?: string }): void;
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
    publish: ({ version = '1.0', name = 'example.com/team/app', url = ACI_URL, signer: by = signer, content = 'published\n' } = {}) => {
      const labels = [{ name: 'version', value: version }, { name: 'os', value: 'linux' }, { name: 'arch', value: 'amd64' }];
      const file = makeAci(join(host.workDir, 'published.aci'), { layers: [[{ path: 'etc/', type: 'directory' }, { path: 'etc/hostname', content }]], manifest: { name, labels } });
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
