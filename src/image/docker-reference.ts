/** Names as Docker writes them: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`. */
export interface DockerReference {
  registry: string;
  repository: string;
  tag?: string;
  digest?: string;
}

/** Where names without a registry come from; the name rkt gives images from there. */
export const DEFAULT_REGISTRY = 'registry-1.docker.io';

const COMPONENT = '[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*';
const REFERENCE = new RegExp(`^(?:([A-Za-z0-9.-]+(?::\\d+)?|\\[[0-9a-f:]+\\](?::\\d+)?)/)?(${COMPONENT}(?:/${COMPONENT})*)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@([a-z0-9]+:[0-9a-f]+))?$`);

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

/** Whether two names mean the same; a missing tag means `latest`. */
export function sameDockerReference(a: string, b: string): boolean {
  const [left, right] = [parseDockerReference(a), parseDockerReference(b)];
  if (left === undefined || right === undefined) return a === b;
  return left.registry === right.registry && left.repository === right.repository && (left.tag ?? 'latest') === (right.tag ?? 'latest');
}
