/** The certificate of a host's key, issued once a host by the CA that certifies the endorsement keys of its TPMs. */
import { parsePublicArea } from '../tpm/public-area.ts';
import { requireAttestationKey } from './attestation-key.ts';
import { ATTESTATION_KEY_USAGE, COMMON_NAME, EXTENSION_OIDS, type Certificate } from './certificate.ts';
import { DER, derValue, encodeBits, encodeDer, encodeOid, encodeUnsigned, explicitTag } from './der.ts';
import { encodePublicKeyInfo, keyKindOf } from './public-key-info.ts';

export interface HostCertificateRequest {
  /** TPMT_PUBLIC of the host's key. */
  keyPublic: Uint8Array;
  /** Common name. */
  subject: string;
  issuer: Certificate;
  /** RSASSA-PKCS1-v1_5 or ECDSA (in DER) with SHA-256, whatever the issuer's key is. */
  sign(message: Uint8Array): Promise<Uint8Array>;
  /** Random, 16 bytes. */
  serial: Uint8Array;
  notBeforeMs: number;
}

/** RFC 5280, 4.1.2.5: for certificates without an end. */
const NO_EXPIRATION = '99991231235959Z';

/** DER. @throws RktError BAD_INPUT when the key is no attestation key */
export async function issueHostCertificate(request: HostCertificateRequest): Promise<Uint8Array> {
  const area = parsePublicArea(request.keyPublic);
  requireAttestationKey(area, "host's key");
  const isRsaIssuer = keyKindOf(request.issuer.publicKeyInfo).type === 'rsa';
  const algorithm = isRsaIssuer
    ? encodeDer(DER.sequence, encodeOid('1.2.840.113549.1.1.11'), encodeDer(DER.null))
    : encodeDer(DER.sequence, encodeOid('1.2.840.10045.4.3.2'));
  const name = encodeDer(DER.sequence, encodeDer(DER.set, encodeDer(DER.sequence, encodeOid(COMMON_NAME.commonName), encodeDer(DER.utf8String, new TextEncoder().encode(request.subject)))));
  const VERSION_3 = encodeDer(explicitTag(0), encodeUnsigned(new Uint8Array([2])));
  const signed = encodeDer(
    DER.sequence, VERSION_3, encodeUnsigned(request.serial), algorithm, derValue(request.issuer.subject, DER.sequence).whole,
    encodeDer(DER.sequence, encodeTime(request.notBeforeMs), generalizedTime(NO_EXPIRATION)), name, encodePublicKeyInfo(area.key), extensions(request.issuer),
  );
  return encodeDer(DER.sequence, signed, algorithm, encodeBits(await request.sign(signed)));
}

/** AuthorityKeyIdentifier's first field. */
const KEY_IDENTIFIER = 0x80;

/** No authority; signs, and only as an attestation key does. */
function extensions({ subjectKeyId }: Certificate): Uint8Array {
  const CRITICAL = encodeDer(DER.boolean, new Uint8Array([0xff]));
  const extension = (oid: string, ...contents: readonly Uint8Array[]): Uint8Array => encodeDer(DER.sequence, encodeOid(oid), ...contents.slice(0, -1), encodeDer(DER.octetString, contents.at(-1)!));
  const DIGITAL_SIGNATURE = encodeDer(DER.bitString, new Uint8Array([7, 0x80]));
  return encodeDer(explicitTag(3), encodeDer(
    DER.sequence,
    extension(EXTENSION_OIDS.basicConstraints, CRITICAL, encodeDer(DER.sequence)),
    extension(EXTENSION_OIDS.keyUsage, CRITICAL, DIGITAL_SIGNATURE),
    extension(EXTENSION_OIDS.extendedKeyUsage, encodeDer(DER.sequence, encodeOid(ATTESTATION_KEY_USAGE.attestationKey))),
    ...(subjectKeyId === null ? [] : [extension(EXTENSION_OIDS.authorityKeyId, encodeDer(DER.sequence, encodeDer(KEY_IDENTIFIER, subjectKeyId)))]),
  ));
}

function encodeTime(timeMs: number): Uint8Array {
  const digits = new Date(timeMs).toISOString().replace(/\D/g, '').slice(0, 14);
  // UTCTime is required as long as it can say the year.
  return Number(digits.slice(0, 4)) < 2050 ? encodeDer(DER.utcTime, new TextEncoder().encode(`${digits.slice(2)}Z`)) : generalizedTime(`${digits}Z`);
}

function generalizedTime(text: string): Uint8Array {
  return encodeDer(DER.generalizedTime, new TextEncoder().encode(text));
}
