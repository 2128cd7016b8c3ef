/**
 * Signatures of ACIs, judged beside GnuPG: its keys and signatures are accepted, and nothing else is. Signatures of images in
 * registries, made by skopeo in a registry of Debian's.
 */
import { spawnSync } from 'node:child_process';
import type { KeyObject } from 'node:crypto';
import { appendFileSync, cpSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { RktError } from '../src/error.ts';
import { verifyAci } from '../src/image/signature/verify-aci.ts';
import type { AciSubject, VerificationOptions, VerifiedBy } from '../src/image/verification.ts';
import { cosignPayload, ecKeys, memoryRegistry, pem, signatureManifest, signPayload } from './helpers/cosign.ts';
import { pushArtifact, skopeo, startDockerRegistry } from './helpers/docker-registry.ts';
import { makeGpg } from './helpers/gpg.ts';
import type { Gpg } from './helpers/gpg.ts';
import { makeOciLayout } from './helpers/make-image.ts';
import { makeHost, PROGRAM } from './helpers/rkt.ts';
import type { Host, RunResult } from './helpers/rkt.ts';
import { scratchDir } from './helpers/scratch-dir.ts';

const NAME = 'example.com/team/app';
const LONG_AGO = '20200101T000000';

interface Bench {
  gpg: Gpg;
  dir: string;
  systemDir: string;
  localDir: string;
  /** The file that stands for an ACI. */
  file: string;
  messages: string[];
  trust(fingerprint: string, options?: { prefix?: string; configDir?: string; content?: string | Uint8Array }): string;
  verify(signature: Uint8Array, changes?: Partial<AciSubject>, options?: Partial<VerificationOptions>): Promise<VerifiedBy>;
}

function makeBench(t: { teardown(action: () => void): void }): Bench {
  const dir = scratchDir(t, 'signature');
  const gpg = makeGpg(t);
  const [systemDir, localDir] = [join(dir, 'system'), join(dir, 'local')];
  const file = join(dir, 'app.aci');
  writeFileSync(file, Buffer.alloc(3_000_000, 'content of an ACI\n'));
  const messages: string[] = [];
  return {
    gpg,
    dir,
    systemDir,
    localDir,
    file,
    messages,
    trust: (fingerprint, { prefix = '', configDir = localDir, content = gpg.exportKey(fingerprint) } = {}) => {
      const directory = join(configDir, 'trustedkeys', prefix === '' ? 'root.d' : `prefix.d/${prefix}`);
      mkdirSync(directory, { recursive: true });
      const path = join(directory, fingerprint);
      writeFileSync(path, content);
      return path;
    },
    verify: (signature, changes, options) =>
      verifyAci(
        { name: NAME, origin: 'app.aci', file, signature, publicKeyUrls: [], ...changes },
        {
          insecure: { image: false, tls: false, http: false, pubkey: false },
          configDirs: [systemDir, localDir],
          localConfigDir: localDir,
          dataDir: join(dir, 'data'),
          trustKeysFromHttps: false,
          fetchDocument: () => Promise.reject(new RktError('NOT_FOUND', 'no network here')),
          onMessage: (message) => messages.push(message),
          ...options,
        },
      ),
  };
}

t.test('what gpg signs is verified: key types, forms, hashes', async (t) => {
  const bench = makeBench(t);
  for (const algorithm of ['ed25519', 'rsa2048', 'nistp256']) {
    const identity = `Signer (${algorithm}) <${algorithm}@example.com>`;
    const fingerprint = bench.gpg.makeKey(identity, { algorithm });
    bench.trust(fingerprint, { prefix: 'example.com' });
    for (const armor of [true, false]) {
      for (const digest of ['SHA256', 'SHA512']) {
        const verified = await bench.verify(bench.gpg.sign(bench.file, fingerprint, { armor, digest }));
        t.strictSame(verified, { kind: 'openpgp', fingerprint, identity, prefix: 'example.com' }, `${algorithm} ${digest} ${armor ? 'armored' : 'binary'}`);
      }
    }
    t.equal(bench.messages.at(-1), `signature verified:\n  ${identity}`);
  }
});

t.test('a signing subkey vouches for its primary key', async (t) => {
  const bench = makeBench(t);
  const fingerprint = bench.gpg.makeKey('With subkey <s@example.com>');
  bench.gpg.run(['--quick-add-key', fingerprint, 'ed25519', 'sign', 'never']);
  bench.trust(fingerprint);
  const signature = bench.gpg.sign(bench.file, fingerprint);
  t.not(bench.gpg.run(['--list-packets'], signature).toString().includes(fingerprint.slice(-16).toUpperCase()), true, 'made by the subkey');
  t.match(await bench.verify(signature), { fingerprint, prefix: '' });
});

t.test('a key counts for its prefix and what lies below it, no further', async (t) => {
  const bench = makeBench(t);
  const fingerprint = bench.gpg.makeKey('Prefix <p@example.com>');
  const signature = bench.gpg.sign(bench.file, fingerprint);
  bench.trust(fingerprint, { prefix: 'example.com/team' });
  t.match(await bench.verify(signature), { prefix: 'example.com/team' });
  t.match(await bench.verify(signature, { name: 'example.com/team' }), { prefix: 'example.com/team' });
  for (const name of ['example.com/teams', 'example.com/tea', 'example.com', 'example.com.evil/team/app', 'other.com/team']) {
    await t.rejects(bench.verify(signature, { name }), { code: 'BAD_SIGNATURE', message: `app.aci: image "${name}" verification failed: openpgp: signature made by unknown entity`, hint: new RegExp(`rkt trust --prefix "${name}"`) }, name);
  }
});

t.test('refused: wrong key, changed bytes, nobody trusted, no signature', async (t) => {
  const bench = makeBench(t);
  const [trusted, other] = [bench.gpg.makeKey('Trusted <t@example.com>'), bench.gpg.makeKey('Other <o@example.com>')];
  const good = bench.gpg.sign(bench.file, trusted);
  await t.rejects(bench.verify(good), { code: 'BAD_SIGNATURE', message: /signature made by unknown entity/ }, 'an empty keystore');
  bench.trust(trusted);
  t.ok(await bench.verify(good));
  await t.rejects(bench.verify(bench.gpg.sign(bench.file, other)), { code: 'BAD_SIGNATURE', message: /signature made by unknown entity/ });
  for (const nothing of [Buffer.alloc(0), Buffer.from('no signature'), Buffer.from('-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n'), bench.gpg.exportKey(trusted), good.subarray(0, good.length / 2), Buffer.from([0x80, 0xff, 0x00])]) {
    await t.rejects(bench.verify(nothing), { code: 'BAD_SIGNATURE', message: /no valid signatures found in signature file/ });
  }
  appendFileSync(bench.file, 'x');
  await t.rejects(bench.verify(good), { code: 'BAD_SIGNATURE', message: /openpgp: invalid signature/ }, 'one byte more');
  await t.rejects(bench.verify(bench.gpg.sign(bench.file, trusted, { more: ['--textmode'] })), { code: 'BAD_SIGNATURE', message: /not a signature over a binary document/ });
  await t.rejects(bench.verify(good, { file: join(bench.dir, 'missing') }), { code: 'NOT_FOUND' });
});

t.test('refused: revoked and expired keys, whatever date the signature claims', async (t) => {
  const bench = makeBench(t);
  const revoked = bench.gpg.makeKey('Revoked <r@example.com>', { now: LONG_AGO });
  const before = bench.gpg.sign(bench.file, revoked, { now: '20200601T000000' });
  bench.trust(revoked);
  t.ok(await bench.verify(before), 'old, but still good');
  bench.gpg.revoke(revoked);
  bench.trust(revoked);
  await t.rejects(bench.verify(before), { code: 'BAD_SIGNATURE', message: /signature made by a revoked key/, hint: /rkt trust/ });

  const expired = bench.gpg.makeKey('Expired <e@example.com>', { now: LONG_AGO, expires: '1y' });
  bench.trust(expired);
  await t.rejects(bench.verify(bench.gpg.sign(bench.file, expired, { now: '20200601T000000' })), { code: 'BAD_SIGNATURE', message: /signature made by a key that has expired on 2020-12-31/ });

  const future = bench.gpg.makeKey('Future <f@example.com>', { now: '20990101T000000' });
  bench.trust(future);
  await t.rejects(bench.verify(bench.gpg.sign(bench.file, future, { now: '20990201T000000' })), { code: 'BAD_SIGNATURE' });
});

t.test('refused: SHA-1, short RSA keys, expired signatures, keys that may not sign', async (t) => {
  const bench = makeBench(t);
  const fingerprint = bench.gpg.makeKey('Weak hash <w@example.com>', { algorithm: 'rsa2048' });
  bench.trust(fingerprint);
  await t.rejects(bench.verify(bench.gpg.sign(bench.file, fingerprint, { digest: 'SHA1' })), { code: 'BAD_SIGNATURE', message: /Insecure message hash algorithm: SHA1/ });
  await t.rejects(bench.verify(bench.gpg.sign(bench.file, fingerprint, { now: '20400101T000000' })), { code: 'BAD_SIGNATURE', message: /in the future/ });

  const short = bench.gpg.makeKey('Short key <k@example.com>', { algorithm: 'rsa1024' });
  bench.trust(short);
  await t.rejects(bench.verify(bench.gpg.sign(bench.file, short)), { code: 'BAD_SIGNATURE', message: /RSA keys shorter than 2047 bits/ });

  const signer = bench.gpg.makeKey('Old signature <os@example.com>', { now: LONG_AGO });
  bench.trust(signer);
  await t.rejects(bench.verify(bench.gpg.sign(bench.file, signer, { now: '20200201T000000', more: ['--default-sig-expire', '2d'] })), { code: 'BAD_SIGNATURE', message: /Signature is expired/ });
});

t.test('several signatures: one good one of a trusted key is enough; keys rotate', async (t) => {
  const bench = makeBench(t);
  const [old, next, stranger] = [bench.gpg.makeKey('Old <old@example.com>'), bench.gpg.makeKey('New <new@example.com>'), bench.gpg.makeKey('Stranger <x@example.com>')];
  const both = bench.gpg.sign(bench.file, old, { more: ['--local-user', next, '--local-user', stranger] });
  bench.trust(next);
  t.match(await bench.verify(both), { fingerprint: next });
  await t.rejects(bench.verify(bench.gpg.sign(bench.file, old)), { code: 'BAD_SIGNATURE' });
  bench.trust(old);
  t.ok(await bench.verify(both));
  bench.gpg.revoke(old);
  bench.trust(old);
  t.match(await bench.verify(both), { fingerprint: next }, 'the revoked one of two does no harm');
});

t.test('layers of the keystore: empty files mask, names must be fingerprints', async (t) => {
  const bench = makeBench(t);
  const fingerprint = bench.gpg.makeKey('Masked <m@example.com>');
  const signature = bench.gpg.sign(bench.file, fingerprint);
  bench.trust(fingerprint, { configDir: bench.systemDir });
  t.match(await bench.verify(signature), { prefix: '' }, 'system keys count');
  bench.trust(fingerprint, { prefix: 'example.com/other', content: '' });
  t.ok(await bench.verify(signature), 'masked for another prefix');
  await t.rejects(bench.verify(signature, { name: 'example.com/other/app' }), { message: /unknown entity/ });
  bench.trust(fingerprint, { content: '' });
  await t.rejects(bench.verify(signature), { message: /unknown entity/ }, 'masked at the root');
  bench.trust(fingerprint, { prefix: 'example.com' });
  t.match(await bench.verify(signature), { prefix: 'example.com' }, 'trusted for a prefix only');

  const another = bench.gpg.makeKey('Another <a@example.com>');
  bench.trust(fingerprint, { prefix: 'example.com', content: bench.gpg.exportKey(another) });
  await t.rejects(bench.verify(signature), { code: 'BAD_INPUT', message: /fingerprint mismatch/ });
  bench.trust('notes.txt', { prefix: 'example.com', content: 'hello' });
  await t.rejects(bench.verify(signature), { code: 'BAD_INPUT', message: /notes\.txt: expected the fingerprint/ });
});

t.test('keys that discovery names: taken with consent only, and only while there are none', async (t) => {
  const bench = makeBench(t);
  const fingerprint = bench.gpg.makeKey('Found <f@example.com>');
  const signature = bench.gpg.sign(bench.file, fingerprint);
  const asked: string[] = [];
  const fetchDocument: VerificationOptions['fetchDocument'] = (url) => {
    asked.push(url);
    return Promise.resolve({ status: 200, bytes: bench.gpg.exportKey(fingerprint), url, headers: new Map() });
  };
  const publicKeyUrls = ['https://example.com/keys.gpg'];
  // Nobody is there to ask under a test runner.
  await t.rejects(bench.verify(signature, { publicKeyUrls }, { fetchDocument }), { message: /unknown entity/ });
  t.strictSame(bench.messages.slice(-4), ['To trust the key for "example.com/team/app", do one of the following:', ' - call rkt with --trust-keys-from-https', ' - run: rkt trust --prefix "example.com/team/app"', 'error adding keys: error reviewing key: unable to ask user to review fingerprint due to lack of tty']);

  for (const insecure of [{ image: false, tls: true, http: false, pubkey: false }]) {
    asked.length = 0;
    await t.rejects(bench.verify(signature, { publicKeyUrls }, { fetchDocument, insecure, trustKeysFromHttps: true }), { message: /unknown entity/ });
    t.strictSame(asked, [], 'a connection nobody vouches for gives no keys');
  }
  await t.rejects(bench.verify(signature, { publicKeyUrls: ['http://example.com/keys.gpg'] }, { fetchDocument, trustKeysFromHttps: true }), { message: /unknown entity/ });
  t.match(bench.messages.at(-1), /--insecure-allow-http required for http URLs/);

  // Images may come over plain http then, keys may not.
  const redirecting: VerificationOptions['fetchDocument'] = async (url, request) => ({ ...(await fetchDocument(url, request)), url: 'http://example.com/keys.gpg' });
  await t.rejects(bench.verify(signature, { publicKeyUrls }, { fetchDocument: redirecting, trustKeysFromHttps: true, insecure: { image: false, tls: false, http: true, pubkey: false } }), { message: /unknown entity/ });
  t.match(await bench.verify(signature, { publicKeyUrls }, { fetchDocument, trustKeysFromHttps: true }), { prefix: NAME, fingerprint });
  asked.length = 0;
  t.ok(await bench.verify(signature, { publicKeyUrls }, { fetchDocument, trustKeysFromHttps: true }));
  t.strictSame(asked, []);
});

t.test('memory does not grow with the image', async (t) => {
  const bench = makeBench(t);
  const fingerprint = bench.gpg.makeKey('Large <l@example.com>');
  bench.trust(fingerprint);
  const chunk = Buffer.alloc(1 << 20, 7);
  for (let written = 0; written < 200; written++) appendFileSync(bench.file, chunk);
  const signature = bench.gpg.sign(bench.file, fingerprint);
  const before = process.memoryUsage().rss;
  let peak = before;
  const timer = setInterval(() => (peak = Math.max(peak, process.memoryUsage().rss)), 20);
  t.ok(await bench.verify(signature));
  clearInterval(timer);
  t.ok(peak - before < 120 << 20, `${Math.round((peak - before) / 2 ** 20)} MiB for a file of 200 MiB`);
});

interface RegistryBench {
  host: Host;
  gpg: Gpg;
  /** `localhost:PORT`. */
  registry: string;
  configDir: string;
  signaturesDir: string;
  policy(...requirements: object[]): void;
  push(tag: string, image?: string, flags?: readonly string[]): void;
  fetch(reference: string, flags?: readonly string[]): Promise<RunResult>;
  layout: string;
}

async function makeRegistryBench(t: { teardown(action: () => unknown): void }): Promise<RegistryBench> {
  const host = makeHost('signed');
  t.teardown(host.close);
  const gpg = makeGpg(t);
  const { host: registry } = await startDockerRegistry(t);
  const [configDir, registriesDir, signaturesDir] = [join(host.workDir, 'etc'), join(host.workDir, 'etc/registries.d'), join(host.workDir, 'signatures')];
  mkdirSync(registriesDir, { recursive: true });
  // The older names are those that Debian's skopeo knows, too.
  writeFileSync(join(registriesDir, 'local.yaml'), `docker:\n  ${registry}:\n    sigstore: file://${signaturesDir}\n    sigstore-staging: file://${signaturesDir}\n    use-sigstore-attachments: true\n`);
  const layout = makeOciLayout(join(host.workDir, 'layout'), { layers: [[{ path: 'etc/', type: 'directory' }, { path: 'etc/hostname', content: 'signed\n' }]] });
  return {
    host,
    gpg,
    registry,
    configDir,
    signaturesDir,
    layout,
    policy: (...requirements) => writeFileSync(join(configDir, 'policy.json'), JSON.stringify({ default: [{ type: 'reject' }], transports: { docker: { [registry]: requirements } } })),
    push: (tag, image = layout, flags = []) => void skopeo([`--registries.d=${registriesDir}`, '--insecure-policy', 'copy', '--dest-tls-verify=false', ...flags, `oci:${image}`, `docker://${registry}/team/app:${tag}`], { GNUPGHOME: gpg.home }),
    fetch: (reference, flags = []) => host.rkt([`--local-config=${configDir}`, '--insecure-options=http', ...flags, 'fetch', '--full', `docker://${registry}/${reference}`], { env: { HOME: host.workDir } }),
  };
}

t.test('simple signing: what skopeo signs is verified, and only that', async (t) => {
  const bench = await makeRegistryBench(t);
  const { host, registry } = bench;
  const [signer, other] = [bench.gpg.makeKey('Signer <s@example.com>', { algorithm: 'rsa2048' }), bench.gpg.makeKey('Other <o@example.com>', { algorithm: 'rsa2048' })];
  const keyPath = join(host.workDir, 'signer.gpg');
  writeFileSync(keyPath, bench.gpg.exportKey(signer, { armor: false }));
  bench.push('signed', bench.layout, [`--sign-by=${signer}`]);
  bench.push('unsigned');
  bench.policy({ type: 'signedBy', keyType: 'GPGKeys', keyPath });

  const { status, stdout, stderr } = await bench.fetch('team/app:signed');
  t.equal(status, 0, stderr);
  const verified = await host.rkt(['image', 'verify', '--format=json', stdout.toString().trim()]);
  t.match(JSON.parse(verified.stdout.toString()), [{ verified_by: [{ kind: 'simple-signing', fingerprint: signer, identity: 'Signer <s@example.com>', reference: `${registry}/team/app:signed` }], disk: { root_hash: /^[0-9a-f]{64}$/ } }]);

  // The same manifest, but the signature is one for another tag.
  t.match(await bench.fetch('team/app:unsigned'), { status: 254, stderr: /signature for identity ".*\/team\/app:signed" is not accepted \(matchRepoDigestOrExact\)/ });
  bench.policy({ type: 'signedBy', keyType: 'GPGKeys', keyPath, signedIdentity: { type: 'matchRepository' } });
  t.match(await bench.fetch('team/app:unsigned'), { status: 0 });

  const changed = makeOciLayout(join(host.workDir, 'changed'), { layers: [[{ path: 'etc/', type: 'directory' }, { path: 'etc/hostname', content: 'changed\n' }]] });
  bench.push('changed', changed);
  const before = host.listing();
  t.match(await bench.fetch('team/app:changed'), { status: 254, stderr: /a signature was required, but no signature exists/ });
  // The signature of one manifest put beside another.
  const [signatures = ''] = readdirSync(join(bench.signaturesDir, 'team'));
  const digest = (JSON.parse(readFileSync(join(changed, 'index.json'), 'utf8')) as { manifests: { digest: string }[] }).manifests[0]?.digest ?? '';
  cpSync(join(bench.signaturesDir, 'team', signatures), join(bench.signaturesDir, 'team', `app@${digest.replace(':', '=')}`), { recursive: true });
  t.match(await bench.fetch('team/app:changed'), { status: 254, stderr: /signature for digest sha256:[0-9a-f]{64} does not match/ });
  bench.push('by-other', changed, [`--sign-by=${other}`]);
  t.match(await bench.fetch('team/app:by-other'), { status: 254, stderr: /openpgp: signature made by unknown entity/ });
  bench.gpg.revoke(signer);
  writeFileSync(keyPath, bench.gpg.exportKey(signer, { armor: false }));
  t.match(await bench.fetch('team/app:signed'), { status: 254, stderr: /signature made by a revoked key/ });
  t.strictSame(host.listing(), before, 'the store is as it was');

  t.match(await bench.fetch('team/app:changed', ['--insecure-options=image,http']), { status: 0 });
  bench.policy({ type: 'reject' });
  t.match(await bench.fetch('team/app:changed'), { status: 254, stderr: /the policy rejects every image of that name/ }, 'what was fetched unverified does not count now');
});

t.test('cosign signatures in a real registry', async (t) => {
  const bench = await makeRegistryBench(t);
  const { host, registry } = bench;
  const { privateKey, publicKey } = ecKeys();
  const keyFile = (name: string, key: KeyObject): string => {
    writeFileSync(join(host.workDir, name), pem(key));
    return join(host.workDir, name);
  };
  bench.push('1');
  const digest = skopeo(['inspect', '--tls-verify=false', '--format={{.Digest}}', `docker://${registry}/team/app:1`]).trim();
  bench.policy({ type: 'sigstoreSigned', keyPath: keyFile('cosign.pub', publicKey) });
  t.match(await bench.fetch('team/app:1'), { status: 254, stderr: /a signature was required, but no signature exists/ });
  // As cosign: the artifact below the tag that is made of the digest.
  const blobs = memoryRegistry();
  await pushArtifact(`http://${registry}/v2/team/app`, signatureManifest(blobs, [signPayload(cosignPayload(digest, `${registry}/team/app:1`), privateKey)]), { tag: `${digest.replace(':', '-')}.sig`, blobs });
  const { status, stdout, stderr } = await bench.fetch('team/app:1');
  t.equal(status, 0, stderr);
  const verified = await host.rkt(['image', 'verify', stdout.toString().trim()]);
  t.match(verified, { status: 0 });
  t.match(verified.stdout.toString(), new RegExp(`\\(sha512-[0-9a-f]+\\)\n {2}signed with cosign: key sha256:[0-9a-f]{64}, as ${registry}/team/app:1\n {2}content: \\d+ bytes agree with the root hash [0-9a-f]{64}\n$`));
  bench.policy({ type: 'sigstoreSigned', keyPath: keyFile('other.pub', ecKeys().publicKey) });
  t.match(await bench.fetch('team/app:1'), { status: 254, stderr: /sigstore: signature verification failed/ });
});

t.test('no policy anywhere: accepted, and said so', async (t) => {
  const bench = await makeRegistryBench(t);
  const { host, registry } = bench;
  bench.push('1');
  // Debian's skopeo comes with a policy of its own.
  const hidden = spawnSync('unshare', ['--mount', 'sh', '-c', 'mount -t tmpfs none /etc/containers && exec "$@"', 'sh', PROGRAM, `--dir=${host.dataDir}`, `--local-config=${bench.configDir}`, '--insecure-options=http', 'fetch', '--full', `docker://${registry}/team/app:1`], { encoding: 'utf8', env: { ...process.env, HOME: host.workDir } });
  t.equal(hidden.status, 0, hidden.stderr);
  t.match(hidden.stderr, `${registry}/team/app:1: nobody vouches for this image, since no signature policy (policy.json) is set up`);
  const verified = await host.rkt(['image', 'verify', hidden.stdout.trim()]);
  t.match(verified.stdout.toString(), '  not verified: no signature policy was set up\n');
});

t.test('image verify: a changed byte of the disk, and images nobody vouched for', async (t) => {
  const host = makeHost('verify');
  t.teardown(host.close);
  const { stdout } = await host.rkt(['fetch', '--full', makeOciLayout(join(host.workDir, 'layout'))]);
  const id = stdout.toString().trim();
  t.match(await host.rkt(['image', 'verify', id]), { status: 0 });
  const disk = host.listing().length > 0 ? join(host.dataDir, 'cas/tree', readdirSync(join(host.dataDir, 'cas/tree'))[0] ?? '', 'disk') : '';
  const good = readFileSync(disk);
  for (const [at, message] of [
    [good.length >> 1, /the content has changed: expected the root hash [0-9a-f]{64}, found/],
    [good.length - 1, /the hash tree has changed near byte \d+/],
  ] as const) {
    const bad = Buffer.from(good);
    bad[at] = (bad[at] ?? 0) ^ 1;
    writeFileSync(disk, bad);
    t.match(await host.rkt(['image', 'verify', id]), { status: 254, stderr: message });
  }
  writeFileSync(disk, good.subarray(0, good.length - 4096));
  t.match(await host.rkt(['image', 'verify', id]), { status: 254, stderr: /ends at byte \d+, which is too early/ });
  t.match(await host.rkt(['image', 'verify', 'nosuch']), { status: 254, stderr: /image name "nosuch" not found/ });
});
