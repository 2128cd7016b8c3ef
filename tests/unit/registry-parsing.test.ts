/** What registries, their configuration and their headers say, sound and broken. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { RktError } from '../../src/error.ts';
import { requireDockerReference } from '../../src/image/docker-reference.ts';
import { maxAgeOf, signatureUrlOf } from '../../src/image/fetch-aci.ts';
import { parseRetryAfter, pauseMs, TransientFailure } from '../../src/image/http/retry.ts';
import { parseImageString } from '../../src/image/index.ts';
import { parseChallenges } from '../../src/image/registry/challenge.ts';
import { domainCredentials, registryCredentials } from '../../src/image/registry/credentials.ts';
import { endpointsOf } from '../../src/image/registry/endpoints.ts';
import { NO_REGISTRIES_CONF, parseRegistriesConf, readRegistriesConf } from '../../src/image/registry/registries-conf.ts';
import { parseOciConfig, parseOciIndex, parseOciManifest } from '../../src/schema/oci.ts';
import { fuzzForLong } from '../helpers/fuzz.ts';
import { seededRandom } from '../helpers/random.ts';
import type { SeededRandom } from '../helpers/random.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';

t.test('WWW-Authenticate', async (t) => {
  const cases: [string, [string, Record<string, string>][]][] = [
    ['Bearer realm="https://a/token",service="a b",scope="x:y:pull,push"', [['bearer', { realm: 'https://a/token', service: 'a b', scope: 'x:y:pull,push' }]]],
    ['bearer realm=bare', [['bearer', { realm: 'bare' }]]],
    ['Basic realm="with \\"quotes\\""', [['basic', { realm: 'with "quotes"' }]]],
    ['Basic realm="a", Bearer realm="b", service="c"', [['basic', { realm: 'a' }], ['bearer', { realm: 'b', service: 'c' }]]],
    ['Negotiate, Basic realm="x"', [['basic', { realm: 'x' }]]],
    ['Basic', [['basic', {}]]],
    ['', []],
    ['"', []],
    ['x'.repeat(9000), []],
  ];
  for (const [header, expected] of cases) {
    const parsed = parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);
    t.strictSame(parsed.filter(([scheme]) => scheme !== 'negotiate'), expected, header.slice(0, 60));
  }
});

t.test('Retry-After, and how long to wait', async (t) => {
  const nowMs = Date.parse('2024-01-01T00:00:00Z');
  t.equal(parseRetryAfter('120', nowMs), 120_000);
  t.equal(parseRetryAfter('Mon, 01 Jan 2024 00:00:05 GMT', nowMs), 5000);
  t.equal(parseRetryAfter('Mon, 01 Jan 2020 00:00:05 GMT', nowMs), 0);
  for (const text of [undefined, '', 'soon', '-1', '1e9x']) t.equal(parseRetryAfter(text, nowMs), undefined);
  const policy = { attempts: 9, firstPauseMs: 100, longestPauseMs: 1000, longestRetryAfterMs: 5000 };
  const failure = (retryAfterMs?: number): TransientFailure => new TransientFailure(new RktError('NETWORK', 'x'), retryAfterMs);
  for (const [attempt, around] of [[1, 100], [2, 200], [3, 400], [7, 1000]] as const) {
    const pause = pauseMs(policy, attempt, failure());
    t.ok(pause >= around * 0.74 && pause <= around * 1.26, `${attempt}: ${pause}`);
  }
  t.equal(pauseMs(policy, 1, failure(3000)), 3000);
  t.throws(() => pauseMs(policy, 1, failure(6000)), { code: 'NETWORK', hint: 'the server asks to wait 6 seconds' });
});

t.test('Cache-Control, and where a signature is', async (t) => {
  for (const [header, expected] of [['max-age=60', 60], ['public, MAX-AGE="5"', 5], ['no-cache, max-age=60', 0], ['no-store', 0], ['public', undefined], [undefined, undefined], ['max-age=-1', undefined]] as const) t.equal(maxAgeOf(header), expected, header ?? 'none');
  t.equal(signatureUrlOf('https://a/b.aci'), 'https://a/b.aci.asc');
  t.equal(signatureUrlOf('https://a/b.aci?token=x'), 'https://a/b.aci.asc?token=x');
});

t.test('registries.conf', async (t) => {
  const conf = await parseRegistriesConf(`
unqualified-search-registries = ["a.example", "b.example"]
[[registry]]
prefix = "*.example.com"
insecure = true
[[registry]]
prefix = "quay.io/team"
location = "mirror.local:5000/quay-team/"
mirror-by-digest-only = true
[[registry.mirror]]
location = "m.local"
[[registry.mirror]]
location = "t.local"
pull-from-mirror = "tag-only"
insecure = true
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "hub.local"
[[registry]]
prefix = "quay.io/team/bad"
blocked = true
[aliases]
tool = "quay.io/team/tool"
`, 'x.conf');
  t.strictSame(conf.searchRegistries, ['a.example', 'b.example']);
  t.strictSame(conf.aliases, { tool: 'quay.io/team/tool' });
  const digest = `sha256:${'0'.repeat(64)}`;
  const cases: [string, string[]][] = [
    ['quay.io/team/app:1', ['t.local/app!', 'mirror.local:5000/quay-team/app']],
    [`quay.io/team/app@${digest}`, ['m.local/app', 'mirror.local:5000/quay-team/app']],
    ['quay.io/teamwork/app', ['quay.io/teamwork/app']],
    ['x.example.com/app', ['x.example.com/app!']],
    ['x.example.com:5000/app', ['x.example.com:5000/app!']],
    ['example.com/app', ['example.com/app']],
    ['busybox', ['hub.local/library/busybox', 'registry-1.docker.io/library/busybox']],
  ];
  for (const [name, expected] of cases) {
    t.strictSame(endpointsOf(requireDockerReference(name, name), conf).map(({ host, repository, insecure }) => `${host}/${repository}${insecure ? '!' : ''}`), expected, name);
  }
  t.throws(() => endpointsOf(requireDockerReference('quay.io/team/bad/x', ''), conf), { code: 'PERMISSION', message: 'quay.io/team/bad/x: the registry is blocked (registries.conf, prefix "quay.io/team/bad")' });
  const refused: [string, RegExp][] = [
    ['[[registry]]', /registry\[0\]: neither prefix nor location is set$/],
    ['[[registry]]\nprefix="a.*"', /wildcard/],
    ['[[registry]]\nprefix="*.a/b"', /wildcard/],
    ['[[registry]]\nlocation="https://a"', /without a scheme$/],
    ['[[registry]]\nprefix="a"', /location: expected where "a" really is$/],
    ['[[registry]]\nlocation="a"\n[[registry.mirror]]', /mirror\[0\]: location is missing$/],
    ['[registries.search]\nregistries=["a"]', /version 1 of this file/],
    ['x = ', /^x\.conf: not valid TOML: /],
    ['unqualified-search-registries = "a"', /unqualified-search-registries: expected a list/],
  ];
  for (const [text, message] of refused) await t.rejects(parseRegistriesConf(text, 'x.conf'), { code: 'BAD_INPUT', message }, text);

  const dir = scratchDir(t, 'registries');
  mkdirSync(join(dir, 'd'));
  writeFileSync(join(dir, 'main'), 'unqualified-search-registries = ["a"]\n[[registry]]\nlocation="x"\n[aliases]\none="a/one"\ntwo="a/two"\n');
  writeFileSync(join(dir, 'd/10.conf'), '[[registry]]\nlocation="x"\nblocked=true\n[aliases]\none=""\ntwo="b/two"\n');
  writeFileSync(join(dir, 'd/ignored.txt'), '{');
  const merged = await readRegistriesConf({ file: join(dir, 'main'), dropIns: [join(dir, 'd'), join(dir, 'none')] });
  t.match(merged, { searchRegistries: ['a'], aliases: { two: 'b/two' } });
  t.strictSame(merged.rules.map(({ prefix, blocked }) => [prefix, blocked]), [['x', true]]);
  t.strictSame(await readRegistriesConf({ file: join(dir, 'none'), dropIns: [] }), NO_REGISTRIES_CONF);
});

t.test('credentials', async (t) => {
  const dir = scratchDir(t, 'credentials');
  const file = join(dir, 'auth.json');
  const env = { REGISTRY_AUTH_FILE: file };
  const write = (content: unknown): void => writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
  const of = (host: string, repository = 'team/app', more: object = {}): ReturnType<typeof registryCredentials> => registryCredentials(host, repository, { authConfigs: [], credentialHelpers: [], env, ...more });
  const encoded = (text: string): { auth: string } => ({ auth: Buffer.from(text).toString('base64') });
  t.equal(await of('a'), undefined, 'no file');
  write({ auths: { a: encoded('u:p:with:colons'), 'a/team': encoded('team:p'), 'a/team/app': encoded('app:p'), 'https://index.docker.io/v1/': encoded('hub:p'), b: { identitytoken: 'id' }, c: { registrytoken: 'reg' }, d: {} } });
  t.strictSame(await of('a', 'x'), { kind: 'basic', user: 'u', password: 'p:with:colons' });
  t.match(await of('a', 'team/x'), { user: 'team' });
  t.match(await of('a', 'team/app'), { user: 'app' });
  t.match(await of('registry-1.docker.io'), { user: 'hub' });
  t.strictSame(await of('b'), { kind: 'identity-token', token: 'id' });
  t.strictSame(await of('c'), { kind: 'bearer', token: 'reg' });
  t.equal(await of('d'), undefined);
  const docker = (registry: string): object => ({ rktKind: 'dockerAuth', registries: [registry], credentials: { user: 'rkt', password: 'p' } });
  t.match(await of('a', 'x', { authConfigs: [docker('a')] }), { user: 'rkt' }, "rkt's own come first");
  t.match(await of('registry-1.docker.io', 'x', { authConfigs: [docker('index.docker.io')] }), { user: 'rkt' });
  for (const [content, message] of [['{', /auth\.json: not valid JSON/], [{ auths: { a: { auth: 'x' } } }, /auths\["a"\]: auth: expected USER:PASSWORD in base64$/], [{ auths: [] }, /auths: expected an object/], [{ credHelpers: { a: '../evil' } }, /"\.\.\/evil": not a name of a program$/]] as const) {
    write(content);
    await t.rejects(of('a'), { code: 'BAD_INPUT', message });
  }
  const helper = (text: string): void => writeFileSync(join(dir, 'docker-credential-h'), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  const withHelper = (): ReturnType<typeof of> => of('a', 'x', { env: { ...env, PATH: `${dir}:/bin:/usr/bin` } });
  write({ credsStore: 'h' });
  helper(`echo '{"Username":"<token>","Secret":"s"}'`);
  t.strictSame(await withHelper(), { kind: 'identity-token', token: 's' });
  helper('echo credentials not found in native keychain; exit 1');
  t.equal(await withHelper(), undefined);
  helper('echo broken; exit 1');
  await t.rejects(withHelper(), { code: 'PERMISSION', message: 'the credential helper docker-credential-h failed for a: broken' });
  helper('echo nothing');
  await t.rejects(withHelper(), { code: 'BAD_INPUT', message: /not valid JSON$/ });

  const domain = (more: object): Parameters<typeof domainCredentials>[1] => [{ rktKind: 'auth', domains: ['a'], ...more }];
  t.strictSame(domainCredentials('a', domain({ type: 'oauth', credentials: { token: 't' } })), { kind: 'bearer', token: 't' });
  t.equal(domainCredentials('b', domain({ type: 'oauth', credentials: { token: 't' } })), undefined);
  t.throws(() => domainCredentials('a', domain({ type: 'aws' })), { code: 'UNSUPPORTED' });
  t.throws(() => domainCredentials('a', domain({ type: 'basic', credentials: { user: 'x' } })), { code: 'BAD_INPUT', message: 'auth.d: auth for a: credentials.password: expected a string' });
});

const DIGEST = `sha256:${'a'.repeat(64)}`;
const DESCRIPTOR = { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: DIGEST, size: 7, platform: { os: 'linux', architecture: 'amd64' } };
const SEEDS: [text: string, parse: (text: string) => unknown][] = [
  [JSON.stringify({ schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests: [DESCRIPTOR, { ...DESCRIPTOR, annotations: { a: 'b' }, urls: ['x'] }] }), (text) => parseOciIndex(text, 'x')],
  [JSON.stringify({ schemaVersion: 2, config: DESCRIPTOR, layers: [DESCRIPTOR, DESCRIPTOR] }), (text) => parseOciManifest(text, 'x')],
  [JSON.stringify({ os: 'linux', architecture: 'amd64', config: { Env: ['A=b'], Entrypoint: ['/x'], ExposedPorts: { '80/tcp': {} } }, rootfs: { type: 'layers', diff_ids: [DIGEST] } }), (text) => parseOciConfig(text, 'x')],
  ['Bearer realm="https://a/token",service="a b",scope="x:y:pull,push", Basic realm=x', parseChallenges],
  ['Mon, 01 Jan 2024 00:00:05 GMT', (text) => parseRetryAfter(text, 0)],
  ['public, max-age="60", no-cache', maxAgeOf],
  [`docker://registry.example.com:5000/team/app:v1@${DIGEST}`, (text) => parseImageString(text, '/nonexistent')],
  ['cimd:appc:v=0:coreos.com/etcd?version=v3.0.3&os=linux', (text) => parseImageString(text, '/nonexistent')],
  ['unqualified-search-registries = ["a"]\n[[registry]]\nprefix = "*.example.com"\nlocation = "b"\n[[registry.mirror]]\nlocation = "c"\n[aliases]\nx = "y/z"\n', (text) => parseRegistriesConf(text, 'x')],
];

function mutate(random: SeededRandom, text: string): string {
  let mutated = text;
  for (let count = 1 + random.below(4); count > 0; count--) {
    const at = random.below(mutated.length + 1);
    const piece = random.pick(['', '"', '\\', '{', '}', '[', ']', ',', ':', '/', '@', '%', '=', '.', '-1', '1e999', 'null', '\0', '\n', '\u{202e}', '__proto__', '9'.repeat(30), 'a'.repeat(300)]);
    mutated = mutated.slice(0, at) + piece + mutated.slice(at + random.below(random.below(3) === 0 ? 40 : 2));
  }
  return mutated;
}

async function fuzz(seed: number, mayGoOn: (round: number) => boolean): Promise<Map<string, number>> {
  const ends = new Map<string, number>();
  for (let round = 0; mayGoOn(round); round++) {
    const random = seededRandom(seed + round);
    const [text, parse] = random.pick(SEEDS);
    const input = mutate(random, text);
    const startMs = performance.now();
    let end = 'read';
    try {
      await parse(input);
    } catch (error) {
      if (!(error instanceof RktError) || error.code === 'INTERNAL') throw new Error(`seed ${seed + round}: ${JSON.stringify(input)}`, { cause: error });
      end = error.code;
    }
    if (performance.now() - startMs > 1000) throw new Error(`seed ${seed + round} took too long: ${JSON.stringify(input)}`);
    ends.set(end, (ends.get(end) ?? 0) + 1);
  }
  return ends;
}

t.test('broken documents are refused with an RktError', async (t) => {
  const ends = await fuzz(11, (round) => round < 20_000);
  t.comment(JSON.stringify([...ends]));
  for (const end of ['read', 'BAD_INPUT', 'BAD_IMAGE']) t.ok((ends.get(end) ?? 0) > 500, `${end}: ${ends.get(end) ?? 0}`);
});

fuzzForLong('broken documents', fuzz);
