/**
 * The root directory of the app: what stage0 has laid out, with this host's /dev, /proc and /sys, a /tmp of its own, and volumes,
 * in a mount namespace of its own. Mounts that the host makes appear in it, those made in it stay there.
 *
 * Every source is opened while the host's paths are visible, and put in its place when the app's root is this process's root:
 * symbolic links of the image cannot lead a mount out of it.
 */
import {
  CLONE_NEWNS, MOUNT_ATTR_RDONLY, MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH, MS_NODEV, MS_NOSUID, MS_RDONLY, MS_SLAVE, NR_fchdir, NR_move_mount,
  O_CREAT, O_DIRECTORY, O_PATH, O_RDONLY, O_WRONLY,
} from '../runtime/abi.gen.ts';
import { check, SysError } from '../runtime/linux/errors.ts';
import { close } from '../runtime/linux/fds.ts';
import { changeDirectory, changeMode, changeOwner, changeRoot, exists, fstat, isDirectory, makeDirectories, open, readFile, removeFile, statIfAny, writeFile } from '../runtime/linux/files.ts';
import { attachMount, cloneMount, enterNamespace, mount, remountBind, setMountAttributes, setPropagation, unshareMounts } from '../runtime/linux/mount.ts';
import type { AppRoot } from '../guest-agent/machine/machine.ts';
import { Stage1Error } from '../stage1-kvm/error.ts';
import type { RunOptions } from '../stage1-kvm/options.ts';
import type { VolumeMount } from './volumes.ts';

/** All of the host's, with what is mounted below. */
const HOST_VIEWS = ['/dev', '/proc', '/sys'];
/** Backing of volumes of kind "empty", in the pod directory. */
const SHARED_VOLUMES = 'sharedVolumes';
const FALLBACK_HOSTS = '127.0.0.1 localhost localdomain\n';

export interface RootPlan {
  /** Relative to the pod directory. */
  directory: string;
  volumes: readonly VolumeMount[];
  dns: RunOptions['dns'];
  readOnly: boolean;
}

/** Something that will be mounted, opened. */
interface Source {
  /** In the app. */
  path: string;
  fd: number;
}

export interface FlyRoot extends AppRoot {
  mountNamespaceFd: number;
}

/** This process is in the pod directory and comes back to it. @throws Stage1Error naming what cannot be mounted */
export function buildAppRoot(plan: RootPlan): FlyRoot {
  const home = { namespaceFd: open('/proc/self/ns/mnt', O_RDONLY), directoryFd: open('.', O_RDONLY | O_DIRECTORY) };
  /** Entering a namespace leads to its root directory. */
  const comeBack = (): void => {
    enterNamespace(home.namespaceFd, CLONE_NEWNS);
    check(sys.call(NR_fchdir, home.directoryFd), 'fchdir', home.directoryFd);
  };
  unshareMounts();
  try {
    setPropagation('/', MS_SLAVE);
    const sources = openSources(plan);
    const files = filesToWrite(plan.dns);
    becomeRoot(plan.directory);
    for (const source of sources.views) attach(source);
    attachTmp();
    for (const source of sources.others) attach(source);
    for (const source of sources.files) attachFile(source);
    for (const [path, content] of files) replaceFile(path, content);
    if (plan.dns.hosts === 'default' && !exists('/etc/hosts')) replaceFile('/etc/hosts', FALLBACK_HOSTS);
    if (plan.readOnly) remountBind('/', MS_RDONLY);
    const mountNamespaceFd = open('/proc/self/ns/mnt', O_RDONLY);
    requireRootOfNamespace(mountNamespaceFd);
    return {
      mountNamespaceFd,
      inside(work) {
        enterNamespace(mountNamespaceFd, CLONE_NEWNS);
        try {
          return work();
        } finally {
          comeBack();
        }
      },
    };
  } finally {
    comeBack();
  }
}

function openSources({ volumes, dns }: RootPlan): Record<'views' | 'others' | 'files', Source[]> {
  const views = HOST_VIEWS.map((path) => ({ path, fd: cloneMount(path, { recursive: true }) }));
  const files = [...(dns.resolv === 'host' ? ['/etc/resolv.conf'] : []), ...(dns.hosts === 'host' ? ['/etc/hosts'] : [])].map(openReadOnly);
  return { views, others: volumes.map(openVolume), files };
}

