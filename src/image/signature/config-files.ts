/** Where the containers tools' configuration about signatures is found: rkt's own directories first, then theirs. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { RktError } from '../../error.ts';
import { fileError } from '../../store/fs-error.ts';
import type { VerificationOptions } from '../verification.ts';
import type { KeySource } from './policy.ts';

const SYSTEM_DIR = '/etc/containers';
const CONFIG_LIMIT_BYTES = 4 << 20;

/** The first that exists of `NAME` in the configuration directories (highest precedence first), the user's and the system's. */
export function findConfig(name: string, configDirs: readonly string[]): string | undefined {
  const directories = [...configDirs.toReversed(), join(homedir(), '.config/containers'), SYSTEM_DIR];
  return directories.map((directory) => join(directory, name)).find((path) => existsSync(path));
}

/** A small file, whole. Throws RktError naming it. */
export function readConfigBytes(path: string): Uint8Array {
  try {
    if (statSync(path).size > CONFIG_LIMIT_BYTES) throw new RktError('LIMIT', `${path}: larger than ${CONFIG_LIMIT_BYTES} bytes`);
    return readFileSync(path);
  } catch (error) {
    throw fileError(error, `cannot read ${path}`);
  }
}

const TUF_SCHEME = 'tuf:';

/** The content of a key or certificate that a policy names, and what to call it in messages. */
export async function readKeySource(source: KeySource, options: VerificationOptions): Promise<{ bytes: Uint8Array; origin: string }> {
  if ('data' in source) return { bytes: source.data, origin: 'the key in the policy' };
  const { path } = source;
  if (path.startsWith(TUF_SCHEME)) {
    const { readTrustedTarget } = await import('./tuf-targets.ts');
    return { bytes: await readTrustedTarget(path.slice(TUF_SCHEME.length), options), origin: path };
  }
  // What a relative path means would depend on where rkt is called.
  if (!isAbsolute(path)) throw new RktError('BAD_INPUT', `${path}: the path of a key in a policy must be absolute`);
  return { bytes: readConfigBytes(path), origin: path };
}
