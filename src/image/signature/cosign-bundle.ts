/** From the annotations of a cosign signature to a Sigstore bundle, the form that libraries verify. */
import { createHash } from 'node:crypto';
import { bundleFromJSON } from '@sigstore/bundle';
import type { Bundle } from '@sigstore/bundle';
import { RktError } from '../../error.ts';
import { integerBetween, matching } from '../../schema/check.ts';
import { certificatesFromPem } from './pem.ts';
import { exactObjectOf, parseStrictDocument } from './strict-json.ts';

/** cosign SIGNATURE_SPEC.md, "Properties". */
const SIGNATURE = 'dev.cosignproject.cosign/signature';
const CERTIFICATE = 'dev.sigstore.cosign/certificate';
const CHAIN = 'dev.sigstore.cosign/chain';
const LOG_ENTRY = 'dev.sigstore.cosign/bundle';

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const MEDIA_TYPE = 'application/vnd.dev.sigstore.bundle+json;version=0.1';

/** What Rekor promised about the entry, as cosign writes it. */
interface LogEntry {
  SignedEntryTimestamp: string;
  Payload: { body: string; integratedTime: number; logIndex: number; logID: string };
}

const base64 = matching(BASE64, 'data in base64');

const logEntry = exactObjectOf<LogEntry>({
  SignedEntryTimestamp: base64,
  Payload: exactObjectOf<LogEntry['Payload']>({
    body: base64,
    integratedTime: integerBetween(0, 2 ** 40),
    logIndex: integerBetween(0, Number.MAX_SAFE_INTEGER),
    logID: matching(/^(?:[0-9a-f]{2})+$/, 'hexadecimal digits'),
  }),
});

export interface CosignSignature {
  bundle: Bundle;
  /** DER of the certificates that come with the signature, the signer's first. Not trusted. */
  certificates: Buffer[];
}

/** Throws RktError BAD_SIGNATURE. */
export function cosignSignature(payload: Uint8Array, annotations: Readonly<Record<string, string>>): CosignSignature {
  const signature = annotations[SIGNATURE];
  if (signature === undefined) throw new RktError('BAD_SIGNATURE', `missing ${SIGNATURE} annotation`);
  if (!BASE64.test(signature) || signature === '') throw new RktError('BAD_SIGNATURE', `${SIGNATURE}: expected data in base64`);
  const leaf = certificatesFromPem(annotations[CERTIFICATE] ?? '', CERTIFICATE);
  if (leaf.length > 1) throw new RktError('BAD_SIGNATURE', `${CERTIFICATE}: expected one certificate`);
  const certificates = [...leaf, ...certificatesFromPem(annotations[CHAIN] ?? '', CHAIN)];
  const entry = annotations[LOG_ENTRY];
  const json = {
    mediaType: MEDIA_TYPE,
    verificationMaterial: {
      ...(leaf[0] === undefined ? { publicKey: { hint: '' } } : { x509CertificateChain: { certificates: [{ rawBytes: leaf[0].toString('base64') }] } }),
      tlogEntries: entry === undefined ? [] : [transparencyLogEntry(parseStrictDocument(entry, logEntry, { origin: LOG_ENTRY, code: 'BAD_SIGNATURE' }))],
    },
    // Of the payload that is there, not of one the signature claims.
    messageSignature: { messageDigest: { algorithm: 'SHA2_256', digest: createHash('sha256').update(payload).digest('base64') }, signature },
  };
  try {
    return { bundle: bundleFromJSON(json), certificates };
  } catch (cause) {
    throw new RktError('BAD_SIGNATURE', `sigstore: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}

function transparencyLogEntry({ SignedEntryTimestamp, Payload }: LogEntry): object {
  return {
    logIndex: String(Payload.logIndex),
    logId: { keyId: Buffer.from(Payload.logID, 'hex').toString('base64') },
    kindVersion: kindOf(Payload.body),
    integratedTime: String(Payload.integratedTime),
    inclusionPromise: { signedEntryTimestamp: SignedEntryTimestamp },
    canonicalizedBody: Payload.body,
  };
}

/** Only entries of this kind tell about a signature over a payload. */
function kindOf(body: string): { kind: string; version: string } {
  const kind = { kind: 'hashedrekord', version: '0.0.1' };
  let document: unknown;
  try {
    document = JSON.parse(Buffer.from(body, 'base64').toString('utf8'));
  } catch (cause) {
    throw new RktError('BAD_SIGNATURE', `${LOG_ENTRY}: Payload.body: not valid JSON`, { cause });
  }
  const { kind: found, apiVersion } = (typeof document === 'object' && document !== null ? document : {}) as { kind?: unknown; apiVersion?: unknown };
  if (found !== kind.kind || apiVersion !== kind.version) throw new RktError('BAD_SIGNATURE', `${LOG_ENTRY}: expected an entry of kind ${kind.kind} ${kind.version}`);
  return kind;
}
