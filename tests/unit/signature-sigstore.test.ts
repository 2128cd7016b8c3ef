/** Signatures of cosign: by key, by certificate, in the log and not, under a tag and among referrers; and everything that is wrong with one. */
import { generateKeyPairSync, sign } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { initializeCA, initializeCTLog } from '@sigstore/mock';
import t from 'tap';
import { RktError } from '../../src/error.ts';
import { verifyRegistryImage } from '../../src/image/signature/verify-registry-image.ts';
import type { RegistryAccess, VerificationOptions, VerifiedBy } from '../../src/image/verification.ts';
import { attachBundle, attachByTag, cosignPayload, COSIGN_ARTIFACT, digestOf, ecKeys, makeAuthority, memoryRegistry, pem, signatureManifest, signPayload } from '../helpers/cosign.ts';
import type { MemoryRegistry, SignedPayload } from '../helpers/cosign.ts';
import { fuzzForLong } from '../helpers/fuzz.ts';
import { seededRandom } from '../helpers/random.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';
import { makeLog } from '../helpers/transparency-log.ts';
import type { Log } from '../helpers/transparency-log.ts';

const REPOSITORY = 'registry.example.com/team/app';
const DIGEST = digestOf(Buffer.from('the manifest'));
const IDENTITY = { oidcIssuer: 'https://accounts.example.com', subjectEmail: 'signer@example.com' };

interface Bench {
  dir: string;
  registry: MemoryRegistry;
  /** Writes a file and gives its path. */
  file(name: string, content: string): string;
  policy(...requirements: object[]): void;
  verify(options?: { reference?: string; imageManifestDigest?: string; access?: RegistryAccess }): Promise<VerifiedBy[]>;
}

function makeBench(t: { teardown(action: () => void): void }): Bench {
  const dir = scratchDir(t, 'sigstore');
  const registry = memoryRegistry();
  const options: VerificationOptions = {
    insecure: { image: false, tls: false, http: false, pubkey: false },
    configDirs: [dir],
    localConfigDir: dir,
    dataDir: join(dir, 'data'),
    trustKeysFromHttps: false,
    fetchDocument: () => Promise.reject(new RktError('NOT_FOUND', 'no network here')),
    onMessage: () => {},
  };
  const file = (name: string, content: string): string => {
    writeFileSync(join(dir, name), content);
    return join(dir, name);
  };
  return {
    dir,
    registry,
    file,
    policy: (...requirements) => void file('policy.json', JSON.stringify({ default: requirements })),
    verify: ({ reference = `${REPOSITORY}:1`, imageManifestDigest = DIGEST, access = registry.access } = {}) => verifyRegistryImage({ reference, manifestDigest: DIGEST, imageManifestDigest, access }, options),
  };
}

const MATCH_REPOSITORY = { signedIdentity: { type: 'matchRepository' } };

t.test('a key: the signature under its tag', async (t) => {
  const bench = makeBench(t);
  const { privateKey, publicKey } = ecKeys();
  bench.policy({ type: 'sigstoreSigned', keyPath: bench.file('key.pub', pem(publicKey)) });
  await t.rejects(bench.verify(), { code: 'BAD_SIGNATURE', message: new RegExp(`^${REPOSITORY}:1: rejected by .*policy\\.json: a signature was required, but no signature exists$`) });
  attachByTag(bench.registry, DIGEST, [signPayload(cosignPayload(DIGEST, `${REPOSITORY}:1`), privateKey)]);
  const keyDigest = digestOf(publicKey.export({ type: 'spki', format: 'der' }));
  t.strictSame(await bench.verify(), [{ kind: 'sigstore-key', keyDigest, reference: `${REPOSITORY}:1` }]);

  await t.rejects(bench.verify({ reference: `${REPOSITORY}:2` }), { code: 'BAD_SIGNATURE', message: /signature for identity "registry\.example\.com\/team\/app:1" is not accepted \(matchRepoDigestOrExact\)/ });
  t.ok(await bench.verify({ reference: `${REPOSITORY}@${DIGEST}` }), 'a digest leaves only the repository to compare');
  await t.rejects(bench.verify({ reference: `registry.example.com/other/app@${DIGEST}` }), { code: 'BAD_SIGNATURE' });
  bench.policy({ type: 'sigstoreSigned', keyPath: join(bench.dir, 'key.pub'), ...MATCH_REPOSITORY });
  t.ok(await bench.verify({ reference: `${REPOSITORY}:2` }));
});

