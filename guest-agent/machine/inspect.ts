/**
 * The files of an app whose pod has ended: its image below what it wrote, everything read-only. What the pod provided besides
 * (mount points, files of /etc) is left out, and so is what was mounted.
 */
import { MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, O_DIRECTORY, O_PATH } from '../../runtime/abi.gen.ts';
import { isDirectory, makeDirectory, open, statIfAny } from '../../runtime/linux/files.ts';
import { mount } from '../../runtime/linux/mount.ts';
import type { InspectMessage } from '../messages.ts';
import { findBlockDevice } from './block-devices.ts';
import { appLayer, DISKS, NEW_ROOT, SCRATCH } from './layout.ts';
import { openVerity } from './verity.ts';

const FLAGS = MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOEXEC;

export async function openInspected({ disk, written }: InspectMessage): Promise<number> {
  const lower = `${DISKS}/inspected`;
  makeDirectory(lower);
  mount(lower, { type: 'erofs', source: openVerity(await findBlockDevice(disk.serial), disk), flags: FLAGS });
  const upper = written === null ? undefined : await openWritten(written);
  if (upper !== undefined) mount(NEW_ROOT, { type: 'overlay', source: 'overlay', flags: FLAGS, data: `lowerdir=${upper}:${lower}` });
  return open(upper === undefined ? lower : NEW_ROOT, O_PATH | O_DIRECTORY);
}

/** Undefined: the app had not been started. */
async function openWritten({ serial, layer }: NonNullable<InspectMessage['written']>): Promise<string | undefined> {
  mount(SCRATCH, { type: 'ext4', source: await findBlockDevice(serial), flags: FLAGS });
  const upper = `${appLayer(layer - 1)}/upper`;
  const status = statIfAny(upper, { followLinks: false });
  return status !== undefined && isDirectory(status) ? upper : undefined;
}