function openVolume({ path, volume, readOnly, recursive }: VolumeMount): Source {
  const source = volume.kind === 'host' ? volume.source : emptyVolume(volume);
  let fd: number;
  try {
    fd = cloneMount(source, { recursive });
  } catch (error) {
    if (error instanceof SysError) throw new Stage1Error(`volume "${volume.name}": ${error.message}`);
    throw error;
  }
  if (readOnly) setMountAttributes(fd, MOUNT_ATTR_RDONLY);
  return { path, fd };
}

function emptyVolume({ name, mode, uid, gid }: { name: string; mode: number; uid: number; gid: number }): string {
  const directory = `${SHARED_VOLUMES}/${name}`;
  for (const path of [SHARED_VOLUMES, directory]) makeDirectories(path);
  changeMode(directory, mode);
  changeOwner(directory, uid, gid);
  return directory;
}

function openReadOnly(path: string): Source {
  const fd = cloneMount(path);
  setMountAttributes(fd, MOUNT_ATTR_RDONLY);
  return { path, fd };
}

/** Files of /etc that stage0 has made, read while they can be. */
function filesToWrite(dns: RunOptions['dns']): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  for (const [kind, name] of [['resolv', 'resolv.conf'], ['hosts', 'hosts']] as const) {
    const path = `rkt-${name}`;
    if (dns[kind] === 'stage0' && exists(path)) files.set(`/etc/${name}`, readFile(path));
  }
  return files;
}

/** Puts the app's root over this namespace's. */
function becomeRoot(directory: string): void {
  const fd = cloneMount(directory, { recursive: true });
  attachMount(fd, '/');
  check(sys.call(NR_fchdir, fd), 'fchdir', fd);
  changeRoot('.');
  changeDirectory('/');
  close(fd);
}

/** Whoever joins the namespace gets its root directory: that must be the app's, and is another one when this process was in a chroot. */
function requireRootOfNamespace(namespaceFd: number): void {
  const own = statIfAny('/');
  enterNamespace(namespaceFd, CLONE_NEWNS);
  const common = statIfAny('/');
  if (own === undefined || common === undefined || own.inode !== common.inode || own.device.major !== common.device.major || own.device.minor !== common.device.minor) {
    throw new Stage1Error('rkt runs in a chroot, from which a pod without a virtual machine would see what is outside of it', 'use another stage1, or enter the directory with pivot_root(8)');
  }
}

function attachTmp(): void {
  makeDirectories('/tmp');
  mount('/tmp', { type: 'tmpfs', source: 'tmpfs', flags: MS_NOSUID | MS_NODEV, data: 'mode=1777' });
}

function attach({ path, fd }: Source): void {
  const sourceIsDirectory = isDirectory(fstat(fd));
  const target = statIfAny(path);
  if (target === undefined) makeTarget(path, sourceIsDirectory);
  else if (isDirectory(target) !== sourceIsDirectory) {
    throw new Stage1Error(`cannot mount on ${path}: it is ${sourceIsDirectory ? 'not ' : ''}a directory, and what would be mounted is${sourceIsDirectory ? '' : ' not'}`);
  }
  // By descriptor: a path would not be followed where it ends in a symbolic link.
  const targetFd = open(path, O_PATH);
  check(sys.call(NR_move_mount, fd, '', targetFd, '', MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH), 'move_mount', path);
  close(targetFd);
  close(fd);
}

/** The image may have a link there that leads nowhere. */
function attachFile(source: Source): void {
  if (!exists(source.path)) replaceFile(source.path, '');
  attach(source);
}

function makeTarget(path: string, asDirectory: boolean): void {
  if (asDirectory) return makeDirectories(path);
  makeDirectories(path.slice(0, path.lastIndexOf('/')) || '/');
  close(open(path, O_WRONLY | O_CREAT, 0o644));
}

/** The image may have a symbolic link there, into a directory that does not exist. */
function replaceFile(path: string, content: string | Uint8Array): void {
  makeDirectories('/etc');
  removeFile(path);
  writeFile(path, content, { mode: 0o644 });
}