t.test('cosign writes only the repository', async (t) => {
  const bench = makeBench(t);
  const { privateKey, publicKey } = ecKeys();
  const keyData = Buffer.from(pem(publicKey)).toString('base64');
  attachByTag(bench.registry, DIGEST, [signPayload(cosignPayload(DIGEST, REPOSITORY), privateKey)]);
  bench.policy({ type: 'sigstoreSigned', keyData });
  await t.rejects(bench.verify(), { code: 'BAD_SIGNATURE', message: /is not accepted/ });
  bench.policy({ type: 'sigstoreSigned', keyData, ...MATCH_REPOSITORY });
  t.match(await bench.verify(), [{ reference: REPOSITORY }]);
});

t.test('the index of an image may be what is signed; a manifest of another image may not', async (t) => {
  const bench = makeBench(t);
  const { privateKey, publicKey } = ecKeys();
  bench.policy({ type: 'sigstoreSigned', keyPath: bench.file('key.pub', pem(publicKey)) });
  const imageManifestDigest = digestOf(Buffer.from('the manifest of the platform'));
  attachByTag(bench.registry, DIGEST, [signPayload(cosignPayload(DIGEST, `${REPOSITORY}:1`), privateKey)]);
  t.ok(await bench.verify({ imageManifestDigest }));
  const other = digestOf(Buffer.from('another manifest'));
  attachByTag(bench.registry, DIGEST, [signPayload(cosignPayload(other, `${REPOSITORY}:1`), privateKey)]);
  await t.rejects(bench.verify({ imageManifestDigest }), { code: 'BAD_SIGNATURE', message: new RegExp(`signature for digest ${other} does not match`) });
});

t.test('several keys, several signatures: one good pair is enough', async (t) => {
  const bench = makeBench(t);
  const [old, next, stranger] = [ecKeys(), ecKeys(), ecKeys()];
  const payload = cosignPayload(DIGEST, `${REPOSITORY}:1`);
  bench.policy({ type: 'sigstoreSigned', keyPaths: [bench.file('old', pem(old.publicKey)), bench.file('new', pem(next.publicKey))] });
  attachByTag(bench.registry, DIGEST, [signPayload(payload, stranger.privateKey), signPayload(payload, next.privateKey)]);
  t.match(await bench.verify(), [{ keyDigest: digestOf(next.publicKey.export({ type: 'spki', format: 'der' })) }]);
  attachByTag(bench.registry, DIGEST, [signPayload(payload, stranger.privateKey), signPayload(cosignPayload(DIGEST, 'x/y:1'), old.privateKey)]);
  await t.rejects(bench.verify(), { code: 'BAD_SIGNATURE', message: /none of the 2 signatures is accepted: sigstore: signature verification failed; signature for identity "x\/y:1" is not accepted/ });
});

t.test('every requirement must be met', async (t) => {
  const bench = makeBench(t);
  const [vendor, reviewer] = [ecKeys(), ecKeys()];
  const payload = cosignPayload(DIGEST, `${REPOSITORY}:1`);
  bench.policy({ type: 'insecureAcceptAnything' }, { type: 'sigstoreSigned', keyPath: bench.file('v', pem(vendor.publicKey)) }, { type: 'sigstoreSigned', keyPath: bench.file('r', pem(reviewer.publicKey)) });
  attachByTag(bench.registry, DIGEST, [signPayload(payload, vendor.privateKey)]);
  await t.rejects(bench.verify(), { code: 'BAD_SIGNATURE' });
  attachByTag(bench.registry, DIGEST, [signPayload(payload, vendor.privateKey), signPayload(payload, reviewer.privateKey)]);
  t.match(await bench.verify(), [{ kind: 'sigstore-key' }, { kind: 'sigstore-key' }]);
  bench.policy({ type: 'sigstoreSigned', keyPath: join(bench.dir, 'v') }, { type: 'reject' });
  await t.rejects(bench.verify(), { code: 'BAD_SIGNATURE', message: /the policy rejects every image of that name/ });
  bench.policy({ type: 'insecureAcceptAnything' });
  t.strictSame(await bench.verify(), [{ kind: 'none', reason: 'policy-accepts-anything' }]);
});

