/** Certificates and public keys in PEM (RFC 7468). */
import { createPublicKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { RktError } from '../../error.ts';

const BLOCK = /-----BEGIN ([A-Z0-9 ]{1,40})-----\s([A-Za-z0-9+/=\s]*)-----END \1-----/g;
const MAX_BLOCKS = 1000;
const MIN_RSA_BITS = 2048;

function pemBlocks(text: string, label: string, origin: string): Buffer[] {
  const blocks = [...text.matchAll(BLOCK)];
  if (blocks.length > MAX_BLOCKS) throw new RktError('LIMIT', `${origin}: more than ${MAX_BLOCKS} PEM blocks`);
  const other = blocks.find(([, found]) => found !== label);
  if (other !== undefined) throw new RktError('BAD_SIGNATURE', `${origin}: expected PEM of ${label}, found ${other[1] ?? ''}`);
  return blocks.map(([, , content = '']) => Buffer.from(content, 'base64'));
}

/** DER of each certificate; none for an empty text. Throws RktError BAD_SIGNATURE. */
export function certificatesFromPem(text: string, origin: string): Buffer[] {
  const certificates = pemBlocks(text, 'CERTIFICATE', origin);
  if (certificates.length === 0 && text.trim() !== '') throw new RktError('BAD_SIGNATURE', `${origin}: expected certificates in PEM`);
  return certificates;
}

/** The one key of a file, if it is of a kind that signatures may rest on: elliptic curves of NIST, or RSA. Throws RktError BAD_INPUT. */
export function publicKeyFromPem(text: string, origin: string): KeyObject {
  let key: KeyObject;
  try {
    const [only, ...others] = pemBlocks(text, 'PUBLIC KEY', origin);
    if (only === undefined || others.length > 0) throw new Error('expected one PUBLIC KEY');
    key = createPublicKey({ key: only, format: 'der', type: 'spki' });
  } catch (cause) {
    throw new RktError('BAD_INPUT', `${origin}: not a public key in PEM: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  const { asymmetricKeyType, asymmetricKeyDetails } = key;
  if (asymmetricKeyType === 'ec' && ['prime256v1', 'secp384r1', 'secp521r1'].includes(asymmetricKeyDetails?.namedCurve ?? '')) return key;
  if (asymmetricKeyType === 'rsa' && (asymmetricKeyDetails?.modulusLength ?? 0) >= MIN_RSA_BITS) return key;
  throw new RktError('BAD_INPUT', `${origin}: expected an ECDSA key (P-256, P-384, P-521) or an RSA key of at least ${MIN_RSA_BITS} bits, found ${asymmetricKeyType ?? 'something else'}`);
}

export function spkiOf(key: KeyObject): Buffer {
  return key.export({ format: 'der', type: 'spki' });
}
