/** `signedBy`: images whose digest and name somebody has signed with OpenPGP (container-signature(5)). */
import { RktError } from '../../error.ts';
import { parsePublicKeys } from '../trust/public-key.ts';
import type { ParsedPublicKey } from '../trust/public-key.ts';
import type { VerificationOptions, VerifiedBy } from '../verification.ts';
import { acceptClaim, firstAccepted } from './acceptance.ts';
import type { SignedSubject } from './acceptance.ts';
import { readKeySource } from './config-files.ts';
import { lookasideOf, lookasideSignatures } from './lookaside.ts';
import { openSignedMessage } from './openpgp-message.ts';
import type { PolicyRequirement } from './policy.ts';
import { CLAIM_LIMIT_BYTES, parseClaim } from './signature-claim.ts';

export type SignedBy = Extract<PolicyRequirement, { type: 'signedBy' }>;

/** Throws RktError BAD_SIGNATURE that says what is wrong with each signature there is. */
export async function verifySimpleSigning(requirement: SignedBy, subject: SignedSubject, options: VerificationOptions): Promise<VerifiedBy> {
  const keys: ParsedPublicKey[] = [];
  for (const source of requirement.keys) {
    const { bytes, origin } = await readKeySource(source, options);
    keys.push(...(await parsePublicKeys(bytes, origin)));
  }
  const base = await lookasideOf(subject.identity, options.configDirs);
  const candidates = async function* (): AsyncGenerator<Uint8Array, void, undefined> {
    for (const manifestDigest of subject.digests) yield* lookasideSignatures(base, { identity: subject.identity, manifestDigest }, options.fetchDocument);
  };
  const now = new Date();
  return await firstAccepted(candidates(), async (bytes) => {
    const { content, signer } = await openSignedMessage(bytes, keys, now);
    if (content.length > CLAIM_LIMIT_BYTES) throw new RktError('BAD_SIGNATURE', 'the signed content is too large');
    const claim = parseClaim(content, 'atomic container signature', 'signature');
    acceptClaim(claim, subject, requirement.signedIdentity);
    return { kind: 'simple-signing', fingerprint: signer.fingerprint, identity: signer.userIds[0] ?? '', reference: claim.dockerReference };
  });
}
