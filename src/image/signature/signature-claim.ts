/**
 * What a signature of an image says: this digest, under this name. The same JSON in OpenPGP-signed messages
 * (container-signature(5)) and in cosign's payloads (cosign SIGNATURE_SPEC.md, "Simple Signing").
 */
import { fail, matching, oneOf } from '../../schema/check.ts';
import type { Check } from '../../schema/check.ts';
import { exactObjectOf, parseStrictDocument } from './strict-json.ts';

export interface SignatureClaim {
  /** `sha256:…` */
  manifestDigest: string;
  /** As written by the signer. */
  dockerReference: string;
}

export const CLAIM_LIMIT_BYTES = 1 << 20;

export type ClaimType = 'atomic container signature' | 'cosign container image signature';

interface Critical {
  type: ClaimType;
  image: { 'docker-manifest-digest': string };
  identity: { 'docker-reference': string };
}

interface ClaimDocument {
  critical: Critical;
  optional: unknown;
}

const digest = matching(/^sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})$/, 'a digest');
const reference = matching(/^[^\s]{1,1024}$/, 'the name of an image');

/** An object of any fields, or null, which cosign writes for none. */
const optionalPart: Check<unknown> = (value, place) => (typeof value === 'object' && !Array.isArray(value) ? value : fail(place, 'expected an object'));

/** Throws RktError BAD_SIGNATURE. The content must have been verified. */
export function parseClaim(content: Uint8Array, type: ClaimType, origin: string): SignatureClaim {
  const critical = exactObjectOf<Critical>({
    type: oneOf([type]),
    image: exactObjectOf<Critical['image']>({ 'docker-manifest-digest': digest }),
    identity: exactObjectOf<Critical['identity']>({ 'docker-reference': reference }),
  });
  const document = exactObjectOf<ClaimDocument>({ critical, optional: optionalPart });
  const text = new TextDecoder('utf-8').decode(content);
  const { critical: said } = parseStrictDocument(text, document, { origin, code: 'BAD_SIGNATURE' });
  return { manifestDigest: said.image['docker-manifest-digest'], dockerReference: said.identity['docker-reference'] };
}
