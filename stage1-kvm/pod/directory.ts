/** Files of the pod directory, which is where every stage1 entrypoint runs. Formats: docs/pod-directory.md. */
import { ENOENT, O_CREAT, O_TRUNC, O_WRONLY } from '../../runtime/abi.gen.ts';
import { isErrno, SysError } from '../../runtime/linux/errors.ts';
import { close } from '../../runtime/linux/fds.ts';
import { exists, makeDirectory, open, readText, removeFile, rename, symlink, writeFile } from '../../runtime/linux/files.ts';
import { writeJson } from '../../runtime/linux/json-file.ts';
import { UNVERIFIED, type ExitStatus } from '../../src/wire/messages.ts';
import { Stage1Error } from '../error.ts';
import { readStreamSettings, type AppStreamSettings } from '../relay/stream-settings.ts';
import type { ResourceLimits } from '../vmm/size.ts';
import { liveRoot, parseHostVolumes, type HostVolume } from '../volumes/host-volumes.ts';
import { parseAppDisk, parsePodApps, parsePodLimits, type AppDisk, type PodApp } from './pod.ts';

export const KERNEL_PATH = 'stage1/rootfs/kernel';
export const INITRAMFS_PATH = 'stage1/rootfs/initramfs';
export const SCRATCH_PATH = 'scratch.img';
/** Where stage0 has put the state of a new TPM, unless the pod has none. */
export const TPM_STATE_PATH = 'tpm/state';
export const CONSOLE_LOG_PATH = 'console.log';
export const PID_PATH = 'pid';
export const VM_PATH = 'vm.json';

export interface PodAppRoot {
  app: PodApp;
  disk: AppDisk;
  /** The app's image comes from a shared directory instead of its disk. */
  share?: HostVolume;
}

/** What vouches for the app's image. */
export function rootHashOf({ disk, share }: PodAppRoot): string {
  return share === undefined ? disk.rootHashHex : UNVERIFIED;
}

export interface Pod {
  /** As it is on disk. */
  manifest: string;
  apps: PodAppRoot[];
  /** Of the pod as a whole. */
  limits: ResourceLimits;
  volumes: HostVolume[];
  /** In manifest order. */
  streams: AppStreamSettings[];
  hasScratchDisk: boolean;
  hasTpm: boolean;
}

/** @throws Stage1Error naming the file */
export function readPod(): Pod {
  const manifest = readPodFile('pod');
  const apps = parsePodApps(manifest).map((app, index): PodAppRoot => {
    const path = `appsinfo/${app.name}/disk.json`;
    const disk = parseAppDisk(path, readPodFile(path));
    const share = liveRoot(app.name, index);
    return exists(share.source) ? { app, disk, share } : { app, disk };
  });
  return { manifest, apps, limits: parsePodLimits(manifest), volumes: [...apps.flatMap(({ share }) => share ?? []), ...parseHostVolumes(manifest)], streams: readStreamSettings(manifest), hasScratchDisk: exists(SCRATCH_PATH), hasTpm: exists(TPM_STATE_PATH) };
}

/** What stage0 has laid down of an app that joins the running pod. */
export interface AddedApp {
  /** The app as it will stand in the pod manifest, as text. */
  manifest: string;
  app: PodApp;
  disk: AppDisk;
}

/** @throws Stage1Error naming the file */
export function readAddedApp(name: string): AddedApp {
  const path = `appsinfo/${name}/app.json`;
  const manifest = readPodFile(path);
  const [app] = parsePodApps(`{"apps":[${manifest}]}`);
  if (app?.name !== name) throw new Stage1Error(`${path}: name must be "${name}"`);
  const diskPath = `appsinfo/${name}/disk.json`;
  return { manifest, app, disk: parseAppDisk(diskPath, readPodFile(diskPath)) };
}

function readPodFile(path: string): string {
  try {
    return readText(path);
  } catch (error) {
    if (error instanceof SysError) throw new Stage1Error(error.message);
    throw error;
  }
}

/** Opens a file of the pod by a path from one of its descriptions. @throws Stage1Error */
export function openPodFile(path: string, flags: number): number {
  try {
    return open(path, flags);
  } catch (error) {
    if (error instanceof SysError) throw new Stage1Error(error.message);
    throw error;
  }
}

export interface VmRecord {
  accelerator: string;
  machine: string;
  cpus: number;
  memoryMiB: number;
  kernel: string;
  kernelRelease: string | null;
  qemuPid: number;
}

export function writeVmRecord(record: VmRecord): void {
  writeJson(VM_PATH, record);
}

export function readVmRecord(): Partial<VmRecord> | null {
  try {
    return JSON.parse(readText(VM_PATH)) as Partial<VmRecord>;
  } catch {
    return null;
  }
}

export function writePid(pid: number): void {
  replaceFile(PID_PATH, `${pid}\n`);
}

/** Null when the pod was never started. */
export function readPid(): number | null {
  try {
    const pid = Number(readText(PID_PATH).trim());
    return Number.isInteger(pid) && pid > 1 ? pid : null;
  } catch (error) {
    if (isErrno(error, ENOENT)) return null;
    throw error;
  }
}

/** The exit status a shell would report: 128 + N for signal N. */
export function exitCodeOf(status: ExitStatus): number {
  return status.kind === 'code' ? status.code & 0xff : 128 + status.signal;
}

export function recordCreated(apps: readonly string[]): void {
  makeDirectory('status');
  for (const app of apps) touch(`status/${app}-created`);
}

export function recordStarted(app: string): void {
  touch(`status/${app}-started`);
}

export function recordExit(app: string, code: number): void {
  replaceFile(`status/${app}`, `${code}\n`);
}

/** @param killed processes of the app that the guest's kernel has killed for want of memory, since it began */
export function recordOutOfMemory(app: string, killed: number): void {
  makeDirectory('out-of-memory');
  replaceFile(`out-of-memory/${app}`, `${killed}\n`);
}

/** No name of an app has a dot. */
export function recordRestarts(app: string, count: number): void {
  replaceFile(`status/${app}.restarts`, `${count}\n`);
}

/** Of an app that has left the pod. */
export function forgetApp(app: string): void {
  for (const path of [`status/${app}`, `status/${app}-started`, `status/${app}-created`, `status/${app}.restarts`, `out-of-memory/${app}`]) removeFile(path);
}

export function recordReady(): void {
  removeFile('supervisor-status');
  symlink('ready', 'supervisor-status');
}

function touch(path: string): void {
  close(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o644));
}

/** Readers see the old content or the new one. */
function replaceFile(path: string, content: string): void {
  writeFile(`${path}.new`, content);
  rename(`${path}.new`, path);
}

