/** Repositories of The Update Framework that name images: what they name, and what an attacker between can do with them. */
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mock } from 'node:test';
import t from 'tap';
import { RktError } from '../../src/error.ts';
import { verifyRegistryImage } from '../../src/image/signature/verify-registry-image.ts';
import { addTufRepository } from '../../src/image/trust/add-tuf-repository.ts';
import { storeTufRepository, tufRepositories, tufRepositoriesFor } from '../../src/image/trust/tuf-repositories.ts';
import type { VerificationOptions, VerifiedBy } from '../../src/image/verification.ts';
import { attachByTag, cosignPayload, digestOf, ecKeys, memoryRegistry, pem, signPayload } from '../helpers/cosign.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';
import { canonicalJson, makeTufServer, target } from '../helpers/tuf-repository.ts';
import type { TufServer } from '../helpers/tuf-repository.ts';

const NAME = 'registry.example.com/team/app';
const DIGEST = digestOf(Buffer.from('manifest 1'));
const NEXT_DIGEST = digestOf(Buffer.from('manifest 2'));

interface Bench {
  server: TufServer;
  options: VerificationOptions;
  shown: string[];
  trust(prefix?: string): Promise<void>;
  verify(digest: string, reference?: string): Promise<VerifiedBy[]>;
}

function makeBench(t: { teardown(action: () => void): void }, { prefix = 'registry.example.com' as string | undefined } = {}): Bench {
  const dir = scratchDir(t, 'tuf');
  const server = makeTufServer();
  const shown: string[] = [];
  const options: VerificationOptions = {
    insecure: { image: false, tls: false, http: false, pubkey: false },
    configDirs: [join(dir, 'system'), join(dir, 'local')],
    localConfigDir: join(dir, 'local'),
    dataDir: join(dir, 'data'),
    trustKeysFromHttps: false,
    fetchDocument: server.fetchDocument,
    onMessage: () => {},
  };
  mkdirSync(join(dir, 'local'));
  writeFileSync(join(dir, 'local/policy.json'), '{"default":[{"type":"insecureAcceptAnything"}]}');
  const rootFile = join(dir, 'root.json');
  writeFileSync(rootFile, server.root());
  const reviewer = { show: (text: string) => shown.push(text), log: (text: string) => shown.push(text), canAsk: () => false, readLine: () => undefined };
  return {
    server,
    options,
    shown,
    trust: (given = prefix) => addTufRepository(server.url, { ...(given === undefined ? {} : { prefix: given }), rootFile, review: true, verification: options, reviewer: reviewer as never }),
    verify: (digest, reference = `${NAME}:1`) => verifyRegistryImage({ reference, manifestDigest: digest, imageManifestDigest: digest, access: memoryRegistry().access }, options),
  };
}

t.test('an image is what the repository says', async (t) => {
  const bench = makeBench(t);
  bench.server.publish({ targets: { [`${NAME}:1`]: target(DIGEST), [`${NAME}@${NEXT_DIGEST}`]: target(NEXT_DIGEST) } });
  await bench.trust();
  t.match(bench.shown.join('\n'), /root metadata version 1, expires .*, SHA-256 [0-9a-f]{64}\n {4}Root key: [0-9a-f]{64}\n {4}1 of them must sign a new root\nTrusting "https:\/\/tuf\.example\.com\/repo" for images below "registry\.example\.com"\./);
  t.strictSame(await bench.verify(DIGEST), [{ kind: 'tuf', repository: bench.server.url, role: 'targets', version: 1 }]);
  t.match(await bench.verify(NEXT_DIGEST, `${NAME}@${NEXT_DIGEST}`), [{ kind: 'tuf' }]);
  await t.rejects(bench.verify(NEXT_DIGEST), { code: 'BAD_SIGNATURE', message: `${NAME}:1: rejected by ${bench.server.url}: the TUF repository names ${DIGEST} for ${NAME}:1, found ${NEXT_DIGEST}` });
  await t.rejects(bench.verify(DIGEST, `${NAME}:2`), { code: 'BAD_SIGNATURE', message: /does not know registry\.example\.com\/team\/app:2/ });
  t.match(await bench.verify(DIGEST, 'other.example.com/app:1'), [{ kind: 'none' }], 'it speaks for its prefix only');
  t.match(await bench.verify(DIGEST, 'registry.example.com.evil/app:1'), [{ kind: 'none' }]);
});

