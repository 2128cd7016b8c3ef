/** `mds-registered` in a pod directory: that the pod is known to a metadata service, to which, and by which token. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { RktError } from '../error.ts';
import { isErrno } from '../linux/errno.ts';
import { currentPath, pathInPod } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';

const FILE = 'mds-registered';
/** The token is in it. */
const FILE_MODE = 0o600;

export interface Registered {
  token: string;
  /** The registration socket of the service. */
  socket: string;
}

export function writeRegistered(pod: PodHandle, registered: Registered): void {
  writeFileSync(pathInPod(pod, FILE), `${JSON.stringify(registered)}\n`, { mode: FILE_MODE, flag: 'wx' });
}

export function isRegistered(pod: PodHandle): boolean {
  return existsSync(pathInPod(pod, FILE));
}

/** Undefined when the pod was never registered. */
export function readRegistered(pod: PodHandle): Registered | undefined {
  let content: Partial<Registered>;
  try {
    content = JSON.parse(readFileSync(pathInPod(pod, FILE), 'utf8')) as Partial<Registered>;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw new RktError('BAD_INPUT', `cannot read ${currentPath(pod)}/${FILE}`, { cause: error });
  }
  const { token, socket } = content;
  if (typeof token !== 'string' || typeof socket !== 'string') throw new RktError('BAD_INPUT', `${currentPath(pod)}/${FILE}: expected token and socket`);
  return { token, socket };
}
