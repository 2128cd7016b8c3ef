/**
 * The file system of one app: overlay over its verity disk, a /dev of its own, /proc and /sys with what rkt hides hidden, its
 * volumes, and the files of /etc that a pod decides; all in a mount namespace that holds nothing else.
 *
 * Two phases. In the first the agent's own paths are visible, and only paths that the agent itself has made are used. In the
 * second the app's root is this process's root, so that symbolic links of the image cannot lead anywhere else.
 *
 * No mount an app can write to honours device nodes: CAP_MKNOD, which apps have by default, opens nothing.
 */
import { CLONE_NEWNS, MNT_DETACH, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, O_CREAT, O_EXCL, O_RDONLY, O_WRONLY } from '../../runtime/abi.gen.ts';
import { close } from '../../runtime/linux/fds.ts';
import { changeDirectory, changeMode, changeOwner, changeRoot, exists, lstat, makeDirectories, makeDirectory, open, removeFile, symlink, writeFile } from '../../runtime/linux/files.ts';
import { attachMount, bind, cloneMount, enterNamespace, mount, moveMount, remountBind, unmount, unshareMounts } from '../../runtime/linux/mount.ts';
import type { HostShare } from '../../src/wire/messages.ts';
import type { AppManifest } from '../app/manifest.ts';
import { AGENT, ATTEST, NEW_ROOT } from './layout.ts';
import type { AppRoot } from './machine.ts';
import { makeProvidedLayer, type ProvidedFiles } from './provided-layer.ts';
import { TEMPLATE_PROC, TEMPLATE_SYS } from './template.ts';
import { mountVolumes, openVolumes, type OpenVolume } from './volume-mounts.ts';
import type { PlannedMount } from './volumes.ts';

/** Devices every app has, as rkt's prepare-app made them; the last exists only in kernels with TUN. */
const DEVICES = ['null', 'zero', 'full', 'random', 'urandom', 'tty'];
const DEVICE_LINKS: readonly [string, string][] = [
  ['fd', '/proc/self/fd'], ['stdin', '/proc/self/fd/0'], ['stdout', '/proc/self/fd/1'], ['stderr', '/proc/self/fd/2'], ['ptmx', 'pts/ptmx'],
];
const SHARED_DEVICE_MOUNTS = ['pts', 'shm', 'mqueue'];
const DEV_OPTIONS = 'mode=755,size=1m';
/** Detached by name in the app's namespace; the app's own replace them. */
const AGENT_MOUNTS = ['/proc', '/sys', '/dev'];

export interface AppRootPlan {
  app: AppManifest;
  /** Directory for what the app writes: see makeLayer. */
  layer: string;
  /** Directory for what the pod provides: see makeProvidedLayer. */
  providedLayer: string;
  /** Where the app's read-only file system is mounted. */
  lower: string;
  /** False leaves /proc and /sys as the kernel shows them. */
  protectPaths: boolean;
  mounts: readonly PlannedMount[];
  shares: readonly HostShare[];
  etc: ProvidedFiles;
  /** Whether the pod can be asked for quotes. */
  hasAttestation: boolean;
  terminalPath: string | undefined;
}

/** `initialNamespaceFd` is the namespace to come back to. */
export function buildAppRoot(plan: AppRootPlan, initialNamespaceFd: number): AppRoot {
  const late = makeProvidedLayer(plan.providedLayer, { lower: plan.lower, files: plan.etc, wantsRunRkt: plan.hasAttestation });
  unshareMounts();
  try {
    mountOverlay(plan);
    makeBase(plan);
    const volumes = openVolumes(plan.mounts, plan.shares);
    const attestFd = plan.hasAttestation ? cloneMount(ATTEST) : undefined;
    becomeRoot();
    finishInside(plan, late.files, volumes);
    if (attestFd !== undefined) showAttestation(attestFd, late.hasRunRkt);
    const mountNamespaceFd = open('/proc/self/ns/mnt', O_RDONLY);
    return { mountNamespaceFd, inside: (work) => inNamespace(mountNamespaceFd, initialNamespaceFd, work) };
  } finally {
    enterNamespace(initialNamespaceFd, CLONE_NEWNS);
  }
}

function inNamespace<T>(namespaceFd: number, backFd: number, work: () => T): T {
  enterNamespace(namespaceFd, CLONE_NEWNS);
  try {
    return work();
  } finally {
    enterNamespace(backFd, CLONE_NEWNS);
  }
}

