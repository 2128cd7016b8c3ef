/**
 * Images named by a repository of The Update Framework: the target `HOST/REPOSITORY:TAG` (or `HOST/REPOSITORY@DIGEST` for
 * references without tag) has the SHA-256 hash and the length of the image's manifest, or of its index of platforms. The
 * manifest itself stays in the registry.
 */
import { RktError } from '../../error.ts';
import { identityText } from '../trust/image-identity.ts';
import { downloadTufTarget, findTufTarget } from '../trust/tuf-client.ts';
import { tufRepositories } from '../trust/tuf-repositories.ts';
import type { TufRepository } from '../trust/tuf-repositories.ts';
import type { VerificationOptions, VerifiedBy } from '../verification.ts';
import type { SignedSubject } from './acceptance.ts';

/** Throws RktError BAD_SIGNATURE. */
export async function verifyTufTarget(repository: TufRepository, { identity, digests }: SignedSubject, options: VerificationOptions): Promise<VerifiedBy> {
  const { name, tag } = identity;
  const path = tag === undefined ? identityText(identity) : identityText({ name, tag });
  const target = await findTufTarget(repository, path, options);
  if (target === undefined) throw new RktError('BAD_SIGNATURE', `the TUF repository does not know ${path}`);
  if (!digests.includes(target.digest)) throw new RktError('BAD_SIGNATURE', `the TUF repository names ${target.digest} for ${path}, found ${digests.join(' and ')}`);
  return { kind: 'tuf', repository: repository.url, role: target.role, version: target.version };
}

/** The target `PATH` of a repository that is trusted, given as `URL#PATH`. Throws RktError. */
export async function readTrustedTarget(reference: string, options: VerificationOptions): Promise<Uint8Array> {
  const hash = reference.lastIndexOf('#');
  const url = reference.slice(0, hash === -1 ? undefined : hash).replace(/\/+$/, '');
  if (hash === -1 || hash === reference.length - 1) throw new RktError('BAD_INPUT', `tuf:${reference}: expected tuf:URL#TARGET`);
  const repository = tufRepositories(options.configDirs).find((candidate) => candidate.url === url);
  if (repository === undefined) throw new RktError('BAD_INPUT', `tuf:${reference}: the TUF repository ${url} is not trusted`, { hint: `trust it with: rkt trust --tuf=${url} ROOT.json` });
  return await downloadTufTarget(repository, reference.slice(hash + 1), options);
}
