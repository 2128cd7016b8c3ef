/** Versions of the Container Network Interface that this runtime speaks. */
import { RktError } from '../../error.ts';

export const CNI_VERSIONS = ['0.4.0', '1.0.0', '1.1.0'] as const;
export type CniVersion = (typeof CNI_VERSIONS)[number];

const OLDEST: CniVersion = '0.4.0';
/** Of configurations from before 0.4.0, most of rkt's own among them. They mean the same, and no plugin that is still maintained needs less than 0.4.0. */
const OUTDATED: readonly string[] = ['', '0.1.0', '0.2.0', '0.3.0', '0.3.1'];

export function isAtLeast(version: CniVersion, other: CniVersion): boolean {
  return CNI_VERSIONS.indexOf(version) >= CNI_VERSIONS.indexOf(other);
}

/**
 * What a configuration can be run with, newest first: the `cniVersions` it lists, else its one `cniVersion`. Throws
 * RktError UNSUPPORTED when nothing of that is spoken here.
 */
export function usableVersions(declared: { cniVersion: string; cniVersions: readonly string[] }, origin: string): CniVersion[] {
  const names = declared.cniVersions.length > 0 ? declared.cniVersions : [declared.cniVersion];
  const known = CNI_VERSIONS.filter((version) => names.includes(version) || (version === OLDEST && names.some((name) => OUTDATED.includes(name))));
  if (known.length === 0) throw new RktError('UNSUPPORTED', `${origin}: cniVersion ${names.join(', ')} is not supported`, { hint: `supported are ${CNI_VERSIONS.join(', ')}` });
  return known.reverse();
}
