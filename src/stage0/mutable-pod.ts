/**
 * Apps that join and leave a running pod. Whoever changes the pod manifest holds `pod.lck`. The manifest names an app only after
 * stage1 has taken it, and until stage1 has let it go: what is in `appsinfo` and not in the manifest was interrupted, and the
 * next change takes it away.
 */
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { RktError } from '../error.ts';
import { isErrno } from '../linux/errno.ts';
import { lockFile } from '../linux/flock.ts';
import { isReady, pathInPod, POD_FILES, readPid, readPodManifest, requirePid, requireRunning } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import type { PodManifest, RuntimeApp } from '../schema/index.ts';
import { writeFileAtomic } from '../store/index.ts';
import type { Store } from '../store/index.ts';
import { isMutable } from './mutable-annotation.ts';
import { sharedPrepareLock, writeAppFiles, writePodFile } from './prepare.ts';
import { callAppEntrypoint } from './stage1-calls.ts';

const DIRECTORY_MODE = 0o750;

export interface AddRequest {
  store: Store;
  /** With its volumes in its mounts. */
  app: RuntimeApp;
  debug: boolean;
}

/** Throws RktError in rkt's words where rkt has some; then the pod is as it was. */
export function addApp(pod: PodHandle, { store, app, debug }: AddRequest): void {
  changeManifest(pod, 'add', (manifest) => {
    if (manifest.apps.some(({ name }) => name === app.name)) throw new RktError('USAGE', `error: multiple apps with name ${app.name}`, { hint: 'give it another with --name' });
    removeInterrupted(pod, manifest, debug);
    const directory = pathInPod(pod, `${POD_FILES.apps}/${app.name}`);
    const prepareLock = sharedPrepareLock(store.dataDir);
    try {
      mkdirSync(directory, { mode: DIRECTORY_MODE });
      writeAppFiles(directory, app.image.id, store);
      writePodFile(`${directory}/${POD_FILES.appRuntime}`, JSON.stringify(app));
    } finally {
      prepareLock.release();
    }
    try {
      callAppEntrypoint(pod, 'app/add', { pid: pidOf(pod), app: app.name, debug });
    } catch (error) {
      rmSync(directory, { recursive: true, force: true });
      throw error;
    }
    return { ...manifest, apps: [...manifest.apps, app] };
  });
}

/** Runs the app. Throws RktError. */
export function startApp(pod: PodHandle, app: string, { debug }: { debug: boolean }): void {
  requireApp(mutableManifest(pod, 'start'), app);
  callAppEntrypoint(pod, 'app/start', { pid: pidOf(pod), app, debug });
}

/** Ends what runs of the app and waits until it is gone. Throws RktError. */
export function stopApp(pod: PodHandle, app: string, { debug }: { debug: boolean }): void {
  requireApp(mutableManifest(pod, 'stop'), app);
  callAppEntrypoint(pod, 'app/stop', { pid: pidOf(pod), app, debug });
}

/** Stops the app where it runs, and takes it out of the pod. Throws RktError. */
export function removeApp(pod: PodHandle, app: string, { debug }: { debug: boolean }): void {
  // Not under the lock: an app may take its time to end.
  requireApp(mutableManifest(pod, 'remove'), app);
  callAppEntrypoint(pod, 'app/stop', { pid: pidOf(pod), app, debug });
  changeManifest(pod, 'remove', (manifest) => {
    requireApp(manifest, app);
    callAppEntrypoint(pod, 'app/rm', { pid: pidOf(pod), app, debug });
    return { ...manifest, apps: manifest.apps.filter(({ name }) => name !== app) };
  });
  rmSync(pathInPod(pod, `${POD_FILES.apps}/${app}`), { recursive: true, force: true });
}

type Change = 'add' | 'start' | 'stop' | 'remove';

function changeManifest(pod: PodHandle, change: Change, work: (manifest: PodManifest) => PodManifest): void {
  mutableManifest(pod, change);
  const lock = lockFile(pathInPod(pod, POD_FILES.manifestLock), 'exclusive', { block: true });
  if (lock === null) throw new RktError('INTERNAL', 'cannot get the lock of the pod manifest');
  try {
    writeFileAtomic(pathInPod(pod, POD_FILES.manifest), JSON.stringify(work(readPodManifest(pod))));
  } finally {
    lock.release();
  }
}

function mutableManifest(pod: PodHandle, change: Change): PodManifest {
  requireRunning(pod);
  const manifest = readPodManifest(pod);
  if (!isMutable(manifest)) throw new RktError('STATE', `immutable pod: cannot ${change} application`, { hint: 'pods made by `rkt app sandbox` are mutable' });
  if (!isReady(pod)) throw new RktError('STATE', `supervisor for pod "${pod.uuid}" is not yet ready`);
  return manifest;
}

function requireApp(manifest: PodManifest, app: string): void {
  if (!manifest.apps.some(({ name }) => name === app)) throw new RktError('NOT_FOUND', `error: nonexistent app "${app}"`);
}

function pidOf(pod: PodHandle): number {
  return requirePid(pod, readPid(pod));
}

/** Of changes whose process was killed half-way: the lock is held, so nobody is at them any more. */
function removeInterrupted(pod: PodHandle, manifest: PodManifest, debug: boolean): void {
  const known = new Set(manifest.apps.map(({ name }) => name));
  for (const app of appDirectories(pod).filter((name) => !known.has(name))) {
    callAppEntrypoint(pod, 'app/rm', { pid: pidOf(pod), app, debug });
    rmSync(pathInPod(pod, `${POD_FILES.apps}/${app}`), { recursive: true, force: true });
  }
}

function appDirectories(pod: PodHandle): string[] {
  try {
    return readdirSync(pathInPod(pod, POD_FILES.apps));
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
}