t.test('keys that are none, or too weak', async (t) => {
  const bench = makeBench(t);
  const ed25519 = generateKeyPairSync('ed25519');
  const shortRsa = generateKeyPairSync('rsa', { modulusLength: 1024 });
  const koblitz = generateKeyPairSync('ec', { namedCurve: 'secp256k1' });
  for (const [content, message] of [
    [pem(ed25519.publicKey), /expected an ECDSA key/],
    [pem(shortRsa.publicKey), /at least 2048 bits/],
    [pem(koblitz.publicKey), /expected an ECDSA key/],
    [pem(ecKeys().publicKey) + pem(ecKeys().publicKey), /expected one PUBLIC KEY/],
    ['hello', /not a public key in PEM/],
    [ecKeys().privateKey.export({ type: 'pkcs8', format: 'pem' }) as string, /not a public key in PEM/],
  ] as const) {
    bench.policy({ type: 'sigstoreSigned', keyPath: bench.file('key', content) });
    await t.rejects(bench.verify(), { code: 'BAD_INPUT', message });
  }
  bench.policy({ type: 'sigstoreSigned', keyPath: 'relative/key' });
  await t.rejects(bench.verify(), { code: 'BAD_INPUT', message: /must be absolute/ });
  bench.policy({ type: 'sigstoreSigned', keyPath: '/missing/key' });
  await t.rejects(bench.verify(), { code: 'NOT_FOUND' });
});

t.test('a key and the log: the entry must be there, of this signature, of this key', async (t) => {
  const bench = makeBench(t);
  const log = makeLog();
  const { privateKey, publicKey } = ecKeys();
  bench.policy({ type: 'sigstoreSigned', keyPath: bench.file('key', pem(publicKey)), rekorPublicKeyPath: bench.file('rekor', log.publicKeyPem) });
  const signed = signPayload(cosignPayload(DIGEST, `${REPOSITORY}:1`), privateKey);
  const verify = async (signature: SignedPayload): Promise<VerifiedBy[]> => {
    attachByTag(bench.registry, DIGEST, [signature]);
    return await bench.verify();
  };
  const good = await log.enter(signed, pem(publicKey));
  t.match(await verify(good), [{ kind: 'sigstore-key' }]);
  await t.rejects(verify(signed), { code: 'BAD_SIGNATURE', message: /expected 1 timestamps|expected 1 tlog entries/ }, 'not in the log');
  await t.rejects(verify(await makeLog().enter(signed, pem(publicKey))), { code: 'BAD_SIGNATURE', message: /inclusion promise could not be verified/ }, 'in another log');
  await t.rejects(verify(await log.enter(signed, pem(ecKeys().publicKey))), { code: 'BAD_SIGNATURE', message: /with another key/ });
  const other = await log.enter(signPayload(cosignPayload(DIGEST, `${REPOSITORY}:9`), privateKey), pem(publicKey));
  await t.rejects(verify({ ...signed, annotations: { ...other.annotations, 'dev.cosignproject.cosign/signature': signed.annotations['dev.cosignproject.cosign/signature'] ?? '' } }), { code: 'BAD_SIGNATURE', message: /mismatch/ }, 'the entry of another signature');

  const entry = JSON.parse(good.annotations['dev.sigstore.cosign/bundle'] ?? '') as { Payload: { integratedTime: number } };
  const changed = { ...entry, Payload: { ...entry.Payload, integratedTime: entry.Payload.integratedTime - 1 } };
  await t.rejects(verify({ ...good, annotations: { ...good.annotations, 'dev.sigstore.cosign/bundle': JSON.stringify(changed) } }), { code: 'BAD_SIGNATURE' }, 'another time than promised');
});

interface Keyless {
  certificate: string;
  signed: SignedPayload;
}

/** Signs with a fresh key that a certificate vouches for, and enters it into the log. */
async function signKeyless(log: Log, certificateOf: (key: KeyObject) => string, options: { at?: Date; chain?: string; payload?: Buffer } = {}): Promise<Keyless> {
  const { privateKey, publicKey } = ecKeys();
  const certificate = certificateOf(publicKey);
  const plain = signPayload(options.payload ?? cosignPayload(DIGEST, `${REPOSITORY}:1`), privateKey);
  const withCertificate = { ...plain, annotations: { ...plain.annotations, 'dev.sigstore.cosign/certificate': certificate, ...(options.chain === undefined ? {} : { 'dev.sigstore.cosign/chain': options.chain }) } };
  return { certificate, signed: await log.enter(withCertificate, certificate, options.at) };
}

