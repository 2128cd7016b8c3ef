/** One good signature is enough, and when there is none each has to say why. */
import { RktError } from '../../error.ts';
import type { ImageIdentity } from '../trust/image-identity.ts';
import { printable } from '../trust/review.ts';
import type { SignedIdentity } from './policy.ts';
import type { SignatureClaim } from './signature-claim.ts';
import { identityMatches } from './signed-identity.ts';

export interface SignedSubject {
  identity: ImageIdentity;
  /** Digests of which one must be signed: each leads to the image. */
  digests: readonly string[];
}

const MAX_REASONS = 5;

/** Gives what `accept` makes of the first candidate it does not refuse. Throws RktError BAD_SIGNATURE; other errors pass. */
export async function firstAccepted<C, T>(candidates: AsyncIterable<C>, accept: (candidate: C) => Promise<T> | T): Promise<T> {
  const refusals: RktError[] = [];
  for await (const candidate of candidates) {
    try {
      return await accept(candidate);
    } catch (error) {
      if (!(error instanceof RktError) || error.code !== 'BAD_SIGNATURE') throw error;
      refusals.push(error);
    }
  }
  const [first = new RktError('BAD_SIGNATURE', 'a signature was required, but no signature exists')] = refusals;
  const reasons = [...new Set(refusals.map(({ message }) => message))];
  if (reasons.length <= 1) throw first;
  throw new RktError('BAD_SIGNATURE', `none of the ${refusals.length} signatures is accepted: ${reasons.slice(0, MAX_REASONS).join('; ')}`);
}

/** Refuses a signature of something else, or under another name. Throws RktError BAD_SIGNATURE. */
export function acceptClaim(claim: SignatureClaim, { identity, digests }: SignedSubject, rule: SignedIdentity): void {
  if (!digests.includes(claim.manifestDigest)) throw new RktError('BAD_SIGNATURE', `signature for digest ${claim.manifestDigest} does not match`);
  if (!identityMatches(rule, identity, claim.dockerReference)) throw new RktError('BAD_SIGNATURE', `signature for identity ${JSON.stringify(printable(claim.dockerReference))} is not accepted (${rule.type})`);
}
