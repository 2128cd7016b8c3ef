/** `POD:[APP:]PATH` on a command line. */
import { RktError } from '../error.ts';
import { isACName } from '../schema/index.ts';

export interface PodPath {
  /** UUID, or how one begins. */
  pod: string;
  app: string | undefined;
  path: string;
}

/**
 * Undefined: a path of this host. `./abc:x` and `/abc:x` always are.
 * @param app of --app: then there is none in the argument
 */
export function parsePodPath(text: string, app: string | undefined): PodPath | undefined {
  const match = /^([0-9a-fA-F][0-9a-fA-F-]*):(.*)$/s.exec(text);
  if (match === null) return undefined;
  const [, pod = '', rest = ''] = match;
  const colon = rest.indexOf(':');
  const first = rest.slice(0, colon);
  const named = app === undefined && colon > 0 && isACName(first);
  const path = named ? rest.slice(colon + 1) : rest;
  if (path === '') throw new RktError('USAGE', `${JSON.stringify(text)}: expected a path behind the colon`);
  return { pod, app: named ? first : app, path };
}
