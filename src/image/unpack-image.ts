/** The files of an image of the store in a directory: with what it depends on, or without. */
import type { Platform } from '../schema/platform.ts';
import { labelValue } from '../schema/appc.ts';
import { goPlatformOfAppc } from '../schema/platform.ts';
import type { Store } from '../store/store.ts';
import { openDisk, ownAciOf } from './image-archive.ts';
import type { OpenedImage } from './image-archive.ts';
import { hostPlatform } from './platform.ts';
import { unpackDisk } from './unpack-disk.ts';
import type { UnpackOptions } from './unpack-disk.ts';

export interface UnpackImageOptions extends UnpackOptions {
  withDependencies: boolean;
  store: Store;
}

/** `directory` must not exist. Throws RktError. */
export async function unpackImage(opened: OpenedImage, directory: string, options: UnpackImageOptions): Promise<void> {
  const { store, withDependencies } = options;
  if (withDependencies || (opened.image.dependencies ?? []).length === 0) return await unpackDisk(opened.disk, directory, options);
  const { renderAci } = await import('./aci.ts');
  const workspace = store.openWorkspace();
  try {
    const { disk } = await renderAci(ownAciOf(opened), { name: opened.image.id, directory: workspace.path, platform: platformOfImage(opened), below: [] });
    const own = openDisk(disk.path);
    try {
      await unpackDisk(own.disk, directory, options);
    } finally {
      own.close();
    }
  } finally {
    workspace.remove();
  }
}

function platformOfImage({ manifest }: OpenedImage): Platform {
  const [os, arch] = [labelValue(manifest.labels, 'os'), labelValue(manifest.labels, 'arch')];
  return (os === undefined || arch === undefined ? undefined : goPlatformOfAppc(os, arch)) ?? hostPlatform();
}