t.test('a certificate: who signed, vouched for by whom, and when', async (t) => {
  const bench = makeBench(t);
  const authority = makeAuthority(bench.dir);
  const log = makeLog();
  const chain = authority.intermediatePem + authority.rootPem;
  const fulcio = { caPath: bench.file('ca.pem', authority.rootPem), ...IDENTITY };
  const rekorPublicKeyPath = bench.file('rekor', log.publicKeyPem);
  const verify = async ({ signed }: Keyless, changes: object = {}): Promise<VerifiedBy[]> => {
    bench.policy({ type: 'sigstoreSigned', fulcio: { ...fulcio, ...changes }, rekorPublicKeyPath });
    attachByTag(bench.registry, DIGEST, [signed]);
    return await bench.verify();
  };
  const spare = authority.issue(ecKeys().publicKey);
  const good = await signKeyless(log, (key) => authority.issue(key), { chain });
  t.strictSame(await verify(good), [{ kind: 'sigstore-keyless', identity: 'signer@example.com', issuer: 'https://accounts.example.com', reference: `${REPOSITORY}:1` }]);
  const refused = async (keyless: Keyless, message: RegExp, changes: object = {}): Promise<void> => void (await t.rejects(verify(keyless, changes), { code: 'BAD_SIGNATURE', message }, String(message)));

  await refused(good, /expected the identity provider https:\/\/evil, found "https:\/\/accounts\.example\.com"/, { oidcIssuer: 'https://evil' });
  await refused(good, /expected the identity Signer@example\.com, found "signer@example\.com"/, { subjectEmail: 'Signer@example.com' });
  await refused(good, /expected the identity signer@example\.co,/, { subjectEmail: 'signer@example.co' });
  await refused(good, /expected the identity \.\*,/, { subjectEmail: '.*' });
  const workflow = await signKeyless(log, (key) => authority.issue(key, { subjectAltName: 'URI:https://github.com/o/r/.github/workflows/w.yml@refs/heads/main' }), { chain });
  t.match(await verify(workflow, { subjectEmail: 'https://github.com/o/r/.github/workflows/w.yml@refs/heads/main' }), [{ kind: 'sigstore-keyless' }]);
  await refused(workflow, /expected the identity signer@example\.com/);
  await refused(await signKeyless(log, (key) => authority.issue(key, { subjectAltName: 'URI:signer@example.com' }), { chain }), /expected the identity/);

  await refused(await signKeyless(log, (key) => authority.issue(key), {}), /issued by nobody who is trusted/);
  await refused(await signKeyless(log, (key) => authority.issue(key), { chain, at: new Date(Date.now() + 3 * 86_400_000) }), /not valid at .* when the signature was logged/);
  await refused(await signKeyless(log, (key) => authority.issue(key), { chain, at: new Date(Date.now() - 86_400_000) }), /not valid at/);
  await refused(await signKeyless(log, (key) => authority.issue(key, { usage: 'serverAuth' }), { chain }), /not for signing code/);
  await refused(await signKeyless(log, (key) => authority.issue(key, { usage: '' }), { chain }), /not for signing code/);
  await refused(await signKeyless(log, (key) => authority.issue(key, { more: ['basicConstraints=CA:TRUE'] }), { chain }), /one of an authority/);
  await refused(await signKeyless(log, (key) => authority.issue(key, { more: ['1.2.3.4=critical,DER:0500'] }), { chain }), /critical extension 1\.2\.3\.4/);
  await refused(await signKeyless(log, (key) => authority.issue(key, { more: [`1.3.6.1.4.1.57264.1.8=ASN1:UTF8String:https://evil`] }), { chain }), /two identity providers/);

  const impostor = makeAuthority(scratchDir(t, 'impostor'));
  await refused(await signKeyless(log, (key) => impostor.issue(key), { chain: impostor.intermediatePem + impostor.rootPem }), /issued by nobody who is trusted/);
  await refused(await signKeyless(makeLog(), (key) => authority.issue(key), { chain }), /inclusion promise could not be verified/);
  // A certificate of the right person, a signature of somebody else.
  const { privateKey } = ecKeys();
  const stolen = signPayload(good.signed.payload, privateKey);
  const entered = await log.enter({ ...stolen, annotations: { ...good.signed.annotations, ...stolen.annotations } }, good.certificate);
  await refused({ ...good, signed: entered }, /signature verification failed/);
  // The certificate swapped for another valid one of the same person after it was logged.
  await refused({ ...good, signed: { ...good.signed, annotations: { ...good.signed.annotations, 'dev.sigstore.cosign/certificate': spare } } }, /signature verification failed|with another key/);
});

