/** Signatures, checked with WebCrypto: the one implementation that Node and browsers share. */
import { RktError } from '../error.ts';
import type { HashName } from '../tpm/hash-algorithms.ts';
import { ecdsaP1363, type TpmSignature } from '../tpm/signature.ts';
import { keyKindOf } from './public-key-info.ts';

const WEB_HASHES: Readonly<Partial<Record<HashName, string>>> = { sha256: 'SHA-256', sha384: 'SHA-384', sha512: 'SHA-512' };

/**
 * False: the signature is not of this key over these bytes.
 * @param publicKeyInfo DER
 * @throws RktError UNSUPPORTED, BAD_INPUT when it cannot be told
 */
export async function checkSignature(publicKeyInfo: Uint8Array, signature: TpmSignature, signed: Uint8Array): Promise<boolean> {
  const kind = keyKindOf(publicKeyInfo);
  const hash = WEB_HASHES[signature.hash];
  if (hash === undefined) throw new RktError('UNSUPPORTED', `signature with ${signature.hash}, expected one of ${Object.keys(WEB_HASHES).join(', ')}`);
  const message = new Uint8Array(signed);
  if (kind.type === 'ecc') {
    if (signature.algorithm !== 'ecdsa') return false;
    const numbers = ecdsaP1363(signature, kind.curve);
    return numbers !== null && await verify(publicKeyInfo, { import: { name: 'ECDSA', namedCurve: kind.curve }, verify: { name: 'ECDSA', hash } }, { numbers, message });
  }
  if (signature.algorithm === 'ecdsa') return false;
  const name = signature.algorithm === 'rsassa' ? 'RSASSA-PKCS1-v1_5' : 'RSA-PSS';
  // Salts of TPMs are as long as the digest (FIPS 186-4); RSASSA takes no notice.
  const saltLength = Number(hash.slice(4)) / 8;
  return await verify(publicKeyInfo, { import: { name, hash }, verify: { name, saltLength } }, { numbers: new Uint8Array(signature.signature), message });
}

interface WebAlgorithms {
  import: { name: string; hash?: string; namedCurve?: string };
  verify: { name: string; hash?: string; saltLength?: number };
}

interface Signed {
  numbers: Uint8Array<ArrayBuffer>;
  message: Uint8Array<ArrayBuffer>;
}

async function verify(publicKeyInfo: Uint8Array, algorithms: WebAlgorithms, { numbers, message }: Signed): Promise<boolean> {
  const { subtle } = globalThis.crypto;
  try {
    const key = await subtle.importKey('spki', new Uint8Array(publicKeyInfo), algorithms.import, false, ['verify']);
    return await subtle.verify(algorithms.verify, key, numbers, message);
  } catch (cause) {
    throw new RktError('BAD_INPUT', 'public key that cannot be used', { cause });
  }
}