t.test('delegated roles are named, with their own version', async (t) => {
  const bench = makeBench(t);
  bench.server.publish({ targets: {}, delegation: { name: 'team role', paths: ['registry.example.com/team/*'], targets: { [`${NAME}:1`]: target(DIGEST) } } });
  await bench.trust();
  t.strictSame(await bench.verify(DIGEST), [{ kind: 'tuf', repository: bench.server.url, role: 'team role', version: 1 }]);
  bench.server.publish({ targets: {}, delegation: { name: 'team role', paths: ['registry.example.com/team/*'], targets: { [`${NAME}:1`]: target(NEXT_DIGEST) } } });
  t.match(await bench.verify(NEXT_DIGEST), [{ role: 'team role', version: 2 }]);
  bench.server.publish({ targets: { [`${NAME}:1`]: target(DIGEST) }, delegation: { name: 'team role', paths: ['registry.example.com/team/*'], targets: { [`${NAME}:1`]: target(NEXT_DIGEST) } } });
  t.match(await bench.verify(DIGEST), [{ role: 'targets', version: 3 }], 'the more trusted role counts');
  bench.server.publish({ targets: {}, delegation: { name: 'team role', paths: ['registry.example.com/other/*'], targets: { [`${NAME}:1`]: target(DIGEST) } } });
  await t.rejects(bench.verify(DIGEST), { code: 'BAD_SIGNATURE', message: /does not know/ }, 'a role may not name what was not delegated to it');
});

t.test('refused: rollback', async (t) => {
  const bench = makeBench(t);
  bench.server.publish({ targets: { [`${NAME}:1`]: target(DIGEST) } });
  await bench.trust();
  const old = new Map(bench.server.files);
  bench.server.publish({ targets: { [`${NAME}:1`]: target(NEXT_DIGEST) } });
  t.ok(await bench.verify(NEXT_DIGEST));
  bench.server.files.clear();
  for (const [name, bytes] of old) bench.server.files.set(name, bytes);
  await t.rejects(bench.verify(DIGEST), { code: 'BAD_SIGNATURE', message: /New timestamp version 1 is less than current version 2/ });

  // A new timestamp and snapshot that lead back to older targets.
  const replay = makeBench(t);
  replay.server.publish({ targets: { [`${NAME}:1`]: target(DIGEST) } }, { version: 5 });
  await replay.trust();
  replay.server.publish({ targets: { [`${NAME}:1`]: target(NEXT_DIGEST) } }, { version: 3 });
  await t.rejects(replay.verify(NEXT_DIGEST), { code: 'BAD_SIGNATURE', message: /less than current version 5/ });
});

t.test('refused: freeze', async (t) => {
  const bench = makeBench(t);
  bench.server.publish({ targets: { [`${NAME}:1`]: target(DIGEST) } });
  await bench.trust();
  t.ok(await bench.verify(DIGEST));
  mock.timers.enable({ apis: ['Date'], now: Date.now() + 31 * 86_400_000 });
  t.teardown(() => mock.timers.reset());
  await t.rejects(bench.verify(DIGEST), { code: 'BAD_SIGNATURE', message: /timestamp\.json is expired/ }, 'the same answer for too long');
  bench.server.publish({ targets: { [`${NAME}:1`]: target(DIGEST) } }, { expires: new Date(Date.now() - 1000) });
  await t.rejects(bench.verify(DIGEST), { code: 'BAD_SIGNATURE', message: /expired/ });
  bench.server.publish({ targets: { [`${NAME}:1`]: target(DIGEST) } });
  t.ok(await bench.verify(DIGEST), 'alive again');
});

