/** X.509 certificates (RFC 5280): what a chain of a TPM's keys needs, and nothing silently skipped. */
import { RktError } from '../error.ts';
import { equalBytes, toHex } from '../tpm/bytes.ts';
import type { HashName } from '../tpm/hash-algorithms.ts';
import type { TpmSignature } from '../tpm/signature.ts';
import { checkSignature } from './check-signature.ts';
import { DER, derValue, derValues, explicitTag, expectTag, oidName, unsignedOf, wholeBytesOf, type DerValue } from './der.ts';

export interface Certificate {
  der: Uint8Array;
  /** What the issuer signed. */
  signed: Uint8Array;
  signature: TpmSignature;
  serialHex: string;
  /** DER of the names; compared as bytes. */
  issuer: Uint8Array;
  subject: Uint8Array;
  /** Common name, or empty. */
  subjectName: string;
  notBeforeMs: number;
  notAfterMs: number;
  publicKeyInfo: Uint8Array;
  isAuthority: boolean;
  /** How many authorities may follow; null: any number. */
  pathLength: number | null;
  /** Null: the certificate does not restrict it. */
  maySignCertificates: boolean | null;
  maySign: boolean | null;
  isForAttestationKeys: boolean;
  /** Null: not said. */
  subjectKeyId: Uint8Array | null;
}

const MAX_CERTIFICATE_BYTES = 16 << 10;
const MAX_CERTIFICATES = 8;

const SIGNATURE_OIDS = {
  'rsassa-sha256': '1.2.840.113549.1.1.11',
  'rsassa-sha384': '1.2.840.113549.1.1.12',
  'rsassa-sha512': '1.2.840.113549.1.1.13',
  'ecdsa-sha256': '1.2.840.10045.4.3.2',
  'ecdsa-sha384': '1.2.840.10045.4.3.3',
  'ecdsa-sha512': '1.2.840.10045.4.3.4',
} as const;

export const EXTENSION_OIDS = {
  basicConstraints: '2.5.29.19',
  keyUsage: '2.5.29.15',
  extendedKeyUsage: '2.5.29.37',
  subjectKeyId: '2.5.29.14',
  authorityKeyId: '2.5.29.35',
  /** Names that nothing here depends on; TCG's profile for EK certificates makes it critical. */
  subjectAltName: '2.5.29.17',
} as const;

/** tcg-kp-AIKCertificate */
export const ATTESTATION_KEY_USAGE = { attestationKey: '2.23.133.8.3' } as const;
export const COMMON_NAME = { commonName: '2.5.4.3' } as const;

function fail(message: string): never {
  throw new RktError('BAD_INPUT', `certificate: ${message}`);
}

/** @throws RktError BAD_INPUT, LIMIT, UNSUPPORTED */
export function parseCertificate(der: Uint8Array): Certificate {
  if (der.length > MAX_CERTIFICATE_BYTES) throw new RktError('LIMIT', `certificate of ${der.length} bytes, at most ${MAX_CERTIFICATE_BYTES} are read`);
  const [signed, algorithm, bits, ...more] = derValues(derValue(der, DER.sequence).content);
  if (more.length > 0) fail('more than three parts');
  const fields = derValues(expectTag(signed, DER.sequence).content);
  const [version, serial, innerAlgorithm, issuer, validity, subject, publicKeyInfo] = fields;
  if (version?.tag !== explicitTag(0) || !equalBytes(version.content, new Uint8Array([DER.integer, 1, 2]))) fail('not of version 3');
  if (!equalBytes(expectTag(innerAlgorithm, DER.sequence).whole, expectTag(algorithm, DER.sequence).whole)) fail('names two different signature algorithms');
  const [notBefore, notAfter] = derValues(expectTag(validity, DER.sequence).content);
  return {
    der,
    signed: signed!.whole,
    signature: signatureOf(expectTag(algorithm, DER.sequence), expectTag(bits, DER.bitString)),
    serialHex: toHex(expectTag(serial, DER.integer).content),
    issuer: expectTag(issuer, DER.sequence).whole,
    subject: expectTag(subject, DER.sequence).whole,
    subjectName: commonNameOf(subject!),
    notBeforeMs: timeOf(notBefore),
    notAfterMs: timeOf(notAfter),
    publicKeyInfo: expectTag(publicKeyInfo, DER.sequence).whole,
    ...extensionsOf(fields.slice(7)),
  };
}

