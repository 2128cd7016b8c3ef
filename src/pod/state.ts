/** The state of a pod: the directory it is in × whether someone holds the exclusive lock on that directory. */
import type { PodDirectory } from './layout.ts';

export const POD_STATES = [
  'embryo',
  'preparing',
  'aborted prepare',
  'prepared',
  'running',
  'exited',
  'exited deleting',
  'exited garbage',
  'deleting',
  'garbage',
  'gone',
] as const;

/** As rkt prints it. `gone`: the directory vanished after it was opened. */
export type PodState = (typeof POD_STATES)[number];

export function podState(directory: PodDirectory, exclusivelyLocked: boolean): PodState {
  switch (directory) {
    case 'embryo':
      return 'embryo';
    case 'prepare':
      return exclusivelyLocked ? 'preparing' : 'aborted prepare';
    case 'prepared':
      return 'prepared';
    case 'run':
      return exclusivelyLocked ? 'running' : 'exited';
    case 'exited-garbage':
      return exclusivelyLocked ? 'exited deleting' : 'exited garbage';
    case 'garbage':
      return exclusivelyLocked ? 'deleting' : 'garbage';
  }
}

/** States in which the pod has been started at some time. */
export function hasRun(state: PodState): boolean {
  return state === 'running' || hasEnded(state);
}

/** States in which what ran has ended. */
export function hasEnded(state: PodState): boolean {
  return state === 'exited' || state === 'exited deleting' || state === 'exited garbage' || state === 'deleting';
}
