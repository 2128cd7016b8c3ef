/** What a person types to name an image. */
import { statSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { RktError } from '../error.ts';

export type ImageReference =
  /** A file or directory whose content tells what it is. */
  | { kind: 'file'; path: string; text: string }
  /** OCI image layout, a directory or a tar; `ref`: one of several images in it. */
  | { kind: 'oci'; path: string; ref?: string; text: string }
  /** Written by `docker save`; `ref`: `NAME:TAG` or `@INDEX`. */
  | { kind: 'docker-archive'; path: string; ref?: string; text: string }
  /** Already in the store: full or shortened ID. */
  | { kind: 'id'; id: string; text: string };

/** Transports known by name that this version does not have. */
const UNSUPPORTED_SCHEMES: Readonly<Record<string, string>> = {
  docker: 'fetching from a registry',
  http: 'fetching from a web server',
  https: 'fetching from a web server',
  cimd: 'distribution points',
  'docker-daemon': 'reading from a Docker daemon',
  'containers-storage': 'reading from container storage',
};

const ARCHIVE_EXTENSION = /\.(aci|oci|tar|tgz|txz|tzst|gz|xz|zst|bz2)$/;

/**
 * Parses an image argument (`sha512-…`, path, `file:` URL, `oci:PATH[:REF]`, `docker-archive:PATH[:REF]`). Paths become absolute.
 * Throws RktError UNSUPPORTED for transports that are missing, USAGE for what means nothing.
 */
export function parseImageString(text: string, cwd: string): ImageReference {
  if (text === '') throw new RktError('USAGE', 'an image name cannot be empty');
  if (text.startsWith('sha512-')) return { kind: 'id', id: text, text };

  const scheme = /^([a-z][a-z0-9-]*):/.exec(text)?.[1];
  if (scheme === 'file') return { kind: 'file', path: pathOfFileUrl(text, cwd), text };
  if (scheme === 'oci' || scheme === 'oci-archive' || scheme === 'docker-archive') {
    const kind = scheme === 'docker-archive' ? 'docker-archive' : 'oci';
    return { kind, ...pathAndRef(text.slice(scheme.length + 1), cwd, text), text };
  }
  const unsupported = scheme === undefined ? undefined : UNSUPPORTED_SCHEMES[scheme];
  if (unsupported !== undefined) throw new RktError('UNSUPPORTED', `${text}: ${unsupported} (${scheme}:) is not supported`, { hint: 'give the path of an ACI, an OCI image layout or a `docker save` archive' });
  return pathOrName(text, cwd);
}

/** rkt's rule for an argument without scheme: an existing file or something that looks like a path, else a name to discover. */
function pathOrName(text: string, cwd: string): ImageReference {
  const path = resolve(cwd, text);
  if (text.startsWith('/') || exists(path)) return { kind: 'file', path, text };
  if (!text.includes(':') && (text.includes('./') || ARCHIVE_EXTENSION.test(text))) return { kind: 'file', path, text };
  throw new RktError('UNSUPPORTED', `${text}: no such file, and finding images by name is not supported`, { hint: 'give the path of an ACI, an OCI image layout or a `docker save` archive' });
}

function pathOfFileUrl(text: string, cwd: string): string {
  if (!text.startsWith('file://')) return resolve(cwd, text.slice('file:'.length));
  try {
    return fileURLToPath(text);
  } catch (cause) {
    throw new RktError('USAGE', `${text}: not a file URL with an absolute path, such as file:///images/app.aci`, { cause });
  }
}

/** A path may hold colons itself: the first colon behind something that exists ends it. */
function pathAndRef(rest: string, cwd: string, text: string): { path: string; ref?: string } {
  if (rest === '') throw new RktError('USAGE', `${text}: a path is missing`);
  if (exists(resolve(cwd, rest))) return { path: resolve(cwd, rest) };
  const colons = [...rest].flatMap((character, index) => (character === ':' && index > 0 ? [index] : []));
  const end = colons.find((colon) => exists(resolve(cwd, rest.slice(0, colon)))) ?? colons[0];
  if (end === undefined) return { path: resolve(cwd, rest) };
  const ref = rest.slice(end + 1);
  if (ref === '') throw new RktError('USAGE', `${text}: a reference is missing behind the last colon`);
  return { path: resolve(cwd, rest.slice(0, end)), ref };
}

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** `busybox` of `/images/busybox.oci.tar.gz`. */
export function nameOfFile(path: string): string {
  let name = basename(path);
  while (ARCHIVE_EXTENSION.test(name)) name = name.replace(ARCHIVE_EXTENSION, '');
  return name;
}
