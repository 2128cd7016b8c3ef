/** Whether the name in a signature is a name for the image: `signedIdentity` of containers-policy.json(5). */
import { identityText, parseImageIdentity } from '../trust/image-identity.ts';
import type { ImageIdentity } from '../trust/image-identity.ts';
import type { SignedIdentity } from './policy.ts';

/** `signed`: the docker-reference in the signature, as it stands there. */
export function identityMatches(rule: SignedIdentity, image: ImageIdentity, signed: string): boolean {
  const claimed = parseImageIdentity(signed);
  if (claimed === undefined) return false;
  switch (rule.type) {
    case 'matchExact':
      return isComplete(image) && identityText(claimed) === identityText(image);
    case 'matchRepoDigestOrExact':
      return matchesRepoDigestOrExact(image, claimed);
    case 'matchRepository':
      return claimed.name === image.name;
    case 'exactReference': {
      const expected = parseImageIdentity(rule.dockerReference);
      return expected !== undefined && identityText(claimed) === identityText(expected);
    }
    case 'exactRepository':
      return claimed.name === parseImageIdentity(rule.dockerRepository)?.name;
    case 'remapIdentity': {
      const remapped = remap(image, rule);
      return remapped !== undefined && matchesRepoDigestOrExact(remapped, claimed);
    }
  }
}

function isComplete({ tag, digest }: ImageIdentity): boolean {
  return tag !== undefined || digest !== undefined;
}

/** A digest has been compared with the manifest already; of the name only the repository is left to say something. */
function matchesRepoDigestOrExact(image: ImageIdentity, claimed: ImageIdentity): boolean {
  if (image.tag !== undefined) return identityText(claimed) === identityText(image);
  return image.digest !== undefined && claimed.name === image.name;
}

function remap(image: ImageIdentity, { prefix, signedPrefix }: { prefix: string; signedPrefix: string }): ImageIdentity | undefined {
  const { name } = image;
  if (name !== prefix && !name.startsWith(`${prefix}/`)) return image;
  const remapped = parseImageIdentity(signedPrefix + name.slice(prefix.length));
  // What is no name any more, or would be completed to another one, matches nothing.
  if (remapped === undefined || remapped.name !== signedPrefix + name.slice(prefix.length)) return undefined;
  return { ...image, name: remapped.name };
}
