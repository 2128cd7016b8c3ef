/** What a person types to name an image. */
import { statSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { RktError } from '../error.ts';
import { isACIdentifier } from '../schema/names.ts';
import { requireDockerReference } from './docker-reference.ts';
import type { DockerReference } from './docker-reference.ts';
import { shownUrl } from './http/failure.ts';
import type { AppcName } from './verification.ts';

export type ImageReference = FileReference | RemoteReference | { kind: 'id'; /** Full or shortened. */ id: string; text: string };

export type FileReference =
  /** A file or directory whose content tells what it is. */
  | { kind: 'file'; path: string; text: string }
  /** OCI image layout, a directory or a tar; `ref`: one of several images in it. */
  | { kind: 'oci'; path: string; ref?: string; text: string }
  /** Written by `docker save`; `ref`: `NAME:TAG` or `@INDEX`. */
  | { kind: 'docker-archive'; path: string; ref?: string; text: string };

export type RemoteReference =
  /** In a registry. */
  | { kind: 'docker'; reference: DockerReference; text: string }
  /** An ACI on a web server. */
  | { kind: 'url'; url: string; text: string }
  /** To be discovered; `labels` are those that were asked for. */
  | { kind: 'appc'; app: AppcName; text: string };

/** Transports known by name that this version does not have. */
const UNSUPPORTED_SCHEMES: Readonly<Record<string, string>> = {
  'docker-daemon': 'reading from a Docker daemon',
  'containers-storage': 'reading from container storage',
};

const ARCHIVE_EXTENSION = /\.(aci|oci|tar|tgz|txz|tzst|gz|xz|zst|bz2)$/;

/**
 * Parses an image argument: `sha512-…`, path, `file:` or `https:` URL of an ACI, `docker://NAME`, `oci:PATH[:REF]`,
 * `docker-archive:PATH[:REF]`, `cimd:…`, or an appc name with labels. Paths become absolute.
 * Throws RktError UNSUPPORTED for transports that are missing, USAGE for what means nothing.
 */
export function parseImageString(text: string, cwd: string): ImageReference {
  if (text === '') throw new RktError('USAGE', 'an image name cannot be empty');
  if (text.includes('\0')) throw new RktError('USAGE', 'an image name cannot hold a NUL');
  if (text.startsWith('sha512-')) return { kind: 'id', id: text, text };

  const scheme = /^([a-z][a-z0-9-]*):/.exec(text)?.[1];
  switch (scheme) {
    case 'file':
      return { kind: 'file', path: pathOfFileUrl(text, cwd), text };
    case 'http':
    case 'https':
      return { kind: 'url', url: aciUrl(text, text), text };
    case 'docker':
      return { kind: 'docker', reference: requireDockerReference(text.replace(/^docker:(\/\/)?/, ''), text), text };
    case 'cimd':
      return parseCimd(text);
    case 'oci':
    case 'oci-archive':
      return { kind: 'oci', ...pathAndRef(text.slice(scheme.length + 1), cwd, text), text };
    case 'docker-archive':
      return { kind: 'docker-archive', ...pathAndRef(text.slice(scheme.length + 1), cwd, text), text };
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
  return { kind: 'appc', app: parseAppcName(text), text };
}

/** `NAME[:VERSION][,LABEL=VALUE…]` (appc spec/discovery.md). Throws USAGE. */
export function parseAppcName(text: string): AppcName {
  const refuse = (reason: string): RktError => new RktError('USAGE', `${text}: neither an existing file nor the name of an image: ${reason}`, { hint: 'expected NAME[:VERSION][,LABEL=VALUE], a path, or docker://NAME' });
  const [nameAndVersion = '', ...pairs] = text.split(',');
  const [name = '', version, ...more] = nameAndVersion.split(':');
  if (more.length > 0) throw refuse('more than one colon');
  if (!isACIdentifier(name)) throw refuse('lower case letters and digits with single "-._~/" between them are allowed');
  if (version === '') throw refuse('a version is missing behind the colon');
  const labels = new Map<string, string>(version === undefined ? [] : [['version', version]]);
  for (const pair of pairs) {
    const equals = pair.indexOf('=');
    const label = pair.slice(0, equals);
    if (equals <= 0 || !isACIdentifier(label) || label === 'name') throw refuse(`${JSON.stringify(pair)} is no label`);
    if (labels.has(label)) throw refuse(`the label ${JSON.stringify(label)} is there twice`);
    labels.set(label, pair.slice(equals + 1));
  }
  return { name, labels: Object.fromEntries(labels) };
}

/** rkt's own notation for where images come from: `cimd:TYPE:v=0:REST` (distribution-point.md). */
function parseCimd(text: string): ImageReference {
  const [, type, rest] = /^cimd:([a-z-]+):v=0:(.+)$/.exec(text) ?? [];
  if (type === undefined || rest === undefined) throw new RktError('USAGE', `${text}: expected cimd:TYPE:v=0:…, where TYPE is appc, aci-archive or docker`);
  switch (type) {
    case 'appc': {
      const [name = '', query = ''] = rest.split('?');
      const labels = [...new URLSearchParams(query)].map(([label, value]) => `,${label}=${value}`).join('');
      return { kind: 'appc', app: parseAppcName(name + labels), text };
    }
    case 'aci-archive': {
      const url = decoded(rest, text);
      if (url.includes('\0')) throw new RktError('USAGE', `${text}: a URL cannot hold a NUL`);
      return url.startsWith('file:') ? { kind: 'file', path: pathOfFileUrl(url, '/'), text } : { kind: 'url', url: aciUrl(url, text), text };
    }
    case 'docker':
      return { kind: 'docker', reference: requireDockerReference(rest, text), text };
    default:
      throw new RktError('USAGE', `${text}: unknown type of distribution ${JSON.stringify(type)}: expected appc, aci-archive or docker`);
  }
}

function decoded(escaped: string, text: string): string {
  try {
    return decodeURIComponent(escaped);
  } catch (cause) {
    throw new RktError('USAGE', `${text}: not a URL with its special characters escaped`, { cause });
  }
}

/** rkt takes only what ends in `.aci` for an image. */
function aciUrl(url: string, text: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined || !['http:', 'https:'].includes(parsed.protocol)) throw new RktError('USAGE', `${text}: not a URL`);
  if (!parsed.pathname.endsWith('.aci')) throw new RktError('USAGE', `invalid image string ${JSON.stringify(text)}`, { hint: 'the URL of an ACI ends in .aci; images of registries are written docker://NAME' });
  if (parsed.username !== '' || parsed.password !== '') throw new RktError('USAGE', `${shownUrl(parsed)}: credentials belong into auth.d of the configuration directory, not into a URL`);
  return parsed.href;
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
