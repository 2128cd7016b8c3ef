/** The directories of a pod without a virtual machine, mounted when it starts. */
import { chmodSync, chownSync, copyFileSync, existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { RktError } from '../error.ts';
import { isErrno } from '../linux/errno.ts';
import { mountOverlay, ownMounts } from '../linux/mount.ts';
import { currentPath, POD_FILES } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import type { PodManifest } from '../schema/index.ts';
import { appRootOf, directoryStage1, OVERLAY, OVERLAY_MARKER, TREE_ROOTFS } from './root-layout.ts';

const DIRECTORY_MODE = 0o755;

/**
 * Mounts what the pod was prepared with. From then on this process has mounts of its own, and so has what it becomes: nothing is
 * left of them when the pod ends. Throws RktError.
 */
export function mountRootDirectories(pod: PodHandle, manifest: PodManifest): void {
  const podDir = currentPath(pod);
  ownMounts();
  const stage1 = existsSync(join(podDir, OVERLAY_MARKER)) ? directoryStage1(podDir) : undefined;
  if (stage1 !== undefined) {
    mountLayer(podDir, { lower: join(pod.dataDir, 'cas/stage1', stage1, 'rootfs'), target: POD_FILES.stage1Rootfs, layer: `${OVERLAY}/${stage1}` });
    for (const { name } of manifest.apps) {
      const tree = readFileSync(join(podDir, POD_FILES.apps, name, POD_FILES.appTreeStoreID), 'utf8').trim();
      mkdirSync(join(podDir, appRootOf(name)), { recursive: true, mode: DIRECTORY_MODE });
      mountLayer(podDir, { lower: join(pod.dataDir, 'cas/tree', tree, TREE_ROOTFS), target: appRootOf(name), layer: `${OVERLAY}/${tree}`, part: name });
    }
  }
  for (const { name } of manifest.apps) copyFileSync(join(podDir, POD_FILES.apps, name, POD_FILES.appManifest), join(podDir, dirname(appRootOf(name)), 'manifest'));
  for (const name of [POD_FILES.resolvConf, POD_FILES.hosts]) copyIfThere(join(podDir, name), join(podDir, POD_FILES.stage1Rootfs, 'etc', name));
}

interface Layer {
  lower: string;
  target: string;
  /** What this pod changes is in `LAYER/upper/PART`. */
  layer: string;
  part?: string;
}

function mountLayer(podDir: string, { lower, target, layer, part = '' }: Layer): void {
  const [upper, work] = ['upper', 'work'].map((name) => join(podDir, layer, name, part)) as [string, string];
  const { mode, uid, gid } = lowerStatus(lower);
  for (const directory of [upper, work]) mkdirSync(directory, { recursive: true, mode: DIRECTORY_MODE });
  // The upper directory's owner and mode become those of the root.
  chownSync(upper, uid, gid);
  chmodSync(upper, mode & 0o7777);
  try {
    mountOverlay(join(podDir, target), { lower, upper, work });
  } catch (cause) {
    throw new RktError('UNSUPPORTED', `cannot mount the overlay for ${target}`, { cause, hint: 'prepare the pod with --no-overlay' });
  }
}

function lowerStatus(lower: string): { mode: number; uid: number; gid: number } {
  try {
    return statSync(lower);
  } catch (cause) {
    throw new RktError('NOT_FOUND', `${lower} is gone from the store`, { cause });
  }
}

function copyIfThere(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true, mode: DIRECTORY_MODE });
  try {
    copyFileSync(from, to);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}
