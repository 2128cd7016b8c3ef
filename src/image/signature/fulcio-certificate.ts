/** Short-lived certificates of people and workflows, as Fulcio issues them (RFC 5280; Fulcio's certificate-specification.md). */
import { X509Certificate } from '@sigstore/core';
import { RktError } from '../../error.ts';

const EXTENDED_KEY_USAGE = '2.5.29.37';
const CODE_SIGNING = '1.3.6.1.5.5.7.3.3';
const ANY_USAGE = '2.5.29.37.0';
/** Extensions whose meaning is checked here: another one that is critical makes the certificate mean something unknown. */
const UNDERSTOOD: readonly string[] = ['2.5.29.14', '2.5.29.15', '2.5.29.17', '2.5.29.19', '2.5.29.35', EXTENDED_KEY_USAGE];
const ISSUER_V1 = '1.3.6.1.4.1.57264.1.1';
const ISSUER_V2 = '1.3.6.1.4.1.57264.1.8';
const MAX_DEPTH = 6;
const TAG_UTF8_STRING = 0x0c;

/** Throws RktError BAD_SIGNATURE. */
export function parseCertificate(der: Uint8Array): X509Certificate {
  return refusing('not a certificate', () => {
    const certificate = X509Certificate.parse(Buffer.from(der));
    const ids = certificate.extensions.map((extension) => extension.subs[0]?.toOID());
    if (new Set(ids).size !== ids.length) throw new Error('an extension is given twice');
    return certificate;
  });
}

/**
 * Verifies that the certificate was issued, through intermediates that need not be known, by one of the roots, that all
 * of them were valid at the time. Throws RktError BAD_SIGNATURE.
 */
export function verifyCertificateAt(leaf: X509Certificate, chain: { intermediates: readonly X509Certificate[]; roots: readonly X509Certificate[]; at: Date }): void {
  refusing('the certificate of the signer is not accepted', () => {
    if (!leaf.validForDate(chain.at)) throw new Error(`not valid at ${chain.at.toISOString()}, when the signature was logged`);
    requireUnderstood(leaf);
    if (!leadsToRoot(leaf, chain, 0)) throw new Error('it was issued by nobody who is trusted for that');
  });
}

function leadsToRoot(certificate: X509Certificate, chain: { intermediates: readonly X509Certificate[]; roots: readonly X509Certificate[]; at: Date }, below: number): boolean {
  if (below > MAX_DEPTH) return false;
  const issued = (issuer: X509Certificate): boolean => mayIssue(issuer, below, chain.at) && issuer.subject.equals(certificate.issuer) && certificate.verify(issuer);
  if (chain.roots.some(issued)) return true;
  return chain.intermediates.some((issuer) => issued(issuer) && leadsToRoot(issuer, chain, below + 1));
}

/** `below`: how many authorities stand between this one and the signer. */
function mayIssue(issuer: X509Certificate, below: number, at: Date): boolean {
  const pathLength = issuer.extBasicConstraints?.pathLenConstraint;
  const usages = usagesOf(issuer);
  requireUnderstood(issuer);
  return issuer.isCA && issuer.validForDate(at) && (pathLength === undefined || pathLength >= below) && (usages.length === 0 || usages.includes(CODE_SIGNING) || usages.includes(ANY_USAGE));
}

function usagesOf(certificate: X509Certificate): string[] {
  return certificate.extension(EXTENDED_KEY_USAGE)?.valueObj.subs[0]?.subs.map((usage) => usage.toOID()) ?? [];
}

function requireUnderstood(certificate: X509Certificate): void {
  for (const { subs } of certificate.extensions) {
    const oid = subs[0]?.toOID() ?? '';
    if (certificate.extension(oid)?.critical === true && !UNDERSTOOD.includes(oid)) throw new Error(`it has a critical extension ${oid}, which is not understood`);
  }
}

/** Who the certificate says the signer is. */
export interface CertificateIdentity {
  /** Email address, or URI of a workflow. */
  subject: string;
  /** The identity provider that vouched for the subject. */
  issuer: string;
}

/** Refuses every signer but this one. `subject` with `://` is a URI, else an email address. Throws RktError BAD_SIGNATURE. */
export function requireSigner(leaf: X509Certificate, expected: CertificateIdentity): void {
  refusing('the certificate of the signer is not accepted', () => {
    if (leaf.extBasicConstraints?.isCA === true) throw new Error('it is one of an authority');
    if (!usagesOf(leaf).includes(CODE_SIGNING)) throw new Error('it is not for signing code');
    const issuer = issuerOf(leaf);
    if (issuer !== expected.issuer) throw new Error(`expected the identity provider ${expected.issuer}, found ${JSON.stringify(issuer)}`);
    const names = leaf.extSubjectAltName;
    const subject = expected.subject.includes('://') ? names?.uri : names?.rfc822Name;
    if (subject !== expected.subject) throw new Error(`expected the identity ${expected.subject}, found ${JSON.stringify(subject ?? names?.uri ?? names?.rfc822Name ?? 'none')}`);
  });
}

/** The older extension holds bare text, the newer one a DER string; where both are, they must agree. */
function issuerOf(leaf: X509Certificate): string {
  const newer = leaf.extension(ISSUER_V2)?.valueObj.subs[0];
  if (leaf.extension(ISSUER_V2) !== undefined && newer?.tag.number !== TAG_UTF8_STRING) throw new Error('its identity provider is no text');
  const texts = [newer?.value, leaf.extension(ISSUER_V1)?.value].filter((value) => value !== undefined).map((value) => new TextDecoder('utf-8', { fatal: true }).decode(value));
  const [first] = texts;
  if (first === undefined) throw new Error('it does not tell the identity provider');
  if (texts.some((text) => text !== first)) throw new Error('it tells two identity providers');
  return first;
}

function refusing<T>(what: string, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    throw new RktError('BAD_SIGNATURE', `${what}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}
