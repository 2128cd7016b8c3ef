/**
 * Images of registries, against the policy that is set up for them: containers-policy.json(5), and repositories of
 * The Update Framework that name digests (`rkt trust --tuf`). All requirements must be met.
 */
import { RktError } from '../../error.ts';
import { identityText, parseImageIdentity, scopesOf } from '../trust/image-identity.ts';
import type { ImageIdentity } from '../trust/image-identity.ts';
import { tufRepositoriesFor } from '../trust/tuf-repositories.ts';
import type { RegistrySubject, VerificationOptions, VerifiedBy, VerifyRegistryImage } from '../verification.ts';
import type { SignedSubject } from './acceptance.ts';
import { findConfig, readConfigBytes } from './config-files.ts';
import { parsePolicy, requirementsFor } from './policy.ts';
import type { PolicyRequirement } from './policy.ts';

export const verifyRegistryImage: VerifyRegistryImage = async (subject, options) => {
  const identity = parseImageIdentity(subject.reference);
  if (identity === undefined) throw new RktError('BAD_INPUT', `${subject.reference}: not the name of an image`);
  const signed: SignedSubject = { identity, digests: [...new Set([subject.imageManifestDigest, subject.manifestDigest])] };
  const verified = [...(await verifyByPolicy(signed, subject, options)), ...(await verifyByTuf(signed, options))];
  const vouched = verified.filter(({ kind }) => kind !== 'none');
  if (vouched.length > 0) return vouched;
  if (verified.some((entry) => entry.kind === 'none' && entry.reason === 'no-policy')) {
    options.onMessage(`${identityText(identity)}: nobody vouches for this image, since no signature policy (policy.json) is set up`);
  }
  return verified;
};

async function verifyByPolicy(signed: SignedSubject, subject: RegistrySubject, options: VerificationOptions): Promise<VerifiedBy[]> {
  const path = findConfig('policy.json', options.configDirs);
  if (path === undefined) return [{ kind: 'none', reason: 'no-policy' }];
  const policy = parsePolicy(Buffer.from(readConfigBytes(path)).toString('utf8'), path);
  const verified: VerifiedBy[] = [];
  for (const requirement of requirementsFor(policy, 'docker', scopesOf(signed.identity))) {
    try {
      verified.push(await verifyRequirement(requirement, { signed, subject, options }));
    } catch (error) {
      throw rejected(error, { identity: signed.identity, by: path });
    }
  }
  return verified;
}

async function verifyRequirement(requirement: PolicyRequirement, { signed, subject, options }: { signed: SignedSubject; subject: RegistrySubject; options: VerificationOptions }): Promise<VerifiedBy> {
  switch (requirement.type) {
    case 'insecureAcceptAnything':
      return { kind: 'none', reason: 'policy-accepts-anything' };
    case 'reject':
      throw new RktError('BAD_SIGNATURE', 'the policy rejects every image of that name');
    case 'signedBy': {
      const { verifySimpleSigning } = await import('./simple-signing.ts');
      return await verifySimpleSigning(requirement, signed, options);
    }
    case 'sigstoreSigned': {
      const { verifySigstoreSigned } = await import('./sigstore-signed.ts');
      return await verifySigstoreSigned(requirement, signed, { access: subject.access, options });
    }
  }
}

async function verifyByTuf(signed: SignedSubject, options: VerificationOptions): Promise<VerifiedBy[]> {
  const verified: VerifiedBy[] = [];
  for (const repository of tufRepositoriesFor(signed.identity.name, options.configDirs)) {
    const { verifyTufTarget } = await import('./tuf-targets.ts');
    try {
      verified.push(await verifyTufTarget(repository, signed, options));
    } catch (error) {
      throw rejected(error, { identity: signed.identity, by: repository.url });
    }
  }
  return verified;
}

function rejected(error: unknown, { identity, by }: { identity: ImageIdentity; by: string }): unknown {
  if (!(error instanceof RktError)) return error;
  const hint = error.hint === undefined ? {} : { hint: error.hint };
  return new RktError(error.code, `${identityText(identity)}: rejected by ${by}: ${error.message}`, { cause: error, ...hint });
}