t.test('refused: parts of different versions, and parts nobody signed', async (t) => {
  const bench = makeBench(t);
  bench.server.publish({ targets: { [`${NAME}:1`]: target(DIGEST) } });
  await bench.trust();
  const { files } = bench.server;
  bench.server.publish({ targets: { [`${NAME}:1`]: target(NEXT_DIGEST) } });
  const good = new Map(files);
  const memory = join(bench.options.dataDir, 'tuf');
  cpSync(memory, `${memory}.before`, { recursive: true });
  const restore = (): void => {
    files.clear();
    for (const [name, bytes] of good) files.set(name, bytes);
    rmSync(memory, { recursive: true });
    cpSync(`${memory}.before`, memory, { recursive: true });
  };
  const get = (name: string): Uint8Array => files.get(name) ?? new Uint8Array();
  const stranger = makeTufServer(bench.server.url);
  stranger.publish({ targets: { [`${NAME}:1`]: target(NEXT_DIGEST) } }, { version: 2 });
  const changes: [string, () => void, RegExp][] = [
    ['old targets', () => files.set('2.targets.json', get('1.targets.json')), /Version 1 of targets does not match snapshot version 2/],
    ['old snapshot', () => files.set('2.snapshot.json', get('1.snapshot.json')), /version/i],
    ['targets of somebody else', () => files.set('2.targets.json', stranger.files.get('2.targets.json') ?? new Uint8Array()), /targets/],
    ['snapshot of somebody else', () => files.set('2.snapshot.json', stranger.files.get('2.snapshot.json') ?? new Uint8Array()), /snapshot/],
    ['timestamp of somebody else', () => files.set('timestamp.json', stranger.files.get('timestamp.json') ?? new Uint8Array()), /timestamp/],
    ['a root of somebody else', () => files.set('2.root.json', stranger.root()), /root/],
    ['a changed byte', () => files.set('2.targets.json', Buffer.from(Buffer.from(get('2.targets.json')).toString().replace(NEXT_DIGEST.slice(7), DIGEST.slice(7)))), /targets/],
    ['no targets', () => files.delete('2.targets.json'), /targets/],
    ['no timestamp', () => files.delete('timestamp.json'), /timestamp/],
    ['no JSON', () => files.set('timestamp.json', Buffer.from('{')), /JSON/],
    ['endless data', () => files.set('timestamp.json', Buffer.alloc(20_000)), /larger than/],
  ];
  for (const [name, change, message] of changes) {
    for (const digest of [DIGEST, NEXT_DIGEST]) {
      restore();
      change();
      await t.rejects(bench.verify(digest), { message }, name);
    }
    restore();
    t.ok(await bench.verify(NEXT_DIGEST), `${name}: put right`);
  }
  t.equal(canonicalJson({ b: [1, 'x"'], a: null }), '{"a":null,"b":[1,"x\\""]}');
});

t.test('roots follow one another; the pinned one is where it starts', async (t) => {
  const bench = makeBench(t);
  bench.server.publish({ targets: { [`${NAME}:1`]: target(DIGEST) } });
  await bench.trust();
  bench.server.rotate();
  bench.server.publish({ targets: { [`${NAME}:1`]: target(NEXT_DIGEST) } });
  t.match(await bench.verify(NEXT_DIGEST), [{ version: 2 }]);
  bench.server.files.delete('1.root.json');
  bench.server.files.delete('2.root.json');
  t.ok(await bench.verify(NEXT_DIGEST), 'the new root is remembered');
  rmSync(join(bench.options.dataDir, 'tuf'), { recursive: true });
  await t.rejects(bench.verify(NEXT_DIGEST), { code: 'BAD_SIGNATURE' }, 'without memory the way from the pinned root must be there');
});

t.test('trusting: pinned root or consent, and it must work', async (t) => {
  const bench = makeBench(t);
  await t.rejects(bench.trust(), { code: 'BAD_SIGNATURE', message: /is not accepted: .*timestamp/ }, 'nothing published');
  t.strictSame(tufRepositories(bench.options.configDirs), []);
  bench.server.publish({ targets: {} });
  for (const prefix of ['https://x', 'registry.example.com/a:1', 'UPPER/x', '-']) await t.rejects(bench.trust(prefix), { code: 'USAGE' }, prefix);
  const shown: string[] = [];
  const ask = (answers: string[]): Promise<void> => addTufRepository(`${bench.server.url}/`, { prefix: '', review: true, verification: bench.options, reviewer: { show: (text) => void shown.push(text), log: (text) => void shown.push(text), canAsk: () => true, readLine: () => answers.shift() } });
  await ask(['no\n']);
  t.strictSame(tufRepositories(bench.options.configDirs), []);
  await ask(['what\n', 'yes\n']);
  t.match(tufRepositories(bench.options.configDirs), [{ url: bench.server.url, prefix: '' }]);
  t.match(shown.join('\n'), /Are you sure you want to trust this root \(yes\/no\)\?\nPlease enter 'yes' or 'no'/);
  t.equal(createHash('sha256').update(tufRepositories(bench.options.configDirs)[0]?.root ?? '').digest('hex'), createHash('sha256').update(bench.server.root()).digest('hex'));
  await t.rejects(addTufRepository('ftp://x', { review: true, verification: bench.options, reviewer: {} as never }), { code: 'USAGE' });
});

