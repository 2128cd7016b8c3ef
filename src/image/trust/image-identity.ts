/** Names of images in full (`docker.io/library/busybox:1.36`), as policies and signatures write them. */
import { canonicalName, parseDockerReference } from '../docker-reference.ts';

export interface ImageIdentity {
  /** `HOST[:PORT]/REPOSITORY`. */
  name: string;
  tag?: string;
  digest?: string;
}

const TEXT_MAX_LENGTH = 1024;
const DIGEST = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

/** Parses a name and completes it as fetching does: `busybox` is `docker.io/library/busybox`. No tag is added. Undefined: no such name. */
export function parseImageIdentity(text: string): ImageIdentity | undefined {
  const reference = text.length > TEXT_MAX_LENGTH ? undefined : parseDockerReference(text);
  if (reference === undefined || /[A-Z]/.test(reference.repository)) return undefined;
  const { tag, digest } = reference;
  if (digest !== undefined && !DIGEST.test(digest)) return undefined;
  return { name: canonicalName(reference), ...(tag === undefined ? {} : { tag }), ...(digest === undefined ? {} : { digest }) };
}

export function identityText({ name, tag, digest }: ImageIdentity): string {
  return `${name}${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`;
}

/**
 * What a configuration may call an image, most specific first: the image itself, its repository, the namespaces around it,
 * the host. Wildcards of subdomains (`*.example.com`, whatever the port) come last.
 */
export function scopesOf(identity: ImageIdentity): string[] {
  const { name, tag, digest } = identity;
  const images = [...(digest === undefined ? [] : [`${name}@${digest}`]), ...(tag === undefined ? [] : [`${name}:${tag}`])];
  const parts = name.split('/');
  const namespaces = parts.map((_, index) => parts.slice(0, parts.length - index).join('/'));
  const labels = (parts[0] ?? '').replace(/:\d+$/, '').split('.');
  const wildcards = labels.slice(1).map((_, index) => `*.${labels.slice(index + 1).join('.')}`);
  return [...images, ...namespaces, ...wildcards];
}

const HOST = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-f:]+\])(?::\d+)?$/;

/** Whether images can lie below a text: a host, a namespace or a repository, in full. */
export function isNamePrefix(text: string): boolean {
  if (HOST.test(text)) return true;
  // One more part shows whether the text would be completed to something else.
  return parseImageIdentity(`${text}/x`)?.name === `${text}/x`;
}
