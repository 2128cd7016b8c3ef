/** From a command to a pod directory: everything a stage1 needs to run the pod, whole or not at all. */
import { closeSync, existsSync, mkdirSync, openSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { RktError } from '../error.ts';
import { lockFile } from '../linux/flock.ts';
import type { Lock } from '../linux/flock.ts';
import { syncFileSystem } from '../linux/sync.ts';
import { createPod, currentPath, fsyncPath, movePod, POD_FILES, syncMoves } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import type { PodManifest } from '../schema/index.ts';
import type { Stage1Image, Store } from '../store/index.ts';
import { directoryStage1 } from './root-layout.ts';
import { createScratchDisk } from './scratch.ts';
import { rootfsKind } from './stage1-abilities.ts';
import { createTpmState } from './tpm-state.ts';

const FILE_MODE = 0o640;
const DIRECTORY_MODE = 0o750;
/** From the pod directory (`pods/<state>/<uuid>`, always three levels deep) to the data directory. */
const TO_DATA_DIR = '../../..';

/** What the person said about the virtual machine; kept in the pod so that `run-prepared` knows it. */
export interface MachineOptions {
  accelerator?: 'auto' | 'kvm' | 'tcg';
  /** Absolute path. */
  kernel?: string;
  cpus?: number;
  memoryMib?: number;
  /** Memory that the guest has freed goes back to the host. */
  giveBackMemory?: boolean;
  tpm?: 'on' | 'off' | 'host';
  /** After the launch the host may change nothing in the pod. */
  sealed?: boolean;
  /** Where apps have the content of their images from: verified disks unless this says otherwise. */
  rootfs?: 'disk' | 'virtiofs';
}

export interface PrepareRequest {
  store: Store;
  stage1: Stage1Image;
  manifest: PodManifest;
  machine: MachineOptions;
  /** Called as soon as the UUID is known, before anything can go wrong. */
  onUUID?(uuid: string): void;
  log(message: string): void;
}

/**
 * Makes the pod and leaves it in `prepare`, exclusively locked by this process; its moves are not flushed yet. After an error nothing is left; when
 * this process dies half-way, the pod stays there without a lock ("aborted prepare") until gc removes it.
 */
export function preparePod(request: PrepareRequest): PodHandle {
  const { store } = request;
  const prepareLock = sharedPrepareLock(store.dataDir);
  try {
    const pod = createPod(store.dataDir);
    try {
      request.onUUID?.(pod.uuid);
      movePod(pod, 'prepare');
      writePod(currentPath(pod), request);
      return pod;
    } catch (error) {
      discardPod(pod);
      throw error;
    }
  } finally {
    prepareLock.release();
  }
}

/** Removes a pod that was never started, and lets go of it. */
export function discardPod(pod: PodHandle): void {
  try {
    if (pod.directory === 'embryo' || pod.directory === 'prepare') movePod(pod, 'garbage');
    rmSync(currentPath(pod), { recursive: true, force: true });
  } catch {
    // The error that led here is the one to report; gc removes what is left.
  } finally {
    pod.close();
  }
}

/** `rkt prepare`: makes sure that all of it is on the disk, then lets go of the pod. */
export async function finishPreparing(pod: PodHandle, manifest: PodManifest): Promise<void> {
  const podDir = currentPath(pod);
  const apps = manifest.apps.map(({ name }) => join(POD_FILES.apps, name));
  const files = [POD_FILES.manifest, POD_FILES.created, ...(existsSync(join(podDir, POD_FILES.scratch)) ? [POD_FILES.scratch] : []), POD_FILES.stage1Manifest, POD_FILES.stage1Options, ...apps.flatMap((app) => [join(app, POD_FILES.appManifest), join(app, POD_FILES.appDisk), join(app, POD_FILES.appTreeStoreID)])];
  await Promise.all([...files, ...apps, POD_FILES.apps, POD_FILES.stage1, ''].map((name) => fsyncPath(join(podDir, name))));
  if (directoryStage1(podDir) !== undefined) syncFileSystem(podDir);
  movePod(pod, 'prepared');
  await syncMoves(pod);
  pod.close();
}

/** Image gc takes this lock exclusively, so that no tree goes away between being found and being referred to. */
export function sharedPrepareLock(dataDir: string): Lock {
  const path = join(dataDir, 'locks', 'prepareLock');
  mkdirSync(join(dataDir, 'locks'), { recursive: true, mode: DIRECTORY_MODE });
  const lock = lockFile(path, 'shared', { block: true });
  if (lock === null) throw new RktError('INTERNAL', 'cannot get shared prepare lock');
  return lock;
}

function writePod(podDir: string, request: PrepareRequest): void {
  const { store, stage1, manifest, log } = request;
  touch(join(podDir, POD_FILES.created));

  log('Preparing stage1');
  mkdirSync(join(podDir, POD_FILES.stage1), { mode: DIRECTORY_MODE });
  writePodFile(join(podDir, POD_FILES.stage1Manifest), JSON.stringify(stage1.manifest));
  const takesDisks = rootfsKind(stage1.manifest) === 'disk';
  if (takesDisks) symlinkSync(join('..', TO_DATA_DIR, 'cas', 'stage1', stage1.id, 'rootfs'), join(podDir, POD_FILES.stage1Rootfs));
  writePodFile(join(podDir, POD_FILES.stage1Options), JSON.stringify(request.machine));

  log('Writing image manifest');
  mkdirSync(join(podDir, POD_FILES.apps), { mode: DIRECTORY_MODE });
  for (const app of manifest.apps) {
    log(`Loading image ${app.image.id}`);
    const appDir = join(podDir, POD_FILES.apps, app.name);
    mkdirSync(appDir, { mode: DIRECTORY_MODE });
    writeAppFiles(appDir, app.image.id, store);
  }

  if (takesDisks) createScratchDisk(store.dataDir, join(podDir, POD_FILES.scratch));
  if (takesDisks && request.machine.tpm !== 'off') createTpmState(store.dataDir, podDir);
  log('Writing pod manifest');
  writePodFile(join(podDir, POD_FILES.manifest), JSON.stringify(manifest));
}

/** What stage1 needs to know of an app's image, into its directory below `appsinfo`. Under the prepare lock. */
export function writeAppFiles(appDir: string, imageID: string, store: Store): void {
  const image = store.findImage(imageID);
  const disk = store.disk(image.id);
  writePodFile(join(appDir, POD_FILES.appManifest), JSON.stringify(store.imageManifest(image.id)));
  writePodFile(join(appDir, POD_FILES.appTreeStoreID), image.treeStoreID);
  writePodFile(join(appDir, POD_FILES.appDisk), JSON.stringify({ ...disk, path: join(TO_DATA_DIR, 'cas', 'tree', image.treeStoreID, 'disk') }));
}

/** A new file. */
export function writePodFile(path: string, text: string): void {
  writeFileSync(path, text, { mode: FILE_MODE, flag: 'wx' });
}

function touch(path: string): void {
  closeSync(openSync(path, 'wx', FILE_MODE));
}