t.test('layers of configuration', async (t) => {
  const dir = scratchDir(t, 'tuf-config');
  const [system, local] = [join(dir, 'system'), join(dir, 'local')];
  const root = Buffer.from('{}');
  storeTufRepository(system, { url: 'https://a.example.com', prefix: 'docker.io/library', root });
  storeTufRepository(system, { url: 'https://keys.example.com', root });
  const names = (name: string): string[] => tufRepositoriesFor(name, [system, local]).map(({ url }) => url);
  t.strictSame(names('docker.io/library/busybox'), ['https://a.example.com']);
  t.strictSame(names('docker.io/library'), ['https://a.example.com']);
  t.strictSame(names('docker.io/library2/busybox'), []);
  const [file] = readdirSync(join(system, 'tuf.d')).filter((name) => name.startsWith('a-') && !name.endsWith('.root.json'));
  mkdirSync(join(local, 'tuf.d'), { recursive: true });
  writeFileSync(join(local, 'tuf.d', file ?? ''), '');
  t.strictSame(names('docker.io/library/busybox'), [], 'an empty file takes it back');
  writeFileSync(join(local, 'tuf.d', 'bad.json'), '{"rktKind":"tuf","rktVersion":"v1","url":"file:///x"}');
  t.throws(() => names('x/y'), { code: 'BAD_INPUT', message: /bad\.json: url: expected an http or https URL/ });
  writeFileSync(join(local, 'tuf.d', 'bad.json'), '{"rktKind":"tuf","rktVersion":"v1","url":"https://x"}');
  t.throws(() => names('x/y'), { code: 'NOT_FOUND', message: /bad\.root\.json/ });
});

t.test('keys of a policy from a repository', async (t) => {
  const bench = makeBench(t, { prefix: undefined });
  const { privateKey, publicKey } = ecKeys();
  const key = Buffer.from(pem(publicKey));
  const sha256 = digestOf(key).slice('sha256:'.length);
  bench.server.files.set(`targets/${sha256}.cosign.pub`, key);
  bench.server.publish({ targets: { 'cosign.pub': target(sha256, key.length) } });
  await addTufRepository(bench.server.url, { review: false, verification: bench.options, reviewer: { show: () => {}, log: () => {}, canAsk: () => false, readLine: () => undefined } });
  const policy = (keyPath: string): void => writeFileSync(join(bench.options.localConfigDir, 'policy.json'), JSON.stringify({ default: [{ type: 'sigstoreSigned', keyPath }] }));
  const registry = memoryRegistry();
  attachByTag(registry, DIGEST, [signPayload(cosignPayload(DIGEST, `${NAME}:1`), privateKey)]);
  const verify = (): Promise<VerifiedBy[]> => verifyRegistryImage({ reference: `${NAME}:1`, manifestDigest: DIGEST, imageManifestDigest: DIGEST, access: registry.access }, bench.options);
  policy(`tuf:${bench.server.url}#cosign.pub`);
  t.match(await verify(), [{ kind: 'sigstore-key' }]);
  t.notOk(existsSync(join(bench.options.dataDir, 'cas/tmp/work')), 'nothing is left behind');
  bench.server.files.set(`targets/${sha256}.cosign.pub`, Buffer.from(pem(ecKeys().publicKey)));
  await t.rejects(verify(), { code: 'BAD_SIGNATURE' });
  policy(`tuf:${bench.server.url}#other.pub`);
  await t.rejects(verify(), { code: 'NOT_FOUND', message: /there is no target "other\.pub"/ });
  policy('tuf:https://unknown.example.com#x');
  await t.rejects(verify(), { code: 'BAD_INPUT', message: /is not trusted/, hint: /rkt trust --tuf=https:\/\/unknown\.example\.com/ });
  policy('tuf:https://unknown.example.com');
  await t.rejects(verify(), { code: 'BAD_INPUT', message: /expected tuf:URL#TARGET/ });
});

t.test('a network that fails is no verdict about the repository', async (t) => {
  const bench = makeBench(t);
  bench.server.publish({ targets: { [`${NAME}:1`]: target(DIGEST) } });
  await bench.trust();
  bench.options.fetchDocument = () => Promise.reject(new RktError('NETWORK', 'connection refused'));
  await t.rejects(bench.verify(DIGEST), { code: 'NETWORK', message: /connection refused/ });
});