function signatureOf(algorithm: DerValue, bits: DerValue): TpmSignature {
  const name = oidName(derValues(algorithm.content)[0], SIGNATURE_OIDS);
  if (name === undefined) throw new RktError('UNSUPPORTED', `certificate with a signature algorithm that is none of ${Object.keys(SIGNATURE_OIDS).join(', ')}`);
  const [scheme, hash] = name.split('-') as ['rsassa' | 'ecdsa', HashName];
  const value = wholeBytesOf(bits);
  if (scheme === 'rsassa') return { algorithm: scheme, hash, signature: value };
  const [r, s] = derValues(derValue(value, DER.sequence).content);
  return { algorithm: scheme, hash, r: unsignedOf(expectTag(r, DER.integer)), s: unsignedOf(expectTag(s, DER.integer)) };
}

function commonNameOf(subject: DerValue): string {
  for (const relative of derValues(subject.content)) {
    for (const attribute of derValues(expectTag(relative, DER.set).content)) {
      const [type, value] = derValues(expectTag(attribute, DER.sequence).content);
      if (oidName(type, COMMON_NAME) !== undefined && value !== undefined) return new TextDecoder().decode(value.content);
    }
  }
  return '';
}

/** UTCTime `YYMMDDHHMMSSZ` or GeneralizedTime `YYYYMMDDHHMMSSZ`, in milliseconds since the epoch. */
function timeOf(value: DerValue | undefined): number {
  const text = new TextDecoder().decode(value?.content);
  const isShort = value?.tag === DER.utcTime;
  if (!isShort && value?.tag !== DER.generalizedTime) fail('a time of its validity is missing');
  const digits = isShort ? `${Number(text.slice(0, 2)) < 50 ? '20' : '19'}${text}` : text;
  if (!/^\d{14}Z$/.test(digits)) fail('a time of its validity is not readable');
  const part = (start: number, end: number): number => Number(digits.slice(start, end));
  return Date.UTC(part(0, 4), part(4, 6) - 1, part(6, 8), part(8, 10), part(10, 12), part(12, 14));
}

type Extensions = Pick<Certificate, 'isAuthority' | 'pathLength' | 'maySignCertificates' | 'maySign' | 'isForAttestationKeys' | 'subjectKeyId'>;

/** @throws RktError UNSUPPORTED for a critical extension that is not understood */
function extensionsOf(optionalFields: readonly DerValue[]): Extensions {
  const result: Extensions = { isAuthority: false, pathLength: null, maySignCertificates: null, maySign: null, isForAttestationKeys: false, subjectKeyId: null };
  const list = optionalFields.find(({ tag }) => tag === explicitTag(3));
  if (list === undefined) return result;
  const seen = new Set<string>();
  for (const extension of derValues(derValue(list.content, DER.sequence).content)) {
    const [oid, ...rest] = derValues(expectTag(extension, DER.sequence).content);
    const isCritical = rest[0]?.tag === DER.boolean && rest[0].content[0] !== 0;
    const content = expectTag(rest.at(-1), DER.octetString).content;
    const name = oidName(oid, EXTENSION_OIDS);
    const id = toHex(oid!.content);
    if (seen.has(id)) fail('an extension comes twice');
    seen.add(id);
    if (name === undefined && isCritical) throw new RktError('UNSUPPORTED', `certificate with a critical extension that is not understood (${id})`);
    if (name === 'basicConstraints') Object.assign(result, basicConstraintsOf(content));
    if (name === 'keyUsage') Object.assign(result, keyUsageOf(content));
    if (name === 'subjectKeyId') result.subjectKeyId = derValue(content, DER.octetString).content;
    if (name === 'extendedKeyUsage') result.isForAttestationKeys = derValues(derValue(content, DER.sequence).content).some((usage) => oidName(usage, ATTESTATION_KEY_USAGE) !== undefined);
  }
  return result;
}

