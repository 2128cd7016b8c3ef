/** Garbage collection: ended pods are marked first and removed when they have been marked long enough. */
import { existsSync, rmSync, statSync } from 'node:fs';
import { RktError } from '../error.ts';
import { isErrno } from '../linux/errno.ts';
import { mountsBelow, unmount } from '../linux/mount.ts';
import { currentPath, isStillThere, pathInPod, refreshState, walkPods } from './handle.ts';
import type { PodHandle } from './handle.ts';
import { lockExclusively, lockQuietly, movePod, syncMoves } from './lifecycle.ts';
import { POD_FILES } from './layout.ts';
import type { PodDirectory } from './layout.ts';
import { formatDuration } from './duration.ts';

/** An embryo lives for less than a second; an unlocked one that is older was left behind by a crash. */
const EMBRYO_EXPIRY_MS = 60_000;

export interface GcOptions {
  gracePeriodMs: number;
  expirePreparedMs: number;
  markOnly: boolean;
}

/** What gc tells and needs from outside. */
export interface GcHost {
  /** One line for standard output or standard error. */
  print(stream: 'stdout' | 'stderr', line: string): void;
  /** A problem with one pod; the others go on. */
  problem(message: string, cause: unknown): void;
  /** Lets other services forget the pod. */
  forget(pod: PodHandle): Promise<void>;
  /** Takes the pod's networks down, if it has any. */
  cleanUpNetwork(pod: PodHandle): Promise<void>;
  /** Calls the stage1 entrypoint `gc` of the pod. */
  cleanUpStage1(pod: PodHandle): void;
}

/** Marks and removes in rkt's order. Pods that someone else is working on are left alone. */
export async function collectGarbage(dataDir: string, options: GcOptions, host: GcHost): Promise<void> {
  await moveAll(dataDir, host, { from: 'run', to: 'exited-garbage', when: (pod) => pod.state === 'exited', message: (uuid) => `moving pod "${uuid}" to garbage` });
  await moveAll(dataDir, host, { from: 'prepare', to: 'garbage', when: (pod) => pod.state === 'aborted prepare', message: (uuid) => `moving failed prepare "${uuid}" to garbage` });
  if (options.markOnly) return;
  await moveAll(dataDir, host, { from: 'embryo', to: 'garbage', when: (pod) => ageMs(pod) > EMBRYO_EXPIRY_MS, message: (uuid) => `moving failed prepare "${uuid}" to garbage` });
  await moveAll(dataDir, host, {
    from: 'prepared',
    to: 'garbage',
    when: (pod) => ageMs(pod) >= options.expirePreparedMs,
    message: (uuid) => `moving expired prepared pod "${uuid}" to garbage`,
  });
  const tried = new Set<string>();
  for (const pod of walkPods(dataDir, ['exited-garbage'])) {
    if (ageMs(pod) < options.gracePeriodMs) {
      host.print('stderr', `pod "${pod.uuid}" not removed: still within grace period (${formatDuration(options.gracePeriodMs)})`);
    } else {
      tried.add(pod.uuid);
      await collectOne(pod, host);
    }
  }
  for (const pod of walkPods(dataDir, ['garbage'])) if (!tried.has(pod.uuid)) await collectOne(pod, host);
}

async function collectOne(pod: PodHandle, host: GcHost): Promise<void> {
  if (!lockExclusively(pod)) return;
  host.print('stdout', `Garbage collecting pod "${pod.uuid}"`);
  await deletePod(pod, host);
}

interface Move {
  from: PodDirectory;
  to: PodDirectory;
  when(pod: PodHandle): boolean;
  message(uuid: string): string;
}

async function moveAll(dataDir: string, host: GcHost, move: Move): Promise<void> {
  for (const pod of walkPods(dataDir, [move.from])) {
    if (!move.when(pod) || !lockQuietly(pod)) continue;
    try {
      movePod(pod, move.to);
      host.print('stderr', move.message(pod.uuid));
      await syncMoves(pod);
    } catch (cause) {
      if (isStillThere(pod)) host.problem('rename error', cause);
      // Else another gc was faster.
    }
  }
}

