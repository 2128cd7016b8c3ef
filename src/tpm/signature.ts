/** TPMT_SIGNATURE (TPM 2.0 Library, part 2, 11.3.4) of the schemes an attestation key may have. */
import { ByteReader, concatBytes } from './bytes.ts';
import { TPM_ALG } from './constants.ts';
import { hashNameOf, type HashName } from './hash-algorithms.ts';
import { curveSizeBytes, leftPadded, type CurveName } from './public-area.ts';

export type TpmSignature =
  | { algorithm: 'rsassa' | 'rsapss'; hash: HashName; signature: Uint8Array }
  /** Leading zeros may be missing. */
  | { algorithm: 'ecdsa'; hash: HashName; r: Uint8Array; s: Uint8Array };

/** @throws RktError BAD_INPUT */
export function parseSignature(bytes: Uint8Array): TpmSignature {
  const reader = new ByteReader(bytes, 'big', 'TPM signature');
  const signature = readSignature(reader);
  reader.expectEnd();
  return signature;
}

function readSignature(reader: ByteReader): TpmSignature {
  const scheme = reader.u16();
  if (scheme !== TPM_ALG.rsassa && scheme !== TPM_ALG.rsapss && scheme !== TPM_ALG.ecdsa) reader.fail(`scheme 0x${scheme.toString(16)}, expected RSASSA, RSAPSS or ECDSA`);
  const hashId = reader.u16();
  const hash = hashNameOf(hashId) ?? reader.fail(`unknown hash algorithm 0x${hashId.toString(16)}`);
  if (scheme === TPM_ALG.ecdsa) return { algorithm: 'ecdsa', hash, r: reader.sized16(), s: reader.sized16() };
  return { algorithm: scheme === TPM_ALG.rsassa ? 'rsassa' : 'rsapss', hash, signature: reader.sized16() };
}

/** Both numbers of an ECDSA signature at full length, one behind the other: the form of IEEE P1363 and WebCrypto. Null: too long. */
export function ecdsaP1363(signature: { r: Uint8Array; s: Uint8Array }, curve: CurveName): Uint8Array<ArrayBuffer> | null {
  const sizeBytes = curveSizeBytes(curve);
  if (signature.r.length > sizeBytes || signature.s.length > sizeBytes) return null;
  return concatBytes(leftPadded(signature.r, sizeBytes), leftPadded(signature.s, sizeBytes));
}
