/** From what a person types to a pod. */
import { readFileSync } from 'node:fs';
import { RktError } from '../error.ts';
import { openPod, podNames } from './handle.ts';
import type { PodHandle } from './handle.ts';
import { isUUID } from './layout.ts';
import type { PodDirectory } from './layout.ts';

/** Where the beginning of a UUID is looked for; a whole UUID is found everywhere. */
const PREFIX_DIRECTORIES: readonly PodDirectory[] = ['run', 'exited-garbage', 'prepare', 'prepared'];

/** The whole UUID. Throws NOT_FOUND or AMBIGUOUS in rkt's words. */
export function resolveUUID(dataDir: string, text: string): string {
  const wanted = text.trim().toLowerCase();
  if (wanted === '') throw new RktError('USAGE', 'UUID cannot be empty');
  if (isUUID(wanted)) return wanted;
  const matches = new Set(PREFIX_DIRECTORIES.flatMap((directory) => podNames(dataDir, directory).filter((uuid) => uuid.startsWith(wanted))));
  const [only] = matches;
  if (only === undefined) throw notFound(text);
  if (matches.size > 1) throw new RktError('AMBIGUOUS', `ambiguous uuid, ${matches.size} matches`);
  return only;
}

/** Opens the pod with this UUID or beginning of a UUID. The caller closes it. */
export function openPodByName(dataDir: string, text: string): PodHandle {
  const uuid = resolveUUID(dataDir, text);
  const pod = openPod(dataDir, uuid);
  if (pod === undefined) throw notFound(text);
  return pod;
}

/** The UUID in a file as `--uuid-file-save` writes it. */
export function readUUIDFile(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new RktError('IO', 'unable to resolve UUID from file', { cause });
  }
  return text.trim();
}

function notFound(text: string): RktError {
  return new RktError('NOT_FOUND', `no matches found for ${JSON.stringify(text)}`);
}
