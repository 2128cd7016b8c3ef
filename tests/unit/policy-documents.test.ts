/** Signature policies: what is read, what is refused, which requirement counts for which image. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { RktError } from '../../src/error.ts';
import { identityText, parseImageIdentity, scopesOf } from '../../src/image/trust/image-identity.ts';
import type { ImageIdentity } from '../../src/image/trust/image-identity.ts';
import { lookasideOf } from '../../src/image/signature/lookaside.ts';
import { parsePolicy, requirementsFor } from '../../src/image/signature/policy.ts';
import type { SignedIdentity } from '../../src/image/signature/policy.ts';
import { parseClaim } from '../../src/image/signature/signature-claim.ts';
import { identityMatches } from '../../src/image/signature/signed-identity.ts';
import { parseStrictDocument } from '../../src/image/signature/strict-json.ts';
import { fuzzForLong } from '../helpers/fuzz.ts';
import { seededRandom } from '../helpers/random.ts';
import type { SeededRandom } from '../helpers/random.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';

const ACCEPT = { type: 'insecureAcceptAnything' };
const REJECT = { type: 'reject' };
const FULCIO = { caPath: '/ca.pem', oidcIssuer: 'https://issuer', subjectEmail: 'a@b.c' };

function read(document: unknown): ReturnType<typeof parsePolicy> {
  return parsePolicy(typeof document === 'string' ? document : JSON.stringify(document), 'policy.json');
}

t.test('every requirement of the manual is understood', async (t) => {
  const requirement = (value: object): object | undefined => read({ default: [value] }).default[0];
  const identity = { type: 'matchRepoDigestOrExact' };
  t.strictSame(requirement(ACCEPT), ACCEPT);
  t.strictSame(requirement(REJECT), REJECT);
  t.strictSame(requirement({ type: 'signedBy', keyType: 'GPGKeys', keyPath: '/k' }), { type: 'signedBy', keys: [{ path: '/k' }], signedIdentity: identity });
  t.strictSame(requirement({ type: 'signedBy', keyType: 'GPGKeys', keyPaths: ['/k', '/l'] }), { type: 'signedBy', keys: [{ path: '/k' }, { path: '/l' }], signedIdentity: identity });
  t.match(requirement({ type: 'signedBy', keyType: 'GPGKeys', keyData: 'aGVsbG8=' }), { keys: [{ data: Buffer.from('hello') }] });
  t.match(requirement({ type: 'sigstoreSigned', keyPath: '/k' }), { authority: { kind: 'key', keys: [{ path: '/k' }] }, rekorKeys: [] });
  t.match(requirement({ type: 'sigstoreSigned', keyDatas: ['aGVsbG8=', 'aGVsbG8='], rekorPublicKeyDatas: ['aGVsbG8='] }), { authority: { keys: { length: 2 } }, rekorKeys: { length: 1 } });
  t.match(requirement({ type: 'sigstoreSigned', fulcio: FULCIO, rekorPublicKeyPaths: ['/r', '/s'] }), { authority: { kind: 'fulcio', certificates: { path: '/ca.pem' }, oidcIssuer: 'https://issuer', subjectEmail: 'a@b.c' }, rekorKeys: [{ path: '/r' }, { path: '/s' }] });
  for (const signedIdentity of [
    { type: 'matchExact' },
    { type: 'matchRepository' },
    { type: 'exactReference', dockerReference: 'example.com/a:1' },
    { type: 'exactRepository', dockerRepository: 'busybox' },
    { type: 'remapIdentity', prefix: 'mirror:5000/vendor', signedPrefix: 'vendor.example.com' },
    { type: 'remapIdentity', prefix: 'docker.io/library', signedPrefix: '[::1]:5000' },
  ]) {
    t.strictSame(requirement({ type: 'sigstoreSigned', keyPath: '/k', signedIdentity }), { type: 'sigstoreSigned', authority: { kind: 'key', keys: [{ path: '/k' }] }, rekorKeys: [], signedIdentity });
  }
});

t.test('what is not understood is refused whole, naming the field', async (t) => {
  const key = { type: 'signedBy', keyType: 'GPGKeys', keyPath: '/k' };
  const sigstore = { type: 'sigstoreSigned', keyPath: '/k' };
  const refused: [unknown, RegExp][] = [
    ['', /not valid JSON/],
    ['{"default":[{"type":"reject"}],}', /not valid JSON/],
    [[], /expected an object/],
    [{}, /default: expected a list/],
    [{ default: [] }, /default: expected at least one/],
    [{ default: null }, /default: expected a list/],
    [{ default: [REJECT], extra: 1 }, /extra: unknown field/],
    [{ default: [{}] }, /default\[0\]\.type: expected one of/],
    [{ default: [{ type: 'rejekt' }] }, /default\[0\]\.type: expected one of/],
    [{ default: [{ type: 'reject', more: 1 }] }, /more: unknown field/],
    [{ default: ['reject'] }, /type: expected one of/],
    ['{"default":[{"type":"insecureAcceptAnything"}],"default":[{"type":"reject"}]}', /"default" is given twice/],
    ['{"default":[{"type":"reject","type":"insecureAcceptAnything"}]}', /"type" is given twice/],
    ['{"default":[{"type":"reject","\\u0074ype":"insecureAcceptAnything"}]}', /"type" is given twice/],
    [{ default: [REJECT], transports: { docker: { 'example.com': [] } } }, /transports\.docker\.example\.com: expected at least one/],
    [{ default: [REJECT], transports: { docker: [ACCEPT] } }, /transports\.docker: expected an object/],
    [{ default: [REJECT], transports: null }, /transports: expected an object/],
    [{ default: [{ ...key, keyType: 'signedByGPGKeys' }] }, /keyType: expected one of "GPGKeys"/],
    [{ default: [{ type: 'signedBy', keyType: 'GPGKeys' }] }, /expected exactly one of keyPath, keyPaths, keyData/],
    [{ default: [{ ...key, keyPaths: ['/l'] }] }, /expected exactly one of/],
    [{ default: [{ ...key, keyData: 'aGVsbG8=' }] }, /expected exactly one of/],
    [{ default: [{ ...key, keyPath: null }] }, /keyPath: expected a string/],
    [{ default: [{ type: 'signedBy', keyType: 'GPGKeys', keyPaths: [] }] }, /keyPaths: expected at least one/],
    [{ default: [{ type: 'signedBy', keyType: 'GPGKeys', keyData: 'not base64' }] }, /keyData: expected data in base64/],
    [{ default: [{ ...key, keyPath: '' }] }, /keyPath: expected a path/],
    [{ default: [{ ...key, signedIdentity: null }] }, /signedIdentity\.type: expected one of/],
    [{ default: [{ ...key, signedIdentity: { type: 'matchAnything' } }] }, /signedIdentity\.type: expected one of/],
    [{ default: [{ ...key, signedIdentity: { type: 'matchExact', x: 1 } }] }, /x: unknown field/],
    [{ default: [{ ...key, signedIdentity: { type: 'exactReference', dockerReference: 'example.com/a' } }] }, /expected a name with tag or digest/],
    [{ default: [{ ...key, signedIdentity: { type: 'exactRepository', dockerRepository: 'example.com/a:1' } }] }, /expected the name of a repository/],
    [{ default: [{ ...key, signedIdentity: { type: 'remapIdentity', prefix: 'a/b:tag', signedPrefix: 'x' } }] }, /prefix: expected a host, namespace or repository/],
    [{ default: [{ ...key, signedIdentity: { type: 'remapIdentity', prefix: 'example.com' } }] }, /signedPrefix: expected a string/],
    [{ default: [{ type: 'sigstoreSigned' }] }, /expected exactly one of keyPath, keyPaths, keyData, keyDatas, fulcio/],
    [{ default: [{ ...sigstore, fulcio: FULCIO, rekorPublicKeyPath: '/r' }] }, /expected exactly one of/],
    [{ default: [{ ...sigstore, keyDatas: ['aGVsbG8='] }] }, /expected exactly one of/],
    [{ default: [{ type: 'sigstoreSigned', fulcio: FULCIO }] }, /fulcio needs the key of the transparency log/],
    [{ default: [{ ...sigstore, rekorPublicKeyPath: '/r', rekorPublicKeyData: 'aGVsbG8=' }] }, /expected at most one of rekorPublicKeyPath/],
    [{ default: [{ ...sigstore, rekorPublicKeyPaths: [] }] }, /rekorPublicKeyPaths: expected at least one/],
    [{ default: [{ type: 'sigstoreSigned', fulcio: { ...FULCIO, caData: 'aGVsbG8=' }, rekorPublicKeyPath: '/r' }] }, /expected exactly one of caPath, caData/],
    [{ default: [{ type: 'sigstoreSigned', fulcio: { ...FULCIO, subjectEmail: '' }, rekorPublicKeyPath: '/r' }] }, /subjectEmail: expected a value/],
    [{ default: [{ type: 'sigstoreSigned', fulcio: { ...FULCIO, oidcIssuer: undefined }, rekorPublicKeyPath: '/r' }] }, /oidcIssuer: expected a string/],
    [{ default: [{ type: 'sigstoreSigned', pki: {} }] }, /pki: unknown field/],
  ];
  for (const [document, message] of refused) {
    t.throws(() => read(document), { code: 'BAD_INPUT', message }, JSON.stringify(document));
    t.throws(() => read(document), { message: /^policy\.json: / });
  }
});

t.test('names of images, and the scopes they lie in', async (t) => {
  const names: [string, string | undefined][] = [
    ['busybox', 'docker.io/library/busybox'],
    ['docker.io/busybox:1', 'docker.io/library/busybox:1'],
    ['index.docker.io/a/b', 'docker.io/a/b'],
    ['a/b', 'docker.io/a/b'],
    ['localhost/a', 'localhost/a'],
    ['HOST/a', undefined],
    ['Host.example/a', 'Host.example/a'],
    ['host:5000/a/b__c:T-1.2_3', 'host:5000/a/b__c:T-1.2_3'],
    ['[::1]:5000/a', '[::1]:5000/a'],
    [`example.com/a:1@sha256:${'0'.repeat(64)}`, `example.com/a:1@sha256:${'0'.repeat(64)}`],
    ['A', undefined],
    ['example.com/', undefined],
    ['example.com/a//b', undefined],
    ['example.com/../a', undefined],
    ['a:', undefined],
    ['a@sha256:12', undefined],
    ['a b', undefined],
    ['a\n', undefined],
    [`example.com/${'a/'.repeat(1000)}a`, undefined],
  ];
  for (const [text, expected] of names) {
    const identity = parseImageIdentity(text);
    t.equal(identity === undefined ? undefined : identityText(identity), expected, text);
  }
  t.strictSame(scopesOf({ name: 'sub.example.com:5000/a/b', tag: '1' }), ['sub.example.com:5000/a/b:1', 'sub.example.com:5000/a/b', 'sub.example.com:5000/a', 'sub.example.com:5000', '*.example.com', '*.com']);
  t.strictSame(scopesOf({ name: 'localhost/a', tag: '1', digest: 'sha256:0' }), ['localhost/a@sha256:0', 'localhost/a:1', 'localhost/a', 'localhost']);
});

t.test('the most specific scope counts, alone', async (t) => {
  const by = (name: string): object[] => [{ type: 'signedBy', keyType: 'GPGKeys', keyPath: `/${name}` }];
  const policy = read({
    default: [REJECT],
    transports: {
      docker: { '': by('transport'), 'docker.io': by('hub'), 'docker.io/library/busybox': by('busybox'), 'docker.io/library/busybox:1': by('busybox1'), '*.example.com': by('wildcard'), '__proto__': by('proto') },
      oci: { '/images': [ACCEPT] },
    },
  });
  const chosen = (text: string, transport = 'docker'): string => {
    const [requirement] = requirementsFor(policy, transport, scopesOf(parseImageIdentity(text) as ImageIdentity));
    return requirement?.type === 'signedBy' && requirement.keys[0] !== undefined && 'path' in requirement.keys[0] ? requirement.keys[0].path : (requirement?.type ?? 'none');
  };
  t.equal(chosen('busybox:1'), '/busybox1');
  t.equal(chosen('busybox:2'), '/busybox');
  t.equal(chosen('a/b:1'), '/hub');
  t.equal(chosen('x.y.example.com/a:1'), '/wildcard');
  t.equal(chosen('example.com/a:1'), '/transport');
  t.equal(chosen('busybox:1', 'oci'), 'reject', 'a transport without a default of its own');
  t.equal(chosen('busybox:1', 'constructor'), 'reject');
  t.strictSame(requirementsFor(read({ default: [ACCEPT] }), 'docker', ['a']), [ACCEPT]);
});

t.test('names in signatures', async (t) => {
  const digest = `sha256:${'1'.repeat(64)}`;
  const cases: [SignedIdentity, string, string, boolean][] = [
    [{ type: 'matchExact' }, 'example.com/a:1', 'example.com/a:1', true],
    [{ type: 'matchExact' }, 'busybox:1', 'docker.io/library/busybox:1', true],
    [{ type: 'matchExact' }, 'example.com/a:1', 'example.com/a:2', false],
    [{ type: 'matchExact' }, 'example.com/a:1', 'example.com/a', false],
    [{ type: 'matchExact' }, 'example.com/a', 'example.com/a', false],
    [{ type: 'matchExact' }, `example.com/a@${digest}`, 'example.com/a:1', false],
    [{ type: 'matchRepoDigestOrExact' }, 'example.com/a:1', 'example.com/a:1', true],
    [{ type: 'matchRepoDigestOrExact' }, 'example.com/a:1', 'example.com/a:2', false],
    [{ type: 'matchRepoDigestOrExact' }, 'example.com/a:1', 'example.com/a', false],
    [{ type: 'matchRepoDigestOrExact' }, `example.com/a@${digest}`, 'example.com/a:2', true],
    [{ type: 'matchRepoDigestOrExact' }, `example.com/a@${digest}`, 'example.com/b:2', false],
    [{ type: 'matchRepository' }, 'example.com/a:1', 'example.com/a', true],
    [{ type: 'matchRepository' }, 'example.com/a:1', 'example.com/a:2', true],
    [{ type: 'matchRepository' }, 'example.com/a:1', 'example.com/ab:1', false],
    [{ type: 'exactReference', dockerReference: 'vendor.com/a:1' }, 'mirror/a:1', 'vendor.com/a:1', true],
    [{ type: 'exactReference', dockerReference: 'vendor.com/a:1' }, 'vendor.com/a:2', 'vendor.com/a:2', false],
    [{ type: 'exactRepository', dockerRepository: 'vendor.com/a' }, 'mirror/a:1', 'vendor.com/a:9', true],
    [{ type: 'exactRepository', dockerRepository: 'vendor.com/a' }, 'mirror/a:1', 'vendor.com/b:1', false],
    [{ type: 'remapIdentity', prefix: 'mirror:5000/vendor', signedPrefix: 'vendor.com' }, 'mirror:5000/vendor/x/a:1', 'vendor.com/x/a:1', true],
    [{ type: 'remapIdentity', prefix: 'mirror:5000/vendor', signedPrefix: 'vendor.com' }, 'mirror:5000/vendor/x/a:1', 'vendor.com/x/a:2', false],
    [{ type: 'remapIdentity', prefix: 'mirror:5000/vendor', signedPrefix: 'vendor.com' }, 'mirror:5000/vendors/a:1', 'vendor.com/s/a:1', false],
    [{ type: 'remapIdentity', prefix: 'mirror:5000/vendor', signedPrefix: 'vendor.com' }, 'mirror:5000/vendors/a:1', 'mirror:5000/vendors/a:1', true],
    [{ type: 'remapIdentity', prefix: 'mirror:5000/a', signedPrefix: 'vendor.com/b' }, 'mirror:5000/a:1', 'vendor.com/b:1', true],
    [{ type: 'matchRepository' }, 'example.com/a:1', 'EXAMPLE.com/a:1', false],
    [{ type: 'matchRepository' }, 'example.com/a:1', 'no name', false],
  ];
  for (const [rule, image, signed, expected] of cases) t.equal(identityMatches(rule, parseImageIdentity(image) as ImageIdentity, signed), expected, `${rule.type}: ${image} signed as ${signed}`);
});

t.test('claims: strict where it counts', async (t) => {
  const digest = `sha256:${'a'.repeat(64)}`;
  const critical = { type: 'atomic container signature', image: { 'docker-manifest-digest': digest }, identity: { 'docker-reference': 'example.com/a:1' } };
  const parse = (document: unknown): object => parseClaim(Buffer.from(typeof document === 'string' ? document : JSON.stringify(document)), 'atomic container signature', 'signature');
  t.strictSame(parse({ critical, optional: { creator: 'x', timestamp: 1, more: [] } }), { manifestDigest: digest, dockerReference: 'example.com/a:1' });
  t.ok(parse({ critical, optional: null }));
  for (const document of [
    'text',
    { critical },
    { critical, optional: [] },
    { critical, optional: {}, more: 1 },
    { critical: { ...critical, more: 1 }, optional: {} },
    { critical: { ...critical, type: 'cosign container image signature' }, optional: {} },
    { critical: { ...critical, image: { 'docker-manifest-digest': 'sha256:12' } }, optional: {} },
    { critical: { ...critical, image: { 'docker-manifest-digest': digest.toUpperCase() } }, optional: {} },
    { critical: { ...critical, image: { ...critical.image, other: 1 } }, optional: {} },
    { critical: { ...critical, identity: {} }, optional: {} },
    `{"critical":${JSON.stringify(critical)},"critical":${JSON.stringify(critical)},"optional":{}}`,
  ]) {
    t.throws(() => parse(document), { code: 'BAD_SIGNATURE' }, JSON.stringify(document));
  }
});

t.test('places of signatures (registries.d)', async (t) => {
  const configDir = scratchDir(t, 'registries');
  const directory = join(configDir, 'registries.d');
  mkdirSync(directory);
  const file = (name: string, text: string): void => writeFileSync(join(directory, name), text);
  file('a.yaml', 'default-docker:\n  lookaside: https://default.example.com/sigs\ndocker:\n  example.com:\n    sigstore: file:///old\n  example.com/ns:\n    lookaside: https://ns.example.com\n    lookaside-staging: file:///staging\n  example.com/only-staging:\n    lookaside-staging: file:///staging\n');
  file('b.yaml', '');
  file('ignored.txt', '{{');
  const place = async (name: string): Promise<string> => (await lookasideOf(parseImageIdentity(name) as ImageIdentity, [configDir])).href;
  t.equal(await place('example.com/ns/a:1'), 'https://ns.example.com/');
  t.equal(await place('example.com/a:1'), 'file:///old');
  t.equal(await place('example.com/only-staging/a:1'), 'file:///old', 'a section without a place leaves it to a wider one');
  t.equal(await place('other.com/a:1'), 'https://default.example.com/sigs');
  for (const [text, message] of [
    ['docker:\n  example.com:\n    lookaside: x\n', /docker\.example\.com is already set in .*a\.yaml/],
    ['default-docker: {}\n', /default-docker is already set in .*a\.yaml/],
    ['docker: [1]\n', /docker: expected an object/],
    ['docker: {a: {lookaside: 1}}\n', /docker\.a\.lookaside: expected a string/],
    ['a: &x [*x]\n', /not valid YAML/],
    ['docker: {a: {}, a: {}}\n', /not valid YAML/],
    [': : :', /not valid YAML/],
    ['docker:\n  bad.com:\n    lookaside: ftp://x\n', /expected a file, http or https URL/],
  ] as const) {
    file('c.yaml', text);
    await t.rejects(place('bad.com/a:1'), { code: 'BAD_INPUT', message }, text);
  }
});

/** Changes of a text that keep much of it whole. */
function mutated(random: SeededRandom, text: string): string {
  let result = text;
  for (let count = 1 + random.below(3); count > 0; count--) {
    const at = random.below(result.length + 1);
    const to = Math.min(result.length, at + random.below(12));
    const piece = random.pick(['', '"', '{', '}', '[', ']', ',', ':', 'null', '1e9', '\\u0000', '"type":"insecureAcceptAnything"', '{"type":"reject"}', '"__proto__":{}', ' ', result.slice(at, to)]);
    result = result.slice(0, at) + piece + result.slice(random.below(2) === 0 ? at : to);
  }
  return result;
}

