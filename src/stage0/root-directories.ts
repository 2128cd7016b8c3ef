/**
 * Root file systems as directories of this host, for stage1 images that run no virtual machine, where rkt had them:
 * `stage1/rootfs` is the stage1 image's, `stage1/rootfs/opt/stage2/APP/rootfs` an app's. With overlayfs each is shared between pods
 * and the pod has what it changes; it is mounted when the pod starts. Without, each is a copy.
 */
import { cpSync, existsSync, mkdirSync, renameSync, statfsSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { openImage } from '../image/image-archive.ts';
import { unpackImage } from '../image/unpack-image.ts';
import { syncFileSystem } from '../linux/sync.ts';
import { currentPath, POD_FILES } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import type { PodManifest } from '../schema/index.ts';
import type { Stage1Image, Store } from '../store/index.ts';
import { verifyDisk } from '../store/verify-disk.ts';
import { appRootOf, OVERLAY_MARKER, STAGE1_ID, TREE_ROOTFS } from './root-layout.ts';

const DIRECTORY_MODE = 0o755;
const FILE_MODE = 0o640;

/** statfs(2): file systems that overlayfs cannot write to. */
const WITHOUT_OVERLAY: Readonly<Record<number, string>> = { 0x794c7630: 'overlayfs', 0x61756673: 'aufs', 0x2fc12fc1: 'zfs', 0x6969: 'nfs' };

export interface RootDirectoriesRequest {
  store: Store;
  stage1: Stage1Image;
  manifest: PodManifest;
  /** False: a copy for this pod. */
  overlay: boolean;
  log(message: string): void;
  warn(message: string): void;
}

/** The pod is in `prepare`, locked by this process. Throws RktError. */
export async function prepareRootDirectories(pod: PodHandle, request: RootDirectoriesRequest): Promise<void> {
  const { store, stage1, manifest, log, warn } = request;
  const podDir = currentPath(pod);
  const reason = WITHOUT_OVERLAY[statfsSync(podDir).type];
  if (request.overlay && reason !== undefined) warn(`disabling overlay support: "unsupported filesystem: ${reason}"`);
  const overlay = request.overlay && reason === undefined;
  writeFileSync(join(podDir, STAGE1_ID), stage1.id, { mode: FILE_MODE });
  if (overlay) {
    writeFileSync(join(podDir, OVERLAY_MARKER), '', { mode: FILE_MODE });
    mkdirSync(join(podDir, POD_FILES.stage1Rootfs), { mode: DIRECTORY_MODE });
  } else {
    cpSync(stage1.rootfs, join(podDir, POD_FILES.stage1Rootfs), { recursive: true, verbatimSymlinks: true, preserveTimestamps: true });
  }
  for (const app of manifest.apps) {
    const { id } = store.findImage(app.image.id);
    if (overlay) {
      await unpackOnce(store, id, { log, warn });
      continue;
    }
    const target = join(podDir, appRootOf(app.name));
    mkdirSync(dirname(target), { recursive: true, mode: DIRECTORY_MODE });
    await unpackVerified(store, id, { target, warn });
  }
}

/** Beside the disk it comes from, so that it lives as long. */
async function unpackOnce(store: Store, imageID: string, { log, warn }: Pick<RootDirectoriesRequest, 'log' | 'warn'>): Promise<void> {
  const final = join(dirname(store.disk(imageID).path), TREE_ROOTFS);
  if (existsSync(final)) return;
  await store.withImageLock(imageID, async () => {
    if (existsSync(final)) return;
    log(`Unpacking image ${imageID}`);
    const workspace = store.openWorkspace();
    try {
      const target = join(workspace.path, TREE_ROOTFS);
      await unpackVerified(store, imageID, { target, warn });
      // It is never looked at again: what is there under this name is whole, also after a power failure.
      syncFileSystem(target);
      renameSync(target, final);
    } finally {
      workspace.remove();
    }
  });
}

async function unpackVerified(store: Store, imageID: string, { target, warn }: { target: string; warn(message: string): void }): Promise<void> {
  await verifyDisk(store.disk(imageID));
  const opened = openImage(store, store.findImage(imageID));
  try {
    await unpackImage(opened, target, { withDependencies: true, store, asRoot: true, onWarning: warn });
  } finally {
    opened.close();
  }
}
