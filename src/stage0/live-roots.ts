/**
 * `--rootfs=virtiofs`: the content of each app's image as a directory of this host, which its guest reads instead of a verified
 * disk. Whoever can write to it changes what runs: the pod's event log says so.
 */
import { join } from 'node:path';
import { openImage } from '../image/image-archive.ts';
import { unpackImage } from '../image/unpack-image.ts';
import { currentPath, POD_FILES } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import type { PodManifest } from '../schema/index.ts';
import type { Store } from '../store/index.ts';

export interface LiveRootsRequest {
  store: Store;
  manifest: PodManifest;
  warn(message: string): void;
}

/** The pod is in `prepare`, locked by this process. Throws RktError. */
export async function makeLiveRoots(pod: PodHandle, { store, manifest, warn }: LiveRootsRequest): Promise<void> {
  for (const app of manifest.apps) {
    const opened = openImage(store, store.findImage(app.image.id));
    try {
      const directory = join(currentPath(pod), POD_FILES.apps, app.name, POD_FILES.appLiveRoot);
      await unpackImage(opened, directory, { withDependencies: true, store, asRoot: process.geteuid?.() === 0, onWarning: warn });
    } finally {
      opened.close();
    }
  }
}
