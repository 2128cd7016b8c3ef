/** Where networks keep what lives as long as this host runs. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { lockFile } from '../linux/flock.ts';
import type { Lock } from '../linux/flock.ts';

const RUNTIME_DIRECTORY = '/run/rkt';

/** The file of a pod's namespace. */
export function namespacePath(uuid: string): string {
  return join(RUNTIME_DIRECTORY, 'netns', uuid);
}

/** Held while a pod joins networks; waits while unused attachments are being removed. */
export function lockAgainstCollection(): Lock {
  return lockNetworks('shared', true) as Lock;
}

/** Held while unused attachments are found and removed. Null: a pod is joining a network. */
export function lockForCollection(): Lock | null {
  return lockNetworks('exclusive', false);
}

function lockNetworks(mode: 'shared' | 'exclusive', block: boolean): Lock | null {
  mkdirSync(RUNTIME_DIRECTORY, { recursive: true, mode: 0o755 });
  return lockFile(join(RUNTIME_DIRECTORY, 'networks.lock'), mode, { block });
}
