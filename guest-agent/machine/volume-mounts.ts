/**
 * From planned mounts to mounted volumes, in the two phases of an app's root (app-root.ts): opened while the agent's own paths are
 * visible, mounted when the app's root is this process's root and links of the image lead nowhere else.
 */
import {
  ELOOP, MNT_DETACH, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, MS_NODEV, MS_NOSUID, O_CREAT, O_EXCL, O_NOFOLLOW, O_PATH, O_WRONLY, S_IFLNK, S_IFMT,
} from '../../runtime/abi.gen.ts';
import { SysError } from '../../runtime/linux/errors.ts';
import { close } from '../../runtime/linux/fds.ts';
import { changeMode, changeOwner, exists, fstat, isDirectory, makeDirectories, makeDirectory, open, readDirectory, readLink, statIfAny } from '../../runtime/linux/files.ts';
import { attachMountAt, cloneMount, cloneMountOf, mount, setMountAttributes, unmount } from '../../runtime/linux/mount.ts';
import type { HostShare } from '../../src/wire/messages.ts';
import type { EmptyVolume } from '../app/manifest.ts';
import { copyAttributes, copyContent } from './copy-tree.ts';
import { SCRATCH, SHARES } from './layout.ts';
import type { PlannedMount } from './volumes.ts';

/** What the kernel shows of itself: a volume there could make an app see what is not so. */
const KERNEL_VIEWS = ['/proc', '/sys'];
const LINKS_MAX = 40;
/** Name of a volume that is a single file, in its share: src/wire/messages.ts. */
const SHARED_FILE = 'file';
/** Of a volume for which nobody has said anything else. */
const DEFAULT_MODE = 0o755;

export interface OpenVolume {
  planned: PlannedMount;
  /** A detached mount of the volume; undefined for a place of the app's own root. */
  fd: number | undefined;
}

/** In the agent's own namespace: what apps share is mounted once. Throws when the host does not share what the manifest names. */
export function mountShares(mounts: readonly PlannedMount[], shares: readonly HostShare[]): void {
  for (const planned of mounts) {
    if (planned.volume?.kind !== 'host') continue;
    const { tag } = shareOf(planned, shares);
    const directory = `${SHARES}/${tag}`;
    if (exists(directory)) continue;
    makeDirectories(directory);
    mount(directory, { type: 'virtiofs', source: tag, flags: MS_NOSUID | MS_NODEV });
  }
}

/** Writes back what is still to be written. */
export function unmountShares(): void {
  if (!exists(SHARES)) return;
  for (const { name } of readDirectory(SHARES)) {
    try {
      unmount(`${SHARES}/${name}`);
    } catch {
      unmount(`${SHARES}/${name}`, MNT_DETACH); // somebody holds it still, or it was never mounted
    }
  }
}

export function openVolumes(mounts: readonly PlannedMount[], shares: readonly HostShare[]): OpenVolume[] {
  return mounts.map((planned) => ({ planned, fd: openVolume(planned, shares) }));
}

function openVolume(planned: PlannedMount, shares: readonly HostShare[]): number | undefined {
  const { volume } = planned;
  if (volume === undefined) return undefined;
  if (volume.kind === 'empty') return cloneMount(emptyVolumeDirectory(volume));
  const { tag, kind } = shareOf(planned, shares);
  return cloneMount(kind === 'file' ? `${SHARES}/${tag}/${SHARED_FILE}` : `${SHARES}/${tag}`);
}

function shareOf({ volume, owner }: PlannedMount, shares: readonly HostShare[]): HostShare {
  const share = shares.find((candidate) => candidate.volume === volume?.name && candidate.app === owner);
  if (share === undefined) throw new Error(`the host does not share volume "${volume?.name}"`);
  return share;
}

/** Made when it is first used. Its name is what apps share, also those that bring the volume with a mount of their own. */
function emptyVolumeDirectory({ name, mode, uid, gid }: EmptyVolume): string {
  const directory = `${SCRATCH}/volumes/${name}`;
  if (exists(directory)) return directory;
  makeDirectories(directory);
  changeMode(directory, mode);
  changeOwner(directory, uid, gid);
  return directory;
}

/** In the order given, outer before inner. Throws naming the target. */
export function mountVolumes(volumes: readonly OpenVolume[]): void {
  for (const volume of volumes) {
    try {
      mountVolume(volume);
    } catch (error) {
      throw new Error(`mount target ${volume.planned.path}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}

function mountVolume({ planned, fd: opened }: OpenVolume): void {
  const isFile = opened !== undefined && !isDirectory(fstat(opened));
  const targetFd = openTarget(planned.path, isFile);
  try {
    const target = `/proc/self/fd/${targetFd}`;
    const place = readLink(target);
    if (place === '/' || KERNEL_VIEWS.some((view) => `${place}/`.startsWith(`${view}/`))) throw new Error(`leads to ${place}, where nothing can be mounted`);
    if (isDirectory(fstat(targetFd)) === isFile) throw new Error(isFile ? 'is a directory, and the volume is a file' : 'is a file, and the volume is a directory');
    // A place of the app's own root stays writable when the root around it becomes read-only.
    const fd = opened ?? cloneMountOf(targetFd, { recursive: true });
    if (planned.takesContent) takeContent(planned, target, `/proc/self/fd/${fd}`);
    setMountAttributes(fd, (planned.readOnly ? MOUNT_ATTR_RDONLY : 0) | (planned.volume?.kind === 'host' ? MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV : 0));
    attachMountAt(fd, targetFd);
    close(fd);
  } finally {
    close(targetFd);
  }
}

/** As Docker does it: the first one who mounts a volume over a directory of its image fills the volume. */
function takeContent({ volume }: PlannedMount, from: string, to: string): void {
  if (volume?.kind !== 'empty' || readDirectory(to).length > 0) return;
  if (volume.mode === DEFAULT_MODE && volume.uid === 0 && volume.gid === 0) copyAttributes(from, to);
  copyContent(from, to);
}

/**
 * A descriptor of the place at the end of all links; what is missing on the way is made, as rkt did it. They are the image's
 * links, or those of a volume that is mounted already: they cannot lead out of this process's root.
 */
function openTarget(path: string, isFile: boolean): number {
  let real = '';
  let links = 0;
  const left = path.split('/').reverse();
  for (let name = left.pop(); name !== undefined; name = left.pop()) {
    if (name === '' || name === '.') continue;
    if (name === '..') {
      real = real.slice(0, Math.max(0, real.lastIndexOf('/')));
      continue;
    }
    const next = `${real}/${name}`;
    const status = statIfAny(next, { followLinks: false });
    if (status !== undefined && (status.mode & S_IFMT) === S_IFLNK) {
      links++;
      if (links > LINKS_MAX) throw new SysError(next, ELOOP);
      const target = readLink(next);
      if (target.startsWith('/')) real = '';
      left.push(...target.split('/').reverse());
      continue;
    }
    if (status === undefined) {
      if (isFile && left.length === 0) close(open(next, O_WRONLY | O_CREAT | O_EXCL, 0o644));
      else makeDirectory(next);
    }
    real = next;
  }
  return open(real === '' ? '/' : real, O_PATH | O_NOFOLLOW);
}
