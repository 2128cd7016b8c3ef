/**
 * Trusted keys in rkt's layout: in each configuration directory `trustedkeys/root.d/<fingerprint>` (for every image) and
 * `trustedkeys/prefix.d/<prefix>/<fingerprint>` (for images whose name is the prefix or lies below it). An empty file
 * takes the trust in that key back that a lower directory has given. Nothing here parses a key.
 */
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { RktError } from '../../error.ts';
import { isACIdentifier } from '../../schema/names.ts';
import { writeFileAtomic } from '../../store/atomic-write.ts';
import { errnoName, fileError } from '../../store/fs-error.ts';

const FINGERPRINT = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;
const KEY_MODE = 0o644;

export interface StoredKey {
  fingerprint: string;
  path: string;
  /** What the key is trusted for: the beginning of image names, empty for all. */
  prefix: string;
}

/** Keys that count for an image. `configDirs`: lowest precedence first. Throws RktError for what cannot be read or does not belong there. */
export function keysFor(imageName: string, configDirs: readonly string[]): StoredKey[] {
  const prefixes = prefixesOf(imageName);
  const trusted = new Map<string, StoredKey>();
  const apply = (directory: string, prefix: string): void => {
    for (const { name, sizeBytes } of keyFiles(directory)) {
      if (sizeBytes === 0) trusted.delete(name);
      else trusted.set(name, { fingerprint: name, path: join(directory, name), prefix });
    }
  };
  for (const configDir of configDirs) apply(rootDirectory(configDir), '');
  for (const configDir of configDirs) for (const prefix of prefixes) apply(prefixDirectory(configDir, prefix), prefix);
  return [...trusted.values()];
}

/** Whether keys have been chosen for exactly this prefix. */
export function hasKeysForPrefix(prefix: string, configDirs: readonly string[]): boolean {
  return configDirs.some((configDir) => keyFiles(prefixDirectory(configDir, prefix)).some(({ sizeBytes }) => sizeBytes > 0));
}

/** Trusts a key; gives the path it is kept at. `prefix`: an appc identifier, or empty for all images. Throws RktError. */
export function storeKey(localConfigDir: string, key: { prefix: string; fingerprint: string; armored: string }): string {
  const directory = key.prefix === '' ? rootDirectory(localConfigDir) : prefixDirectory(localConfigDir, key.prefix);
  const path = join(directory, key.fingerprint);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o755 });
  } catch (error) {
    throw fileError(error, `cannot make ${directory}`);
  }
  writeFileAtomic(path, key.armored, KEY_MODE);
  return path;
}

export function readKeyFile({ path }: StoredKey): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    throw fileError(error, `cannot read the trusted key ${path}`);
  }
}

/** `a.com`, `a.com/b`, `a.com/b/c` of `a.com/b/c`. */
function prefixesOf(imageName: string): string[] {
  const parts = checkedName(imageName).split('/');
  return parts.map((_, index) => parts.slice(0, index + 1).join('/'));
}

function rootDirectory(configDir: string): string {
  return join(configDir, 'trustedkeys', 'root.d');
}

function prefixDirectory(configDir: string, prefix: string): string {
  return join(configDir, 'trustedkeys', 'prefix.d', ...checkedName(prefix).split('/'));
}

/** The name becomes part of a path. */
function checkedName(name: string): string {
  if (!isACIdentifier(name)) throw new RktError('BAD_INPUT', `${JSON.stringify(name)} is no image name: ACIdentifier must contain only lower case alphanumeric characters plus "-._~/"`);
  return name;
}

function keyFiles(directory: string): { name: string; sizeBytes: number }[] {
  try {
    const files = readdirSync(directory, { withFileTypes: true }).filter((entry) => !entry.isDirectory() && !entry.name.startsWith('.'));
    return files.map(({ name }) => {
      const path = join(directory, name);
      if (!FINGERPRINT.test(name)) throw new RktError('BAD_INPUT', `${path}: expected the fingerprint of the key as file name (40 or 64 lower case hexadecimal digits)`);
      return { name, sizeBytes: statSync(path).size };
    });
  } catch (error) {
    if (errnoName(error) === 'ENOENT' || errnoName(error) === 'ENOTDIR') return [];
    throw fileError(error, `cannot read the trusted keys in ${directory}`);
  }
}
