/** Names as Docker writes them (distribution "reference" grammar): `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`. */
import { RktError } from '../error.ts';

export interface DockerReference {
  registry: string;
  repository: string;
  tag?: string;
  digest?: string;
}

/** Where names without a registry come from; the name rkt gives images from there. */
export const DEFAULT_REGISTRY = 'registry-1.docker.io';
export const DEFAULT_TAG = 'latest';

const COMPONENT = '[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*';
const REFERENCE = new RegExp(`^(?:([A-Za-z0-9.-]+(?::\\d+)?|\\[[0-9a-f:]+\\](?::\\d+)?)/)?(${COMPONENT}(?:/${COMPONENT})*)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@([a-z0-9]+:[0-9a-f]+))?$`);
const DIGEST = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;
const NAME_MAX_CHARACTERS = 255;

/** Undefined when the text is no such name. */
export function parseDockerReference(text: string): DockerReference | undefined {
  const parts = REFERENCE.exec(text);
  if (parts === null) return undefined;
  const [, first, rest = '', tag, digest] = parts;
  const isHost = first !== undefined && (/[.:]/.test(first) || first === 'localhost');
  const host = isHost && first !== 'docker.io' && first !== 'index.docker.io' ? first : DEFAULT_REGISTRY;
  const path = first === undefined || isHost ? rest : `${first}/${rest}`;
  const repository = host === DEFAULT_REGISTRY && !path.includes('/') ? `library/${path}` : path;
  return { registry: host, repository, ...(tag === undefined ? {} : { tag }), ...(digest === undefined ? {} : { digest }) };
}

/** A reference to fetch. Throws RktError USAGE. */
export function requireDockerReference(text: string, origin: string): DockerReference {
  const reference = parseDockerReference(text);
  if (reference === undefined) throw new RktError('USAGE', `${origin}: not a name of an image in a registry`, { hint: 'expected [HOST[:PORT]/]REPOSITORY[:TAG][@sha256:DIGEST], lower case' });
  if (reference.registry.length + 1 + reference.repository.length > NAME_MAX_CHARACTERS) throw new RktError('USAGE', `${origin}: the name is longer than ${NAME_MAX_CHARACTERS} characters`);
  if (reference.digest !== undefined && !DIGEST.test(reference.digest)) throw new RktError('USAGE', `${origin}: expected a digest sha256:… with 64 or sha512:… with 128 hexadecimal digits`);
  // Without an upper case letter the first part of `host/name` may be a path on Docker Hub; with one it is nothing.
  if (/[A-Z]/.test(reference.repository)) throw new RktError('USAGE', `${origin}: repository names are lower case`);
  return reference;
}

/** `HOST/REPOSITORY`; Docker Hub by its public name. */
export function canonicalName({ registry, repository }: DockerReference): string {
  return `${registry === DEFAULT_REGISTRY ? 'docker.io' : registry}/${repository}`;
}

/** The whole reference in its canonical form; a name alone means the tag `latest`. */
export function canonicalReference(reference: DockerReference): string {
  const { tag, digest } = reference;
  const shownTag = tag ?? (digest === undefined ? DEFAULT_TAG : undefined);
  return `${canonicalName(reference)}${shownTag === undefined ? '' : `:${shownTag}`}${digest === undefined ? '' : `@${digest}`}`;
}

/** Whether two names mean the same; a missing tag means `latest`. */
export function sameDockerReference(a: string, b: string): boolean {
  const [left, right] = [parseDockerReference(a), parseDockerReference(b)];
  if (left === undefined || right === undefined) return a === b;
  return left.registry === right.registry && left.repository === right.repository && (left.tag ?? DEFAULT_TAG) === (right.tag ?? DEFAULT_TAG);
}
