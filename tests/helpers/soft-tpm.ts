/**
 * Keys in software in the place of a TPM's: they sign whatever a test wants, so that a verifier can be shown statements that no
 * TPM would make, with signatures that are valid.
 */
import { createHash, createSign, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { issueHostCertificate, parseCertificates, toPem } from '../../src/attest/index.ts';
import { ByteReader, ByteWriter, concatBytes } from '../../src/tpm/bytes.ts';
import { encodePcrSelections, type PcrSelection } from '../../src/tpm/pcr-selection.ts';
import { attestationKeyTemplate, buildEvidence, endorsementBinding, fromHex, nameOf, parseEventLog, QUOTE_SELECTIONS, quoteBinding, replay, sha256, type JsonObject, type RuntimeData } from '../../src/tpm/index.ts';
import { scratchDir } from './scratch-dir.ts';

export interface SoftKey {
  /** TPMT_PUBLIC. */
  publicArea: Uint8Array;
  name: Uint8Array;
  /** TPMT_SIGNATURE. */
  sign(message: Uint8Array): Uint8Array;
}

export function softKey(): SoftKey {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' });
  const template = attestationKeyTemplate('ecc-p256');
  // The template ends with two empty coordinates.
  const publicArea = new ByteWriter('big').raw(template.subarray(0, -4)).sized16(Buffer.from(x, 'base64url')).sized16(Buffer.from(y, 'base64url')).bytes;
  return { publicArea, name: nameOf(publicArea, 'sha256', sha256), sign: (message) => tpmSignature(privateKey, message) };
}

function tpmSignature(key: KeyObject, message: Uint8Array): Uint8Array {
  const numbers = createSign('sha256').update(message).sign({ key, dsaEncoding: 'ieee-p1363' });
  return new ByteWriter('big').u16(0x0018).u16(0x000b).sized16(numbers.subarray(0, 32)).sized16(numbers.subarray(32)).bytes;
}

export interface SoftAuthority {
  pem: string;
  sign(message: Uint8Array): Promise<Uint8Array>;
}

/** A certificate authority made by openssl. */
export function softAuthority(t: { teardown(action: () => void): void }, key: 'ec' | 'rsa' = 'ec', extra: readonly string[] = []): SoftAuthority {
  const directory = scratchDir(t, 'ca');
  const keyFile = join(directory, 'key.pem');
  const keyOptions = key === 'ec' ? ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'] : ['-newkey', 'rsa:2048'];
  execFileSync('openssl', ['req', '-x509', ...keyOptions, '-nodes', '-keyout', keyFile, '-out', join(directory, 'ca.pem'), '-subj', '/CN=test authority', '-days', '3650', '-addext', 'keyUsage=critical,keyCertSign', ...extra], { stdio: 'pipe' });
  const keyPem = readFileSync(keyFile, 'utf8');
  return { pem: readFileSync(join(directory, 'ca.pem'), 'utf8'), sign: (message) => Promise.resolve(new Uint8Array(createSign('sha256').update(message).sign(keyPem))) };
}

/** PEM. */
export async function certifyHostKey(authority: SoftAuthority, keyPublic: Uint8Array, subject = 'test host'): Promise<string> {
  const [issuer] = parseCertificates(authority.pem);
  return toPem(await issueHostCertificate({ keyPublic, subject, issuer: issuer!, sign: authority.sign, serial: new Uint8Array(16).fill(0x85), notBeforeMs: Date.UTC(2024, 0, 1) }));
}

export interface AttestFields {
  magic: number;
  type: number;
  extraData: Uint8Array;
  selections: readonly PcrSelection[];
  pcrDigest: Uint8Array;
}

/** TPMS_ATTEST of a quote, or of what pretends to be one. */
export function encodeAttest(fields: AttestFields): Uint8Array {
  const clock = new ByteWriter('big').u32(0).u32(1000).u32(1).u32(0).u8(1).bytes;
  return new ByteWriter('big').u32(fields.magic).u16(fields.type).sized16(new Uint8Array(34)).sized16(fields.extraData).raw(clock).u32(0).u32(1).raw(encodePcrSelections(fields.selections)).sized16(fields.pcrDigest).bytes;
}

const TPM_MAGIC = 0xff544347;
const QUOTE_TYPE = 0x8018;

export interface SoftEvidenceOptions {
  authority: SoftAuthority;
  log: Uint8Array;
  runtimeData: RuntimeData;
  nonce: Uint8Array;
  /** Changes what the pod's key signs. */
  quote?: Partial<AttestFields>;
  /** Changes what the host's key signs. */
  endorsement?: Partial<AttestFields>;
  /** Of which the registers are; absent: the log itself. */
  measuredLog?: Uint8Array;
  podKey?: SoftKey;
  certificatesPem?: string;
}

/** Evidence of a pod whose TPM holds what its log says, if the options do not say otherwise. */
export async function softEvidence(options: SoftEvidenceOptions): Promise<JsonObject> {
  const { authority, log, runtimeData, nonce } = options;
  const hostKey = softKey();
  const podKey = options.podKey ?? softKey();
  const pcrs = replay(parseEventLog(options.measuredLog ?? log));
  const selections = options.quote?.selections ?? QUOTE_SELECTIONS;
  const values = selections.flatMap(({ bank, pcrs: numbers }) => numbers.map((pcr) => pcrs.get(bank)?.get(pcr) ?? new Uint8Array(20)));
  const pcrDigest = new Uint8Array(createHash('sha256').update(concatBytes(...values)).digest());
  const common = { magic: TPM_MAGIC, type: QUOTE_TYPE };
  const quote = encodeAttest({ ...common, extraData: quoteBinding(nonce, runtimeData), selections, pcrDigest, ...options.quote });
  const statement = encodeAttest({ ...common, extraData: endorsementBinding(podKey.name, runtimeData.uuid), selections: [], pcrDigest: sha256(new Uint8Array(0)), ...options.endorsement });
  return buildEvidence({
    runtimeData,
    quote: { attest: quote, signature: podKey.sign(quote), keyPublic: podKey.publicArea, keyName: podKey.name },
    endorsement: { attest: statement, signature: hostKey.sign(statement), certificatesPem: options.certificatesPem ?? await certifyHostKey(authority, hostKey.publicArea), endorsementKeyCertificatesPem: '' },
    pcrs,
    eventLog: log,
  });
}

/** A key's public area with other attributes, TPMT_PUBLIC's third field. */
export function withAttributes(publicArea: Uint8Array, change: (attributes: number) => number): Uint8Array {
  const attributes = new ByteReader(publicArea.subarray(4, 8), 'big', 'attributes').u32();
  return concatBytes(publicArea.subarray(0, 4), new ByteWriter('big').u32(change(attributes)).bytes, publicArea.subarray(8));
}

export const SAMPLE_NONCE = fromHex('00112233445566778899aabbccddeeff', 'nonce');
