/** Starts a prepared pod: this process becomes its stage1, keeping pid and lock. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { RktError } from '../error.ts';
import { isErrno } from '../linux/errno.ts';
import { replaceProcess } from '../linux/execute.ts';
import { currentPath, movePod, pathInPod, POD_FILES, readPodManifest, syncMoves } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import { parseImageManifest } from '../schema/index.ts';
import type { ImageManifest } from '../schema/index.ts';
import { streamModes } from '../wire/stream-modes.ts';
import { entrypointPath, interfaceVersion } from './entrypoint.ts';
import { resolveKernel } from './kernel.ts';
import { registerMachine } from './machined.ts';
import { connectPod } from './pod-network.ts';
import type { NetworkRequest } from './pod-network.ts';
import { isMutable } from './mutable-annotation.ts';
import type { MachineOptions } from './prepare.ts';
import { directoryStage1 } from './root-layout.ts';
import { readsTokenFile, rootfsKind } from './stage1-abilities.ts';

export interface RunRequest extends NetworkRequest {
  interactive: boolean;
  localConfigDir: string;
  ipc?: 'auto' | 'private' | 'parent';
  /** Protections that are off. */
  insecure: { capabilities: boolean; paths: boolean; seccomp: boolean } & Readonly<Record<string, boolean>>;
  /** Replaces, field by field, what `prepare` has kept. */
  machine: MachineOptions;
  /** How the output of apps is kept; what is undefined is the stage1's choice. */
  logs: { driver?: string | undefined; sizeMaxBytes?: number | undefined; filesMax?: number | undefined; journal?: string | undefined };
  timing: boolean;
  /** Flags of this command line that are kept in the pod directory for whoever wants to start such a pod again. */
  startFlags: readonly string[];
  /** Make the pod known to the metadata service. */
  mdsRegister: boolean;
  debug: boolean;
  /** CLOCK_MONOTONIC nanoseconds when `rkt` was started. */
  startNs: bigint;
  /** What stage1 gets as its environment. */
  env: Record<string, string>;
}

/**
 * Moves the pod to `run` and becomes its stage1; does not return. The pod is in `prepare` or `prepared`, exclusively
 * locked by this process. What can fail is tried before the move, so that a pod that cannot start is not marked as run.
 */
export async function runPod(pod: PodHandle, request: RunRequest): Promise<never> {
  const manifest = readPodManifest(pod);
  const mutable = isMutable(manifest);
  if (mutable && manifest.apps.length > 0) throw new RktError('UNSUPPORTED', 'a mutable pod begins without apps: make it with `rkt app sandbox`, then add them');
  if (request.interactive && manifest.apps.length !== 1) throw new RktError('USAGE', 'interactive option only supports pods with one app');
  if (request.interactive && manifest.apps.some(({ annotations }) => streamModes(annotations).stdin !== 'null')) throw new RktError('USAGE', '--interactive excludes --stdin: the input of an app is that of this process, or of attached clients');
  request.log('Setting up stage1');
  const stage1 = readStage1Manifest(pod);
  const entrypoint = entrypointPath(currentPath(pod), stage1, 'run');
  const machine = machineOf(pod, request);
  if (request.interactive && machine.sealed === true) throw new RktError('USAGE', 'a sealed pod takes no input: --sealed excludes --interactive');
  const args = await stage1Arguments(pod, request, { stage1, machine, mutable });
  if (request.mdsRegister) args.push(...await registerWithMetadata(pod, stage1, request));
  const network = await connectPod(pod, request, { manifest, stage1, cpus: machine.cpus });
  const argv = [entrypoint, ...args, ...network.args, pod.uuid];

  if (directoryStage1(currentPath(pod)) !== undefined) {
    const { mountRootDirectories } = await import('./root-mounts.ts');
    mountRootDirectories(pod, manifest);
  }

  if (machine.tpm === 'host') {
    const { measureIntoHostTpm } = await import('./host-tpm.ts');
    await measureIntoHostTpm({ dataDir: pod.dataDir, uuid: pod.uuid, manifest: readFileSync(pathInPod(pod, POD_FILES.manifest), 'utf8') });
  }

  if (request.startFlags.length > 0) writeFileSync(pathInPod(pod, POD_FILES.startFlags), `${JSON.stringify(request.startFlags)}\n`, { mode: FILE_MODE });
  movePod(pod, 'run');
  await syncMoves(pod);
  const podDir = currentPath(pod);
  request.log(`Wrote filesystem to ${podDir}`);
  request.log(`Pivoting to filesystem ${podDir}`);
  if (process.geteuid?.() === 0) registerMachine({ uuid: pod.uuid, class: rootfsKind(stage1) === 'disk' ? 'vm' : 'container', leaderPid: process.pid, rootDirectory: join(podDir, POD_FILES.stage1Rootfs), log: request.log });
  process.chdir(podDir);
  request.log(`Execing ${entrypoint}`);
  return replaceProcess({
    path: entrypoint,
    argv,
    env: { ...request.env, RKT_LOCK_FD: String(pod.fd), RKT_START_NS: String(request.startNs) },
    inherit: [pod.fd, ...network.inherit],
  });
}