t.test('a certificate of an authority that may not have issued it', async (t) => {
  const bench = makeBench(t);
  const authority = makeAuthority(bench.dir);
  const log = makeLog();
  // The holder of a person's certificate plays authority.
  const holder = ecKeys();
  const holderPem = authority.issue(holder.publicKey);
  bench.file('intermediate.pem', holderPem);
  bench.file('intermediate.key', holder.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string);
  const keyless = await signKeyless(log, (key) => authority.issue(key), { chain: holderPem + authority.intermediatePem });
  bench.policy({ type: 'sigstoreSigned', fulcio: { caPath: bench.file('ca.pem', authority.rootPem), ...IDENTITY }, rekorPublicKeyPath: bench.file('rekor', log.publicKeyPem) });
  attachByTag(bench.registry, DIGEST, [keyless.signed]);
  await t.rejects(bench.verify(), { code: 'BAD_SIGNATURE', message: /issued by nobody who is trusted/ });
});

t.test('a trusted root of Sigstore, with the log of certificates; bundles', async (t) => {
  const bench = makeBench(t);
  const log = makeLog();
  const at = new Date();
  const ctLog = await initializeCTLog(ecKeys());
  const ca = await initializeCA(ecKeys(), ctLog);
  const rootBytes = Buffer.from(ca.rootCertificate.buffer, ca.rootCertificate.byteOffset, ca.rootCertificate.byteLength);
  const since = { start: new Date(at.getTime() - 3_600_000).toISOString() };
  const trustedRoot = (changes: object = {}): string =>
    JSON.stringify({
      mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
      tlogs: [{ baseUrl: 'https://rekor.example.com', hashAlgorithm: 'SHA2_256', publicKey: { rawBytes: log.publicKeyDer.toString('base64'), keyDetails: 'PKIX_ECDSA_P256_SHA_256', validFor: since }, logId: { keyId: Buffer.from(digestOf(log.publicKeyDer).slice(7), 'hex').toString('base64') } }],
      certificateAuthorities: [{ subject: {}, uri: '', certChain: { certificates: [{ rawBytes: rootBytes.toString('base64') }] }, validFor: since }],
      ctlogs: [{ baseUrl: '', hashAlgorithm: 'SHA2_256', publicKey: { rawBytes: ctLog.publicKey.toString('base64'), keyDetails: 'PKIX_ECDSA_P256_SHA_256', validFor: since }, logId: { keyId: Buffer.from(ctLog.logID.buffer, ctLog.logID.byteOffset, ctLog.logID.byteLength).toString('base64') } }],
      timestampAuthorities: [],
      ...changes,
    });
  const subject = 'https://github.com/o/r/.github/workflows/release.yml@refs/tags/v1';
  const policy = (root: string, identity: object = { oidcIssuer: 'https://issuer.example.com', subjectEmail: subject }): void => {
    const path = bench.file('trusted_root.json', root);
    bench.policy({ type: 'sigstoreSigned', fulcio: { caPath: path, ...identity }, rekorPublicKeyPath: path });
  };
  const certify = async (key: KeyObject): Promise<Buffer> => {
    const der = await ca.issueCertificate({ publicKey: key.export({ type: 'spki', format: 'der' }), subjectAltName: subject, extensions: [{ oid: '1.3.6.1.4.1.57264.1.8', value: 'https://issuer.example.com' }] });
    return Buffer.from(der.buffer, der.byteOffset, der.byteLength);
  };
  const toPem = (der: Buffer): string => `-----BEGIN CERTIFICATE-----\n${(der.toString('base64').match(/.{1,64}/g) ?? []).join('\n')}\n-----END CERTIFICATE-----\n`;

  const keys = ecKeys();
  const certificate = await certify(keys.publicKey);
  const { signed } = await signKeyless(log, () => toPem(certificate), { payload: cosignPayload(DIGEST, `${REPOSITORY}:1`) });
  // Signed with a key of its own in there; make it this one's.
  const own = signPayload(signed.payload, keys.privateKey);
  attachByTag(bench.registry, DIGEST, [await log.enter({ ...own, annotations: { ...own.annotations, 'dev.sigstore.cosign/certificate': toPem(certificate) } }, toPem(certificate))]);
  policy(trustedRoot());
  t.strictSame(await bench.verify(), [{ kind: 'sigstore-keyless', identity: subject, issuer: 'https://issuer.example.com', reference: `${REPOSITORY}:1` }]);
  policy(trustedRoot(), { oidcIssuer: 'https://issuer.example.com', subjectEmail: 'https://github.com/o/r' });
  await t.rejects(bench.verify(), { code: 'BAD_SIGNATURE', message: /expected the identity/ });
  policy(trustedRoot({ ctlogs: [] }));
  await t.rejects(bench.verify(), { code: 'BAD_SIGNATURE', message: /SCT verification failed/ });
  policy(trustedRoot({ certificateAuthorities: [] }));
  await t.rejects(bench.verify(), { code: 'BAD_SIGNATURE' });
  policy(trustedRoot({ tlogs: [] }));
  await t.rejects(bench.verify(), { code: 'BAD_INPUT', message: /names no transparency log/ });
  policy('{"tlogs": 1');
  await t.rejects(bench.verify(), { code: 'BAD_INPUT', message: /neither certificates in PEM nor a trusted root/ });

  await t.test('a bundle among the referrers', async (t) => {
    const statement = (changes: object = {}): object => ({ _type: 'https://in-toto.io/Statement/v1', subject: [{ name: `${REPOSITORY}:1`, digest: { sha256: DIGEST.slice('sha256:'.length) } }], predicateType: 'https://sigstore.dev/cosign/sign/v1', predicate: {}, ...changes });
    const bundle = async (content: object, payloadType = 'application/vnd.in-toto+json'): Promise<object> => {
      const payload = Buffer.from(JSON.stringify(content));
      const encoded = Buffer.concat([Buffer.from(`DSSEv1 ${payloadType.length} ${payloadType} ${payload.length} `), payload]);
      const sig = sign('sha256', encoded, keys.privateKey).toString('base64');
      const hash = (bytes: Buffer): object => ({ algorithm: 'sha256', value: digestOf(bytes).slice('sha256:'.length) });
      const dsseEnvelope = { payload: payload.toString('base64'), payloadType, signatures: [{ sig, keyid: '' }] };
      const entry = await log.bundleEntry({ kind: 'dsse', version: '0.0.1', body: { payloadHash: hash(payload), envelopeHash: hash(Buffer.from(JSON.stringify(dsseEnvelope))), signatures: [{ signature: sig, verifier: Buffer.from(toPem(certificate)).toString('base64') }] } });
      return { mediaType: 'application/vnd.dev.sigstore.bundle.v0.3+json', verificationMaterial: { certificate: { rawBytes: certificate.toString('base64') }, tlogEntries: [entry] }, dsseEnvelope };
    };
    policy(trustedRoot());
    const verify = async (document: object): Promise<VerifiedBy[]> => {
      bench.registry = memoryRegistry();
      attachBundle(bench.registry, DIGEST, document);
      return await verifyRegistryImage({ reference: `${REPOSITORY}:1`, manifestDigest: DIGEST, imageManifestDigest: DIGEST, access: bench.registry.access }, { insecure: { image: false, tls: false, http: false, pubkey: false }, configDirs: [bench.dir], localConfigDir: bench.dir, dataDir: bench.dir, trustKeysFromHttps: false, fetchDocument: () => Promise.reject(new Error('none')), onMessage: () => {} });
    };
    t.match(await verify(await bundle(statement())), [{ kind: 'sigstore-keyless', identity: subject, reference: `${REPOSITORY}:1` }]);
    for (const [document, message] of [
      [await bundle(statement({ predicateType: 'https://slsa.dev/provenance/v1' })), /predicateType: expected one of/],
      [await bundle(statement({ subject: [{ digest: { sha256: DIGEST.slice(7) } }] })), /names no image/],
      [await bundle(statement({ subject: [{ name: `${REPOSITORY}:2`, digest: { sha256: DIGEST.slice(7) } }] })), /is not accepted/],
      [await bundle(statement({ subject: [{ name: `${REPOSITORY}:1`, digest: { sha256: '0'.repeat(64) } }] })), /does not match/],
      [await bundle(statement({ subject: [] })), /about nothing/],
      [await bundle(statement(), 'text/plain'), /the bundle signs "text\/plain"/],
      [{ ...(await bundle(statement())), dsseEnvelope: (await bundle(statement()) as { dsseEnvelope: object }).dsseEnvelope }, /sigstore: /],
      [{}, /sigstore: /],
    ] as const) {
      await t.rejects(verify(document), { code: 'BAD_SIGNATURE', message }, String(message));
    }
  });
});

