/**
 * How a pod comes into being and moves on: rename(2) from one directory to the next by whoever holds the exclusive
 * lock, and fsync of both parents.
 */
import { closeSync, constants, fsync, mkdirSync, openSync, readFileSync, renameSync } from 'node:fs';
import { dirname } from 'node:path';
import { RktError } from '../error.ts';
import { isErrno } from '../linux/errno.ts';
import { lockDescriptor, unlockDescriptor } from '../linux/flock.ts';
import { currentPath, isStillThere, makeHandle } from './handle.ts';
import type { PodHandle } from './handle.ts';
import { isUUID, POD_DIRECTORIES, podDirectoryPath, podPath } from './layout.ts';
import type { PodDirectory } from './layout.ts';
import { podState } from './state.ts';

const DIRECTORY_MODE = 0o750;
/** Readers hold the shared lock for microseconds; whoever holds it longer than this really owns the pod. */
const EXCLUSIVE_ATTEMPTS = 25;
const EXCLUSIVE_PAUSE_MS = 2;

/** A new pod in `embryo`, exclusively locked by this process until the handle is closed. */
export function createPod(dataDir: string): PodHandle {
  const uuid = newUUID();
  const path = podPath(dataDir, 'embryo', uuid);
  try {
    mkdirSync(path, DIRECTORY_MODE);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
    for (const directory of POD_DIRECTORIES) mkdirSync(podDirectoryPath(dataDir, directory), { recursive: true, mode: DIRECTORY_MODE });
    mkdirSync(path, DIRECTORY_MODE);
  }
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  const pod = makeHandle({ uuid, dataDir, directory: 'embryo', state: 'embryo', fd });
  lockDescriptor(fd, 'exclusive', { block: true });
  return pod;
}

/** A random UUID (version 4) from the kernel; loading node:crypto for it would take longer than all else here. */
function newUUID(): string {
  const uuid = readFileSync('/proc/sys/kernel/random/uuid', 'utf8').trim();
  if (!isUUID(uuid)) throw new RktError('INTERNAL', `/proc/sys/kernel/random/uuid: expected a UUID, found ${JSON.stringify(uuid)}`);
  return uuid;
}

/**
 * Takes the exclusive lock. False: someone else owns the pod, or it has been moved since it was opened (then the
 * handle holds no lock and has to be refreshed).
 */
export function lockExclusively(pod: PodHandle): boolean {
  for (let attempt = 0; attempt < EXCLUSIVE_ATTEMPTS; attempt++) {
    if (lockDescriptor(pod.fd, 'exclusive', { block: false })) {
      if (isStillThere(pod)) return true;
      unlockDescriptor(pod.fd);
      return false;
    }
    pause(EXCLUSIVE_PAUSE_MS);
  }
  return false;
}

/** Takes a shared lock: the pod is neither started nor removed while it is held. False: someone owns the pod, or it has been moved. */
export function lockShared(pod: PodHandle): boolean {
  if (!lockDescriptor(pod.fd, 'shared', { block: false })) return false;
  if (isStillThere(pod)) return true;
  unlockDescriptor(pod.fd);
  return false;
}

/**
 * Keeps those away who would start or remove the pod. Where an exclusive lock would mean to others that the pod runs or is being
 * worked on, they do not see this one. False: someone owns the pod, or it has been moved.
 */
export function lockQuietly(pod: PodHandle): boolean {
  return pod.directory === 'embryo' || pod.directory === 'prepared' ? lockExclusively(pod) : lockShared(pod);
}

/** Gives the exclusive lock back and keeps the pod open. */
export function unlockPod(pod: PodHandle): void {
  unlockDescriptor(pod.fd);
  pod.state = podState(pod.directory, false);
}

/** Moves a pod on; the caller holds a lock, to start it or take it up the exclusive one. Others see it at once; `syncMoves` makes it last. */
export function movePod(pod: PodHandle, to: PodDirectory): void {
  const from = pod.directory;
  if (POD_DIRECTORIES.indexOf(to) <= POD_DIRECTORIES.indexOf(from)) {
    throw new RktError('INTERNAL', `pod ${JSON.stringify(pod.uuid)} cannot move from ${from} to ${to}`);
  }
  const [source, target] = [currentPath(pod), podPath(pod.dataDir, to, pod.uuid)];
  try {
    renameSync(source, target);
  } catch (error) {
    if (!isErrno(error, 'ENOENT') || !isStillThere(pod)) throw error;
    // The target's parent is missing: someone has tidied up by hand.
    mkdirSync(dirname(target), { recursive: true, mode: DIRECTORY_MODE });
    renameSync(source, target);
  }
  pod.directory = to;
  pod.state = podState(to, true);
  pod.unsynced.add(from).add(to);
}

/** Flushes the parents of all moves of this handle, at the same time, so that they cost one write of the journal. */
export async function syncMoves(pod: PodHandle): Promise<void> {
  const directories = [...pod.unsynced];
  pod.unsynced.clear();
  await Promise.all(directories.map((directory) => fsyncPath(podDirectoryPath(pod.dataDir, directory))));
}

/** Flushes a file or directory to the disk. */
export function fsyncPath(path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const fd = openSync(path, constants.O_RDONLY);
    fsync(fd, (error) => {
      closeSync(fd);
      if (error === null) resolve();
      else reject(error);
    });
  });
}

const pauseCell = new Int32Array(new SharedArrayBuffer(4));

function pause(milliseconds: number): void {
  Atomics.wait(pauseCell, 0, 0, milliseconds);
}
