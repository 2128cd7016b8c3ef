/** Whom a `sigstoreSigned` requirement trusts, loaded from the files it names. */
import { createHash } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import type { X509Certificate } from '@sigstore/core';
import { TrustedRoot } from '@sigstore/protobuf-specs';
import { toTrustMaterial } from '@sigstore/verify';
import type { TrustMaterial } from '@sigstore/verify';
import { RktError } from '../../error.ts';
import type { VerificationOptions } from '../verification.ts';
import { readKeySource } from './config-files.ts';
import { parseCertificate } from './fulcio-certificate.ts';
import type { CertificateIdentity } from './fulcio-certificate.ts';
import { certificatesFromPem, publicKeyFromPem, spkiOf } from './pem.ts';
import type { KeySource, PolicyRequirement } from './policy.ts';

export type SigstoreSigned = Extract<PolicyRequirement, { type: 'sigstoreSigned' }>;
export type TransparencyLog = TrustMaterial['tlogs'][number];

export interface TrustedKey {
  key: KeyObject;
  /** `sha256:…` of the key's DER. */
  digest: string;
}

export type SigstoreTrust =
  /** `logs` empty: the signature need not be logged. */
  | { kind: 'keys'; keys: TrustedKey[]; logs: TransparencyLog[] }
  | { kind: 'authority'; roots: X509Certificate[]; logs: TransparencyLog[]; identity: CertificateIdentity }
  /** The authority's file is a trusted root of Sigstore, which also tells when each key was in use. */
  | { kind: 'trusted-root'; material: TrustMaterial; identity: CertificateIdentity };

/** Throws RktError BAD_INPUT naming the file. */
export async function loadSigstoreTrust({ authority, rekorKeys }: SigstoreSigned, options: VerificationOptions): Promise<SigstoreTrust> {
  const read = (source: KeySource): Promise<KeyFile> => readKeySource(source, options);
  const logs = (await Promise.all(rekorKeys.map(read))).flatMap(parseLogs);
  if (authority.kind === 'key') return { kind: 'keys', keys: (await Promise.all(authority.keys.map(read))).map(parseKey), logs };
  const identity = { subject: authority.subjectEmail, issuer: authority.oidcIssuer };
  const { bytes, origin } = await read(authority.certificates);
  if (isJson(bytes)) return { kind: 'trusted-root', material: { ...parseTrustedRoot(bytes, origin), tlogs: logs }, identity };
  const roots = asInput(origin, () => certificatesFromPem(Buffer.from(bytes).toString('latin1'), origin).map(parseCertificate));
  if (roots.length === 0) throw new RktError('BAD_INPUT', `${origin}: holds no certificate`);
  return { kind: 'authority', roots, logs, identity };
}

interface KeyFile {
  bytes: Uint8Array;
  /** Begins messages. */
  origin: string;
}

function parseKey({ bytes, origin }: KeyFile): TrustedKey {
  const key = publicKeyFromPem(Buffer.from(bytes).toString('latin1'), origin);
  return { key, digest: `sha256:${createHash('sha256').update(spkiOf(key)).digest('hex')}` };
}

/** A log's key in PEM, or all logs of a trusted root. */
function parseLogs({ bytes, origin }: KeyFile): TransparencyLog[] {
  if (isJson(bytes)) {
    const { tlogs } = parseTrustedRoot(bytes, origin);
    if (tlogs.length === 0) throw new RktError('BAD_INPUT', `${origin}: names no transparency log`);
    return tlogs;
  }
  const key = publicKeyFromPem(Buffer.from(bytes).toString('latin1'), origin);
  if (key.asymmetricKeyType !== 'ec') throw new RktError('BAD_INPUT', `${origin}: the key of a transparency log must be an ECDSA key`);
  const logID = createHash('sha256').update(spkiOf(key)).digest();
  return [{ baseURL: '', logID, publicKey: key, validFor: { start: new Date(0), end: new Date(8.64e15) } }];
}

function isJson(bytes: Uint8Array): boolean {
  return /^\s*\{/.test(Buffer.from(bytes.subarray(0, 256)).toString('latin1'));
}

function parseTrustedRoot(bytes: Uint8Array, origin: string): TrustMaterial {
  return asInput(origin, () => toTrustMaterial(TrustedRoot.fromJSON(JSON.parse(Buffer.from(bytes).toString('utf8')))));
}

function asInput<T>(origin: string, parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    throw new RktError('BAD_INPUT', `${origin}: neither certificates in PEM nor a trusted root of Sigstore: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}