/** The two directories overlayfs needs. */
export function makeLayer(layer: string): void {
  for (const directory of [`${layer}/upper`, `${layer}/work`]) makeDirectories(directory);
}

function mountOverlay({ layer, providedLayer, lower }: AppRootPlan): void {
  makeLayer(layer);
  // The upper directory's owner and mode become those of the app's root.
  const root = lstat(lower);
  changeMode(`${layer}/upper`, root.mode & 0o7777);
  changeOwner(`${layer}/upper`, root.uid, root.gid);
  mount(NEW_ROOT, { type: 'overlay', source: 'overlay', flags: MS_NODEV, data: `lowerdir=${providedLayer}:${lower},upperdir=${layer}/upper,workdir=${layer}/work` });
}

/** Mounts directly below the root, on directories that the image or the layer above it has: never on a link. */
function makeBase({ protectPaths, terminalPath }: AppRootPlan): void {
  if (protectPaths) {
    attachCopy(TEMPLATE_PROC, `${NEW_ROOT}/proc`);
    attachCopy(TEMPLATE_SYS, `${NEW_ROOT}/sys`);
  } else {
    for (const [type, name] of [['proc', 'proc'], ['sysfs', 'sys']] as const) {
      mount(`${NEW_ROOT}/${name}`, { type, source: type, flags: MS_NOSUID | MS_NODEV | MS_NOEXEC });
    }
  }
  makeDevices(`${NEW_ROOT}/dev`, terminalPath);
}

function attachCopy(source: string, target: string): void {
  const fd = cloneMount(source, { recursive: true });
  attachMount(fd, target);
  close(fd);
}

function makeDevices(dev: string, terminalPath: string | undefined): void {
  mount(dev, { type: 'tmpfs', source: 'tmpfs', flags: MS_NOSUID | MS_NODEV, data: DEV_OPTIONS });
  for (const name of DEVICES) bindFile(`/dev/${name}`, `${dev}/${name}`);
  if (exists('/dev/net/tun')) {
    makeDirectory(`${dev}/net`);
    bindFile('/dev/net/tun', `${dev}/net/tun`);
  }
  if (terminalPath !== undefined) bindFile(terminalPath, `${dev}/console`);
  for (const name of SHARED_DEVICE_MOUNTS) {
    if (!exists(`/dev/${name}`)) continue;
    makeDirectory(`${dev}/${name}`);
    bind(`/dev/${name}`, `${dev}/${name}`);
  }
  for (const [name, target] of DEVICE_LINKS) symlink(target, `${dev}/${name}`);
}

function bindFile(source: string, target: string): void {
  close(open(target, O_WRONLY | O_CREAT | O_EXCL, 0o666));
  bind(source, target);
}

/**
 * Puts the new root over the old one, as switch_root does (the kernel's first root cannot be pivoted away), after everything else
 * has been taken out of this namespace.
 */
function becomeRoot(): void {
  const stage = '/root';
  makeDirectory(stage, 0o700);
  moveMount(NEW_ROOT, stage);
  for (const path of [AGENT, ...AGENT_MOUNTS]) unmount(path, MNT_DETACH);
  changeDirectory(stage);
  moveMount('.', '/');
  changeRoot('.');
  changeDirectory('/');
}

function finishInside({ app }: AppRootPlan, { files, fallbackFiles }: ProvidedFiles, volumes: readonly OpenVolume[]): void {
  for (const [name, content] of files) replaceFile(`/etc/${name}`, content);
  for (const [name, content] of fallbackFiles) if (!exists(`/etc/${name}`)) replaceFile(`/etc/${name}`, content);
  mountVolumes(volumes);
  if (app.readOnlyRoot) remountBind('/', MS_RDONLY | MS_NODEV);
}

/** Read-only: no app can take the socket away from another. */
function showAttestation(fd: number, hasRunRkt: boolean): void {
  if (!hasRunRkt) makeDirectories('/run/rkt');
  attachMount(fd, '/run/rkt');
  close(fd);
  remountBind('/run/rkt', MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC);
}

/** The image may have a symbolic link there, into a directory that does not exist. */
function replaceFile(path: string, content: string): void {
  removeFile(path);
  writeFile(path, content, { mode: 0o644 });
}
