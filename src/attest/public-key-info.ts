/** SubjectPublicKeyInfo (RFC 5280, 3279, 5480): public keys as certificates and WebCrypto have them. */
import { RktError } from '../error.ts';
import { concatBytes } from '../tpm/bytes.ts';
import type { PublicKey } from '../tpm/public-area.ts';
import { DER, derValue, derValues, encodeBits, encodeDer, encodeOid, encodeUnsigned, expectTag, oidName, unsignedOf, wholeBytesOf } from './der.ts';

const KEY_TYPES = { rsa: '1.2.840.113549.1.1.1', ecc: '1.2.840.10045.2.1' } as const;
const CURVE_OIDS = { 'P-256': '1.2.840.10045.3.1.7', 'P-384': '1.3.132.0.34', 'P-521': '1.3.132.0.35' } as const;
export type Curve = keyof typeof CURVE_OIDS;

const MIN_RSA_BITS = 2048;
const MAX_RSA_BITS = 8192;
const UNCOMPRESSED_POINT = 0x04;

/** What a verifier must know of a key besides its bytes. */
export type KeyKind = { type: 'rsa' } | { type: 'ecc'; curve: Curve };

export function encodePublicKeyInfo(key: PublicKey): Uint8Array<ArrayBuffer> {
  if (key.type === 'ecc') {
    const algorithm = encodeDer(DER.sequence, encodeOid(KEY_TYPES.ecc), encodeOid(CURVE_OIDS[key.curve]));
    return encodeDer(DER.sequence, algorithm, encodeBits(concatBytes(new Uint8Array([UNCOMPRESSED_POINT]), key.x, key.y)));
  }
  const exponent = new Uint8Array(4);
  new DataView(exponent.buffer).setUint32(0, key.exponent);
  const algorithm = encodeDer(DER.sequence, encodeOid(KEY_TYPES.rsa), encodeDer(DER.null));
  return encodeDer(DER.sequence, algorithm, encodeBits(encodeDer(DER.sequence, encodeUnsigned(key.modulus), encodeUnsigned(exponent))));
}

/** @throws RktError BAD_INPUT, UNSUPPORTED for kinds of keys that are not used here and for weak ones */
export function keyKindOf(publicKeyInfo: Uint8Array): KeyKind {
  const [algorithm, bits] = derValues(derValue(publicKeyInfo, DER.sequence).content);
  const [type, parameter] = derValues(expectTag(algorithm, DER.sequence).content);
  switch (oidName(type, KEY_TYPES)) {
    case 'rsa': {
      const [modulus] = derValues(derValue(wholeBytesOf(expectTag(bits, DER.bitString)), DER.sequence).content);
      const size = 8 * unsignedOf(expectTag(modulus, DER.integer)).length;
      if (size < MIN_RSA_BITS || size > MAX_RSA_BITS) throw new RktError('UNSUPPORTED', `RSA key of ${size} bits, expected ${MIN_RSA_BITS} to ${MAX_RSA_BITS}`);
      return { type: 'rsa' };
    }
    case 'ecc': {
      const curve = oidName(parameter, CURVE_OIDS);
      if (curve === undefined) throw new RktError('UNSUPPORTED', `elliptic curve that is none of ${Object.keys(CURVE_OIDS).join(', ')}`);
      return { type: 'ecc', curve };
    }
    default: throw new RktError('UNSUPPORTED', 'public key that is neither RSA nor ECC');
  }
}
