/** `sigstoreSigned`: images signed with cosign, by a known key or by a known person or workflow. */
import type { KeyObject } from 'node:crypto';
import { bundleFromJSON } from '@sigstore/bundle';
import type { Bundle } from '@sigstore/bundle';
import { crypto } from '@sigstore/core';
import type { X509Certificate } from '@sigstore/core';
import { toSignedEntity, Verifier } from '@sigstore/verify';
import type { SignedEntity } from '@sigstore/verify';
import { RktError } from '../../error.ts';
import { arrayOf, mapOf, matching, objectOf, oneOf, optional, stringValue } from '../../schema/check.ts';
import type { RegistryAccess, VerificationOptions, VerifiedBy } from '../verification.ts';
import { acceptClaim, firstAccepted } from './acceptance.ts';
import type { SignedSubject } from './acceptance.ts';
import { cosignSignature } from './cosign-bundle.ts';
import { parseCertificate, requireSigner, verifyCertificateAt } from './fulcio-certificate.ts';
import type { CertificateIdentity } from './fulcio-certificate.ts';
import { spkiOf } from './pem.ts';
import { parseClaim } from './signature-claim.ts';
import type { SignatureClaim } from './signature-claim.ts';
import { sigstoreAttachments } from './sigstore-attachments.ts';
import type { SigstoreAttachment } from './sigstore-attachments.ts';
import { loadSigstoreTrust } from './sigstore-trust.ts';
import type { SigstoreSigned, SigstoreTrust, TransparencyLog, TrustedKey } from './sigstore-trust.ts';
import { parseStrictDocument } from './strict-json.ts';

/** Throws RktError BAD_SIGNATURE that says what is wrong with each signature there is. */
export async function verifySigstoreSigned(requirement: SigstoreSigned, subject: SignedSubject, { access, options }: { access: RegistryAccess; options: VerificationOptions }): Promise<VerifiedBy> {
  const trust = await loadSigstoreTrust(requirement, options);
  const attachments = async function* (): AsyncGenerator<SigstoreAttachment, void, undefined> {
    for (const digest of subject.digests) yield* sigstoreAttachments(access, digest);
  };
  return await firstAccepted(attachments(), (attachment) => {
    const signed = readAttachment(attachment);
    const signer = verifySigner(signed, trust);
    const claims = signed.claims();
    const claim = claims.find(({ manifestDigest }) => subject.digests.includes(manifestDigest)) ?? claims[0];
    if (claim === undefined) throw refused('the signature is about nothing');
    acceptClaim(claim, subject, requirement.signedIdentity);
    return { ...signer, reference: claim.dockerReference };
  });
}

/** A signature with what is needed to verify it. `claims` is for when that is done. */
interface Signed {
  entity: SignedEntity;
  /** Certificates that came with it, the signer's first. */
  certificates: X509Certificate[];
  claims(): SignatureClaim[];
}

function readAttachment(attachment: SigstoreAttachment): Signed {
  if (attachment.kind === 'payload') {
    const { payload, annotations } = attachment;
    const { bundle, certificates } = cosignSignature(payload, annotations);
    return {
      entity: wrapped(() => toSignedEntity(bundle, Buffer.from(payload))),
      certificates: certificates.map(parseCertificate),
      claims: () => [parseClaim(payload, 'cosign container image signature', 'signature')],
    };
  }
  const bundle = parseBundle(attachment.text);
  const { content } = bundle;
  if (content.$case !== 'dsseEnvelope') throw refused('the bundle signs no statement about an image');
  return {
    entity: wrapped(() => toSignedEntity(bundle)),
    certificates: certificatesOf(bundle),
    claims: () => claimsOfStatement(content.dsseEnvelope.payloadType, content.dsseEnvelope.payload),
  };
}

function parseBundle(text: string): Bundle {
  return wrapped(() => bundleFromJSON(JSON.parse(text)));
}

function certificatesOf({ verificationMaterial: { content } }: Bundle): X509Certificate[] {
  if (content.$case === 'certificate') return [parseCertificate(content.certificate.rawBytes)];
  if (content.$case === 'x509CertificateChain') return content.x509CertificateChain.certificates.map(({ rawBytes }) => parseCertificate(rawBytes));
  return [];
}

const STATEMENT_PAYLOAD = 'application/vnd.in-toto+json';
/** Other statements (provenance, results of scans) say something about an image, not that it is good. */
const SIGN_PREDICATE = 'https://sigstore.dev/cosign/sign/v1';

interface Statement {
  _type: string;
  subject: { name?: string; digest: Record<string, string> }[];
  predicateType: string;
}

const statement = objectOf<Statement>({
  _type: matching(/^https:\/\/in-toto\.io\/Statement\/v(?:0\.1|1)$/, 'an in-toto statement'),
  subject: arrayOf(objectOf<Statement['subject'][number]>({ name: optional(stringValue), digest: mapOf(stringValue) })),
  predicateType: oneOf([SIGN_PREDICATE]),
});