function basicConstraintsOf(content: Uint8Array): Pick<Extensions, 'isAuthority' | 'pathLength'> {
  const values = derValues(derValue(content, DER.sequence).content);
  const isAuthority = values[0]?.tag === DER.boolean && values[0].content[0] !== 0;
  const length = values.find(({ tag }) => tag === DER.integer);
  return { isAuthority, pathLength: length === undefined ? null : unsignedOf(length).reduce((sum, byte) => sum * 256 + byte, 0) };
}

/** Bits of KeyUsage, the first being the highest: digitalSignature 0, keyCertSign 5. */
function keyUsageOf(content: Uint8Array): Pick<Extensions, 'maySign' | 'maySignCertificates'> {
  const bits = derValue(content, DER.bitString).content[1] ?? 0;
  return { maySign: (bits & 0x80) !== 0, maySignCertificates: (bits & 0x04) !== 0 };
}

/** Certificates of a PEM file, in its order. @throws RktError BAD_INPUT, LIMIT, UNSUPPORTED */
export function parseCertificates(pem: string): Certificate[] {
  const blocks = [...pem.matchAll(/-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*?)-----END CERTIFICATE-----/g)];
  if (blocks.length > MAX_CERTIFICATES) throw new RktError('LIMIT', `${blocks.length} certificates, at most ${MAX_CERTIFICATES} are read`);
  return blocks.map(([, base64 = '']) => parseCertificate(fromBase64(base64)));
}

export function toPem(der: Uint8Array): string {
  const base64 = toBase64(der);
  const lines = base64.match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

export function toBase64(bytes: Uint8Array): string {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
}

function fromBase64(text: string): Uint8Array {
  try {
    return Uint8Array.from(atob(text.replace(/\s/g, '')), (character) => character.charCodeAt(0));
  } catch (cause) {
    throw new RktError('BAD_INPUT', 'certificate: not valid base64', { cause });
  }
}

export interface ChainRequest {
  leaf: Certificate;
  /** From the evidence: hints that prove nothing by themselves. */
  intermediates: readonly Certificate[];
  /** What the verifier trusts. */
  anchors: readonly Certificate[];
  nowMs: number;
}

/**
 * The way from a leaf to an anchor, both included.
 * @throws RktError BAD_SIGNATURE when there is none
 */
export async function chainToAnchor({ leaf, intermediates, anchors, nowMs }: ChainRequest): Promise<Certificate[]> {
  const chain = [leaf];
  for (let certificate = leaf; ;) {
    requireValid(certificate, nowMs);
    if (anchors.some(({ der }) => equalBytes(der, certificate.der))) return chain;
    const issuer = await issuerOf(certificate, [...anchors, ...intermediates.filter((candidate) => !chain.includes(candidate))], chain.length - 1);
    if (issuer === undefined || chain.length > MAX_CERTIFICATES) throw new RktError('BAD_SIGNATURE', `the certificate of "${certificate.subjectName}" was not issued by a trusted authority`);
    chain.push(issuer);
    certificate = issuer;
  }
}

function requireValid({ subjectName, notBeforeMs, notAfterMs }: Certificate, nowMs: number): void {
  if (nowMs < notBeforeMs) throw new RktError('BAD_SIGNATURE', `the certificate of "${subjectName}" is not valid before ${new Date(notBeforeMs).toISOString()}`);
  if (nowMs > notAfterMs) throw new RktError('BAD_SIGNATURE', `the certificate of "${subjectName}" has not been valid since ${new Date(notAfterMs).toISOString()}`);
}

/** @param authoritiesBelow between the leaf and this issuer */
async function issuerOf(certificate: Certificate, candidates: readonly Certificate[], authoritiesBelow: number): Promise<Certificate | undefined> {
  for (const candidate of candidates) {
    if (!candidate.isAuthority || candidate.maySignCertificates === false) continue;
    if (candidate.pathLength !== null && authoritiesBelow > candidate.pathLength) continue;
    if (!equalBytes(candidate.subject, certificate.issuer)) continue;
    if (await checkSignature(candidate.publicKeyInfo, certificate.signature, certificate.signed)) return candidate;
  }
  return undefined;
}