t.test('referrers of cosign; other artifacts are none', async (t) => {
  const bench = makeBench(t);
  const { privateKey, publicKey } = ecKeys();
  bench.policy({ type: 'sigstoreSigned', keyPath: bench.file('key', pem(publicKey)) });
  const manifest = signatureManifest(bench.registry, [signPayload(cosignPayload(DIGEST, `${REPOSITORY}:1`), privateKey)]);
  bench.registry.refer(DIGEST, bench.registry.putManifest(manifest), 'application/spdx+json');
  await t.rejects(bench.verify(), { code: 'BAD_SIGNATURE', message: /no signature exists/ });
  bench.registry.refer(DIGEST, bench.registry.putManifest(manifest), COSIGN_ARTIFACT);
  t.ok(await bench.verify());
  const many = signatureManifest(bench.registry, Array.from({ length: 130 }, (_, index) => signPayload(cosignPayload(DIGEST, `x/y:${index}`), privateKey)));
  bench.registry.putManifest(many, `${DIGEST.replace(':', '-')}.sig`);
  await t.rejects(bench.verify(), { code: 'LIMIT', message: /more than 128 signatures/ });
});

/** Signatures with something broken in them. */
function fuzzed(seed: number, { payload, annotations }: SignedPayload): SignedPayload {
  const random = seededRandom(seed);
  const change = (text: string): string => {
    const at = random.below(text.length + 1);
    return text.slice(0, at) + random.pick(['', 'A', '=', '"', '{', '\n', '0', 'null', text.slice(0, 20), Buffer.from(random.bytes(4)).toString('latin1')]) + text.slice(at + random.below(4));
  };
  const names = Object.keys(annotations);
  const changed = Object.fromEntries(Object.entries(annotations).map(([name, value]) => [name, value]));
  let bytes = payload;
  for (let count = 1 + random.below(3); count > 0; count--) {
    const name = random.pick(names);
    if (random.below(4) === 0) bytes = Buffer.from(change(bytes.toString('latin1')), 'latin1');
    else changed[name] = change(changed[name] ?? '');
  }
  return { payload: bytes, annotations: changed };
}

