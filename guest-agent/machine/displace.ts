/** Takes away what `place` has made for an app, in the reverse order; what is not there was never made. */
import { EBUSY, ENOENT } from '../../runtime/abi.gen.ts';
import { isErrno } from '../../runtime/linux/errors.ts';
import { close } from '../../runtime/linux/fds.ts';
import { exists, readText, removeDirectory, writeControlFile } from '../../runtime/linux/files.ts';
import { unmount } from '../../runtime/linux/mount.ts';
import { monotonicMs } from '../../runtime/linux/time.ts';
import { sleep } from '../../runtime/loop.ts';
import { ejectBlockDevice } from './block-devices.ts';
import { removeTree } from './remove-tree.ts';
import { removeVerityDevice } from './verity.ts';

/** For killed processes to be gone, and with them what they had mounted. */
const RELEASE_TIMEOUT_MS = 10_000;
const POLL_MS = 5;

export interface PlaceParts {
  /** Of the app's mount namespace and cgroup. */
  openFds: readonly number[];
  /** Its directory. */
  cgroup: string;
  directories: readonly string[];
  /** Null: in use by another app. */
  disk: { serial: string; mountPoint: string | undefined } | null;
}

/** @throws SysError when something does not let go in time; it can be tried again */
export async function removePlace({ openFds, cgroup, directories, disk }: PlaceParts): Promise<void> {
  await removeCgroup(cgroup);
  for (const fd of openFds) close(fd);
  if (disk?.mountPoint !== undefined) {
    const { mountPoint } = disk;
    await onceReleased(() => unmount(mountPoint));
    removeDirectory(mountPoint);
  }
  if (disk !== null) {
    await onceReleased(() => removeVerityDevice(disk.serial));
    ejectBlockDevice(disk.serial);
  }
  for (const directory of directories) await removeTree(directory);
}

/** Processes of `enter` may be in it. */
async function removeCgroup(directory: string): Promise<void> {
  if (!exists(directory)) return;
  writeControlFile(`${directory}/cgroup.kill`, '1');
  const deadline = monotonicMs() + RELEASE_TIMEOUT_MS;
  while (readText(`${directory}/cgroup.events`).includes('populated 1') && monotonicMs() < deadline) await sleep(POLL_MS);
  await onceReleased(() => removeDirectory(directory));
}

async function onceReleased(work: () => void): Promise<void> {
  const deadline = monotonicMs() + RELEASE_TIMEOUT_MS;
  for (;;) {
    try {
      return work();
    } catch (error) {
      if (isErrno(error, ENOENT)) return;
      if (!isErrno(error, EBUSY) || monotonicMs() > deadline) throw error;
    }
    await sleep(POLL_MS);
  }
}
