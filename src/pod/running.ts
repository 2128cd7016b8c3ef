/** What a command needs that works on a running pod, and what is said of one that does not run. */
import { RktError } from '../error.ts';
import type { PodHandle } from './handle.ts';

/** Throws RktError STATE. */
export function requireRunning(pod: PodHandle, options: { hint?: string } = {}): void {
  if (pod.state !== 'running') throw new RktError('STATE', `pod "${pod.uuid}" isn't currently running`, options);
}

/** @param pid as read from the pod directory. Throws RktError STATE as long as there is none. */
export function requirePid(pod: PodHandle, pid: number | undefined): number {
  if (pid === undefined) throw new RktError('STATE', `pod "${pod.uuid}" is still starting: its pid is not known yet`);
  return pid;
}