async function fuzz(t: { teardown(action: () => void): void }, seed: number, mayGoOn: (round: number) => boolean): Promise<number> {
  const bench = makeBench(t);
  const authority = makeAuthority(bench.dir);
  const log = makeLog();
  const { signed } = await signKeyless(log, (key) => authority.issue(key), { chain: authority.intermediatePem + authority.rootPem });
  bench.policy({ type: 'sigstoreSigned', fulcio: { caPath: bench.file('ca.pem', authority.rootPem), ...IDENTITY }, rekorPublicKeyPath: bench.file('rekor', log.publicKeyPem) });
  let accepted = 0;
  for (let round = 0; mayGoOn(round); round++) {
    const attempt = fuzzed(seed + round, signed);
    const registry = memoryRegistry();
    attachByTag(registry, DIGEST, [attempt]);
    try {
      await bench.verify({ access: registry.access });
      accepted++;
      if (!attempt.payload.equals(signed.payload)) throw new Error('accepted another payload');
    } catch (error) {
      if (!(error instanceof RktError) || !['BAD_SIGNATURE', 'LIMIT'].includes(error.code)) throw new Error(`seed ${seed + round}: ${JSON.stringify(attempt.annotations)}`, { cause: error });
    }
  }
  return accepted;
}

t.test('mutated signatures', async (t) => {
  const accepted = await fuzz(t, 1, (round) => round < 150);
  // White space in PEM, and the like, changes nothing.
  t.comment(`${accepted} of 150 are still good`);
  t.ok(accepted < 50);
});

fuzzForLong('mutated signatures', async (seed, mayGoOn) => await fuzz(t, seed, mayGoOn));