function claimsOfStatement(payloadType: string, payload: Uint8Array): SignatureClaim[] {
  if (payloadType !== STATEMENT_PAYLOAD) throw refused(`the bundle signs ${JSON.stringify(payloadType)}, expected ${STATEMENT_PAYLOAD}`);
  const { subject } = parseStrictDocument(Buffer.from(payload).toString('utf8'), statement, { origin: 'signed statement', code: 'BAD_SIGNATURE' });
  return subject.map(({ name, digest }) => {
    if (name === undefined || name === '') {
      throw new RktError('BAD_SIGNATURE', 'the signature names no image, so that it could be one of any other image of the same signer', { hint: 'sign with `cosign sign --new-bundle-format=false`, which writes the name' });
    }
    return { manifestDigest: `sha256:${digest['sha256'] ?? ''}`, dockerReference: name };
  });
}

type SigstoreSigner = { kind: 'sigstore-key'; keyDigest: string } | { kind: 'sigstore-keyless'; identity: string; issuer: string };

function verifySigner(signed: Signed, trust: SigstoreTrust): SigstoreSigner {
  switch (trust.kind) {
    case 'keys':
      return { kind: 'sigstore-key', keyDigest: verifyByKeys(signed.entity, trust.keys, trust.logs).digest };
    case 'authority':
      verifyByAuthority(signed, trust);
      break;
    case 'trusted-root':
      verifyByTrustedRoot(signed, trust);
      break;
  }
  return { kind: 'sigstore-keyless', identity: trust.identity.subject, issuer: trust.identity.issuer };
}

function verifyByKeys(entity: SignedEntity, keys: readonly TrustedKey[], logs: TransparencyLog[]): TrustedKey {
  let failure: unknown;
  for (const trusted of keys) {
    try {
      verifyWithKey(entity, { key: trusted.key, logs, logged: spkiOf(trusted.key), validFor: () => true });
      return trusted;
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

interface KeyVerification {
  key: KeyObject;
  /** Empty: the signature need not be logged. */
  logs: TransparencyLog[];
  /** DER of the key or certificate that the log must have seen with the signature. */
  logged: Buffer;
  validFor(date: Date): boolean;
}

function verifyWithKey(entity: SignedEntity, { key, logs, logged, validFor }: KeyVerification): void {
  const needsLog = logs.length > 0;
  const timestamps = entity.timestamps.filter((timestamp) => timestamp.$case === 'transparency-log');
  const relevant = needsLog ? { ...entity, timestamps } : { ...entity, tlogEntries: [], timestamps: [] };
  const threshold = needsLog ? 1 : 0;
  const material = { certificateAuthorities: [], timestampAuthorities: [], ctlogs: [], tlogs: logs, publicKey: () => ({ publicKey: key, validFor }) };
  wrapped(() => new Verifier(material, { ctlogThreshold: 0, tlogThreshold: threshold, timestampThreshold: threshold }).verify({ ...relevant, key: { $case: 'public-key', hint: '' } }));
  for (const { canonicalizedBody } of relevant.tlogEntries) requireLogged(canonicalizedBody, logged);
}

/** The log's entry must be about this key: the signature alone could be one of another key over the same bytes. */
function requireLogged(body: Buffer, expected: Buffer): void {
  const { kind, spec } = JSON.parse(body.toString('utf8')) as { kind: string; spec?: { signature?: { publicKey?: { content?: unknown } } } };
  const content = spec?.signature?.publicKey?.content;
  if (kind !== 'hashedrekord' || typeof content !== 'string') return;
  const der = Buffer.from(Buffer.from(content, 'base64').toString('latin1').replace(/-----[^-]*-----|\s/g, ''), 'base64');
  if (!der.equals(expected)) throw refused('the transparency log has the signature with another key');
}

/**
 * The promise of the certificate log (SCT) is not looked at, as in containers/image: the policy has no key for it, and the
 * transparency log already holds the whole certificate.
 */
function verifyByAuthority({ entity, certificates }: Signed, trust: { roots: readonly X509Certificate[]; logs: TransparencyLog[]; identity: CertificateIdentity }): void {
  const [leaf, ...intermediates] = certificates;
  if (leaf === undefined) throw refused('there is no certificate with the signature');
  const times = entity.tlogEntries.filter((entry) => entry.inclusionPromise !== undefined).map(({ integratedTime }) => new Date(Number(integratedTime) * 1000));
  if (times.length === 0) throw refused('there is no promise of a transparency log with the signature');
  for (const at of times) verifyCertificateAt(leaf, { intermediates, roots: trust.roots, at });
  requireSigner(leaf, trust.identity);
  verifyWithKey(entity, { key: wrapped(() => crypto.createPublicKey(leaf.publicKey)), logs: trust.logs, logged: leaf.root.toDER(), validFor: (date) => leaf.validForDate(date) });
}

function verifyByTrustedRoot({ entity, certificates }: Signed, { material, identity }: Extract<SigstoreTrust, { kind: 'trusted-root' }>): void {
  const [leaf] = certificates;
  if (leaf === undefined) throw refused('there is no certificate with the signature');
  wrapped(() => new Verifier(material, { ctlogThreshold: material.ctlogs.length > 0 ? 1 : 0, tlogThreshold: 1, timestampThreshold: 1 }).verify(entity));
  for (const { canonicalizedBody } of entity.tlogEntries) requireLogged(canonicalizedBody, leaf.root.toDER());
  requireSigner(leaf, identity);
}

function refused(message: string): RktError {
  return new RktError('BAD_SIGNATURE', message);
}

/** What the libraries say against a signature is a refusal, whatever they throw. */
function wrapped<T>(action: () => T): T {
  try {
    return action();
  } catch (cause) {
    throw new RktError('BAD_SIGNATURE', `sigstore: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}
