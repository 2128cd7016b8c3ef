/** Where the root file systems of a pod without a virtual machine are, in the pod directory and in the store. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno } from '../linux/errno.ts';
import { POD_FILES } from '../pod/index.ts';

/** Which of the store's stage1 images it is (rkt's name); only pods whose stage1 takes directories have it. */
export const STAGE1_ID = 'stage1TreeStoreID';
/** Directories are overlays (rkt's name), with what the pod changes in `overlay/ID/upper`. */
export const OVERLAY_MARKER = 'overlay-prepared';
export const OVERLAY = 'overlay';
/** Of an image beside its disk in the store: the same, unpacked. */
export const TREE_ROOTFS = 'rootfs';

/** Relative to the pod directory, as rkt had it. */
export function appRootOf(app: string): string {
  return `${POD_FILES.stage1Rootfs}/opt/stage2/${app}/rootfs`;
}

/** ID of the stage1 image; undefined for pods whose stage1 takes disks. */
export function directoryStage1(podDir: string): string | undefined {
  try {
    return readFileSync(join(podDir, STAGE1_ID), 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** Where programs of the stage1 image are found from outside of the pod's mounts; relative to the pod directory. */
export function stage1RootOf(podDir: string): string {
  const id = existsSync(join(podDir, OVERLAY_MARKER)) ? directoryStage1(podDir) : undefined;
  return id === undefined ? POD_FILES.stage1Rootfs : join('../../../cas/stage1', id, 'rootfs');
}