async function registerWithMetadata(pod: PodHandle, stage1: ImageManifest, request: RunRequest): Promise<string[]> {
  const { registerPod, registrationSocket } = await import('../metadata/index.ts');
  const apps = readPodManifest(pod).apps.map(({ name }) => name);
  const token = await registerPod(pod, { socket: registrationSocket(process.env), apps, log: request.log });
  return readsTokenFile(stage1) ? [] : [`--mds-token=${token}`];
}

const FILE_MODE = 0o640;

/** What `prepare` has kept, and what this start says. */
export function machineOf(pod: PodHandle, request: Pick<RunRequest, 'machine'>): MachineOptions {
  return { ...readMachineOptions(pod), ...request.machine };
}

/** All flags of `run` but those about networks. */
export async function stage1Arguments(pod: PodHandle, request: RunRequest, { stage1, machine, mutable }: { stage1: ImageManifest; machine: MachineOptions; mutable: boolean }): Promise<string[]> {
  return [...runArguments(request, interfaceVersion(stage1)), ...(mutable ? ['--mutable'] : []), ...(rootfsKind(stage1) === 'disk' ? await machineArguments(pod, machine, request) : []), ...logArguments(request)];
}

function logArguments({ logs: { driver, sizeMaxBytes, filesMax, journal } }: RunRequest): string[] {
  const given = Object.entries({ 'log-driver': driver, 'log-size-max': sizeMaxBytes, 'log-files-max': filesMax, 'log-journal': journal });
  return given.flatMap(([name, value]) => (value === undefined ? [] : [`--${name}=${value}`]));
}

/** Flags of rkt's stage1 interface, as far as the stage1 knows them. */
function runArguments(request: RunRequest, version: number): string[] {
  const args: string[] = [];
  if (request.debug) args.push('--debug');
  args.push(`--net=${request.networks.map(({ name, args: given }) => (given === undefined ? name : `${name}:${given}`)).join(',')}`);
  if (request.interactive) args.push('--interactive');
  args.push(`--local-config=${request.localConfigDir}`);
  if (version >= 2 && request.hostname !== undefined) args.push(`--hostname=${request.hostname}`);
  if (version >= 3) {
    if (request.insecure.capabilities) args.push('--disable-capabilities-restriction');
    if (request.insecure.paths) args.push('--disable-paths');
    if (request.insecure.seccomp) args.push('--disable-seccomp');
  }
  if (version >= 4) args.push(`--dns-conf-mode=resolv=${request.names.resolv},hosts=${request.names.hosts}`);
  if (version >= 6 && request.ipc !== undefined) args.push(`--ipc=${request.ipc}`);
  return args;
}

export const SEALED_LIVE_ROOTS = 'this host could change what runs in the pod: --sealed excludes --rootfs=virtiofs';

/** The others are over when the pod starts; they are passed on to be measured. */
const GUEST_PROTECTIONS: readonly string[] = ['capabilities', 'paths', 'seccomp'];

/** Flags of our own stage1; only what was asked for, so that others can be used as long as nothing is. */
export async function machineArguments(pod: PodHandle, machine: MachineOptions, request: Pick<RunRequest, 'insecure' | 'timing'>): Promise<string[]> {
  const args: string[] = [];
  if (machine.accelerator !== undefined) args.push(`--accel=${machine.accelerator}`);
  if (machine.kernel !== undefined) {
    const { kernelPath, initramfsPath } = await resolveKernel(machine.kernel, { dataDir: pod.dataDir, stage1Rootfs: join(currentPath(pod), POD_FILES.stage1Rootfs) });
    args.push(`--kernel=${kernelPath}`);
    if (initramfsPath !== undefined) args.push(`--initramfs=${initramfsPath}`);
  }
  if (machine.memoryMib !== undefined) args.push(`--memory-mib=${machine.memoryMib}`);
  if (machine.cpus !== undefined) args.push(`--cpus=${machine.cpus}`);
  if (machine.giveBackMemory === true) args.push('--give-back-memory');
  if (machine.sealed === true) args.push('--sealed');
  if (machine.sealed === true && machine.rootfs === 'virtiofs') throw new RktError('USAGE', SEALED_LIVE_ROOTS);
  const onHost = Object.entries(request.insecure).flatMap(([name, isOff]) => (isOff && !GUEST_PROTECTIONS.includes(name) ? [name] : []));
  if (machine.rootfs === 'virtiofs') onHost.push('rootfs');
  if (onHost.length > 0) args.push(`--insecure-on-host=${onHost.join(',')}`);
  if (request.timing) args.push('--timing');
  return args;
}

export function readStage1Manifest(pod: PodHandle): ImageManifest {
  return parseImageManifest(readFileSync(pathInPod(pod, POD_FILES.stage1Manifest), 'utf8'), `${currentPath(pod)}/${POD_FILES.stage1Manifest}`);
}

export function readMachineOptions(pod: PodHandle): MachineOptions {
  try {
    return JSON.parse(readFileSync(pathInPod(pod, POD_FILES.stage1Options), 'utf8')) as MachineOptions;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return {};
    throw new RktError('IO', `cannot read ${currentPath(pod)}/${POD_FILES.stage1Options}`, { cause: error });
  }
}