/**
 * Removes a pod that is in `exited-garbage` or `garbage` and exclusively locked by the caller. False: something is
 * left and a problem was told; the next gc tries again.
 */
export async function deletePod(pod: PodHandle, host: GcHost): Promise<boolean> {
  if (pod.directory !== 'exited-garbage' && pod.directory !== 'garbage') {
    throw new RktError('INTERNAL', `non-garbage pod "${pod.uuid}" (status "${pod.state}"), skipped`);
  }
  try {
    await host.forget(pod);
  } catch (cause) {
    host.problem(`pod "${pod.uuid}" is still known elsewhere`, cause);
  }
  try {
    await host.cleanUpNetwork(pod);
  } catch (cause) {
    // What is left is known only from the pod directory.
    host.problem(`pod "${pod.uuid}" not removed: its network cannot be taken down`, cause);
    return false;
  }
  // Without its manifest it is what an interrupted removal has left: stage1 has been asked already.
  if (pod.directory === 'exited-garbage' && existsSync(pathInPod(pod, POD_FILES.stage1Manifest))) {
    try {
      host.cleanUpStage1(pod);
    } catch (cause) {
      host.problem(`problem performing stage1 GC on "${pod.uuid}"`, cause);
    }
  }
  try {
    // What a stage1 has left mounted there could be directories of this host.
    for (const path of mountsBelow(currentPath(pod))) unmount(path);
    // From here on it is no pod any more: should the removal be interrupted, the next gc goes on with it whatever the grace period.
    if (pod.directory !== 'garbage') movePod(pod, 'garbage');
    // The scratch disk first: it is what may be large. The manifest goes with the directory, last.
    rmSync(`${currentPath(pod)}/${POD_FILES.scratch}`, { force: true });
    rmSync(currentPath(pod), { recursive: true, force: true });
  } catch (cause) {
    host.problem(`unable to remove pod "${pod.uuid}"`, cause);
    return false;
  }
  return true;
}

/** Removes one pod by order (`rm`), whatever state it is in, unless it is running or being worked on. */
export async function removePod(pod: PodHandle, host: GcHost): Promise<boolean> {
  switch (refreshState(pod)) {
    case 'running':
      host.print('stderr', `pod "${pod.uuid}" is currently running`);
      return false;
    case 'embryo':
    case 'preparing':
      host.print('stderr', `pod "${pod.uuid}" is currently being prepared`);
      return false;
    case 'deleting':
    case 'exited deleting':
      host.print('stderr', `pod "${pod.uuid}" is currently being deleted`);
      return false;
    case 'gone':
      return true;
    case 'aborted prepare':
      return removeFrom(pod, host, { to: 'garbage', message: `moving failed prepare "${pod.uuid}" to garbage` });
    case 'prepared':
      return removeFrom(pod, host, { to: 'garbage', message: `moving expired prepared pod "${pod.uuid}" to garbage` });
    case 'exited':
      return removeFrom(pod, host, { to: 'exited-garbage' });
    case 'exited garbage':
    case 'garbage':
      return removeFrom(pod, host, {});
  }
}

async function removeFrom(pod: PodHandle, host: GcHost, step: { to?: PodDirectory; message?: string }): Promise<boolean> {
  const isBusy = (): false => {
    host.problem('unable to acquire exclusive lock', new RktError('BUSY', `pod "${pod.uuid}" is locked`));
    return false;
  };
  if (step.to !== undefined) {
    if (!lockQuietly(pod)) return isBusy();
    try {
      movePod(pod, step.to);
      if (step.message !== undefined) host.print('stderr', step.message);
      await syncMoves(pod);
    } catch (cause) {
      host.problem('rename error', cause);
      return false;
    }
  }
  return lockExclusively(pod) ? await deletePod(pod, host) : isBusy();
}

/** Time since the directory was last moved or changed: rename(2) sets ctime. */
function ageMs(pod: PodHandle): number {
  try {
    // A clock that was set back makes nothing younger than new.
    return Math.max(0, Date.now() - statSync(currentPath(pod)).ctimeMs);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return 0;
    throw error;
  }
}
