/** Who vouched for an image, as it is kept with the image. */
import { fail, fieldOf, integerValue, objectOf, oneOf, stringValue } from './check.ts';
import type { Check } from './check.ts';

export type VerifiedBy =
  /** A detached signature of an ACI. `prefix`: of the image name the key is trusted for, empty for a root key. */
  | { kind: 'openpgp'; fingerprint: string; identity: string; prefix: string }
  | { kind: 'simple-signing'; fingerprint: string; identity: string; reference: string }
  | { kind: 'sigstore-key'; keyDigest: string; reference: string }
  | { kind: 'sigstore-keyless'; identity: string; issuer: string; reference: string }
  | { kind: 'tuf'; repository: string; role: string; version: number }
  /** The person named the digest. */
  | { kind: 'digest'; digest: string }
  /** `no-policy`: nobody has set up a policy for images of registries. */
  | { kind: 'none'; reason: 'insecure-option' | 'policy-accepts-anything' | 'no-policy' };

type Kind = VerifiedBy['kind'];
type OfKind<K extends Kind> = Extract<VerifiedBy, { kind: K }>;

const CHECKS: { readonly [K in Kind]: Check<OfKind<K>> } = {
  openpgp: objectOf<OfKind<'openpgp'>>({ kind: oneOf(['openpgp']), fingerprint: stringValue, identity: stringValue, prefix: stringValue }),
  'simple-signing': objectOf<OfKind<'simple-signing'>>({ kind: oneOf(['simple-signing']), fingerprint: stringValue, identity: stringValue, reference: stringValue }),
  'sigstore-key': objectOf<OfKind<'sigstore-key'>>({ kind: oneOf(['sigstore-key']), keyDigest: stringValue, reference: stringValue }),
  'sigstore-keyless': objectOf<OfKind<'sigstore-keyless'>>({ kind: oneOf(['sigstore-keyless']), identity: stringValue, issuer: stringValue, reference: stringValue }),
  tuf: objectOf<OfKind<'tuf'>>({ kind: oneOf(['tuf']), repository: stringValue, role: stringValue, version: integerValue }),
  digest: objectOf<OfKind<'digest'>>({ kind: oneOf(['digest']), digest: stringValue }),
  none: objectOf<OfKind<'none'>>({ kind: oneOf(['none']), reason: oneOf(['insecure-option', 'policy-accepts-anything', 'no-policy']) }),
};

export const verifiedBy: Check<VerifiedBy> = (value, place) => {
  const kind = typeof value === 'object' && value !== null && 'kind' in value ? value.kind : undefined;
  const check = typeof kind === 'string' && Object.hasOwn(CHECKS, kind) ? CHECKS[kind as Kind] : fail(fieldOf(place, 'kind'), `expected one of ${Object.keys(CHECKS).join(', ')}`);
  return (check as Check<VerifiedBy>)(value, place);
};