const KEY_DATA = Buffer.from(generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'pem', type: 'spki' })).toString('base64');
const SEED = JSON.stringify({
  default: [REJECT],
  transports: { docker: { '': [ACCEPT], 'example.com': [{ type: 'signedBy', keyType: 'GPGKeys', keyPaths: ['/a'], signedIdentity: { type: 'remapIdentity', prefix: 'a.b', signedPrefix: 'c.d/e' } }], 'x.y/z': [{ type: 'sigstoreSigned', keyData: KEY_DATA }, { type: 'sigstoreSigned', fulcio: FULCIO, rekorPublicKeyData: KEY_DATA }] } },
});

function fuzz(seed: number, mayGoOn: (round: number) => boolean): Map<string, number> {
  const ends = new Map<string, number>();
  for (let round = 0; mayGoOn(round); round++) {
    const text = mutated(seededRandom(seed + round), SEED);
    let end = 'read';
    try {
      const policy = read(text);
      // Whatever is read has requirements everywhere: an empty list would let everything pass.
      const lists = [policy.default, ...Object.values(policy.transports).flatMap((scopes) => Object.values(scopes))];
      if (lists.some((list) => list.length === 0)) throw new Error(`seed ${seed + round}: an empty list of requirements`);
    } catch (error) {
      if (!(error instanceof RktError) || error.code !== 'BAD_INPUT') throw new Error(`seed ${seed + round}: ${text}`, { cause: error });
      end = 'refused';
    }
    ends.set(end, (ends.get(end) ?? 0) + 1);
  }
  return ends;
}

t.test('mutated policies', async (t) => {
  t.ok(read(SEED));
  const ends = fuzz(1, (round) => round < 5000);
  t.comment(JSON.stringify([...ends]));
  for (const end of ['read', 'refused']) t.ok((ends.get(end) ?? 0) > 100, `${end}: ${ends.get(end) ?? 0}`);
  const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
  t.throws(() => read(deep), { code: 'BAD_INPUT' });
  const long = JSON.stringify('x\\"'.repeat(1_000_000));
  t.equal(parseStrictDocument(long, (value) => value, { origin: 'long', code: 'BAD_INPUT' }), JSON.parse(long));
});

fuzzForLong('mutated policies', fuzz);
