/**
 * An opened pod directory. All files of the pod are reached through the descriptor (`/proc/self/fd/N/…`), so a rename
 * by someone else between two reads cannot mix two pods or lose one.
 */
import { closeSync, constants, fstatSync, openSync, readdirSync, statSync } from 'node:fs';
import { isErrno } from '../linux/errno.ts';
import { lockDescriptor, unlockDescriptor } from '../linux/flock.ts';
import { isUUID, POD_DIRECTORIES, podDirectoryPath, podPath } from './layout.ts';
import type { PodDirectory } from './layout.ts';
import { podState } from './state.ts';
import type { PodState } from './state.ts';

/** How often a lookup starts again when the pod was moved under its eyes; a pod moves five times in its life. */
const LOOKUP_ATTEMPTS = 20;

export interface PodHandle {
  readonly uuid: string;
  readonly dataDir: string;
  /** Where it was when the state was determined, or where this process has moved it since. */
  directory: PodDirectory;
  /** The state when the handle was opened or last refreshed. */
  state: PodState;
  /** Descriptor of the pod directory; carries the lock when this process has taken it. */
  readonly fd: number;
  /** Directories whose entry for this pod was changed and not yet flushed. */
  readonly unsynced: Set<PodDirectory>;
  close(): void;
  [Symbol.dispose](): void;
}

/** A path of the pod that stays right whatever directory the pod is moved to. */
export function pathInPod(pod: PodHandle, name = ''): string {
  return `/proc/self/fd/${pod.fd}/${name}`;
}

/** The path as others see it (for child processes and messages). */
export function currentPath(pod: PodHandle): string {
  return podPath(pod.dataDir, pod.directory, pod.uuid);
}

export function makeHandle(pod: Pick<PodHandle, 'uuid' | 'dataDir' | 'directory' | 'state' | 'fd'>): PodHandle {
  let open = true;
  const close = (): void => {
    if (!open) return;
    open = false;
    closeSync(pod.fd);
  };
  return { ...pod, unsynced: new Set(), close, [Symbol.dispose]: close };
}

/** Opens a pod by its whole UUID wherever it is, or gives undefined when there is none. */
export function openPod(dataDir: string, uuid: string): PodHandle | undefined {
  for (let attempt = 0; attempt < LOOKUP_ATTEMPTS; attempt++) {
    let moved = false;
    // In the order of life: a pod that leaves a directory before it is read is met again in a later one.
    for (const directory of POD_DIRECTORIES) {
      const opened = openIn(dataDir, directory, uuid);
      if (opened === 'moved') moved = true;
      else if (opened !== undefined) return opened;
    }
    if (!moved) return undefined;
  }
  return undefined;
}

function openIn(dataDir: string, directory: PodDirectory, uuid: string): PodHandle | 'moved' | undefined {
  let fd: number;
  try {
    fd = openSync(podPath(dataDir, directory, uuid), constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
  try {
    const state = podState(directory, isExclusivelyLocked(fd));
    const pod = makeHandle({ uuid, dataDir, directory, state, fd });
    if (isStillThere(pod)) return pod;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  closeSync(fd);
  return 'moved';
}

/**
 * Asks by trying the shared lock and giving it back at once. Whoever wants the exclusive lock therefore has to try
 * for a moment (`lockExclusively`): a reader may hold the shared one just now.
 */
function isExclusivelyLocked(fd: number): boolean {
  if (!lockDescriptor(fd, 'shared', { block: false })) return true;
  unlockDescriptor(fd);
  return false;
}

/** Whether the directory the handle points to is still where it was found. */
export function isStillThere(pod: PodHandle): boolean {
  const opened = fstatSync(pod.fd, { bigint: true });
  const there = statSync(currentPath(pod), { bigint: true, throwIfNoEntry: false });
  return there !== undefined && there.ino === opened.ino && there.dev === opened.dev;
}

/** Determines directory and state anew. Must not be called by whoever holds the lock: a holder knows the state. */
export function refreshState(pod: PodHandle): PodState {
  for (let attempt = 0; attempt < LOOKUP_ATTEMPTS; attempt++) {
    const exclusive = isExclusivelyLocked(pod.fd);
    if (isStillThere(pod)) return (pod.state = podState(pod.directory, exclusive));
    const found = POD_DIRECTORIES.find((directory) => isStillThere({ ...pod, directory }));
    if (found === undefined) return (pod.state = 'gone');
    pod.directory = found;
  }
  return pod.state;
}

/**
 * All pods in the given directories, each once, opened one after the other; the handle is closed when the iteration
 * goes on. A pod that is moved meanwhile is met where it is when it is opened, or not at all when it is removed.
 */
export function* walkPods(dataDir: string, directories: readonly PodDirectory[] = POD_DIRECTORIES): Generator<PodHandle> {
  const seen = new Set<string>();
  for (const directory of directories) {
    for (const uuid of podNames(dataDir, directory)) {
      if (seen.has(uuid)) continue;
      const pod = openPod(dataDir, uuid);
      if (pod === undefined) continue;
      try {
        if (!directories.includes(pod.directory)) continue;
        seen.add(uuid);
        yield pod;
      } finally {
        pod.close();
      }
    }
  }
}

/** UUIDs in one directory, sorted; none when it does not exist yet. */
export function podNames(dataDir: string, directory: PodDirectory): string[] {
  try {
    return readdirSync(podDirectoryPath(dataDir, directory)).filter(isUUID).sort();
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
}
