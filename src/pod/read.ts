/** What a pod directory says about the pod, for `list`, `status`, `enter` and others. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { RktError } from '../error.ts';
import { isErrno } from '../linux/errno.ts';
import { labelValue, parseImageManifest, parsePodManifest } from '../schema/index.ts';
import type { ImageManifest, PodManifest, RuntimeApp, Volume } from '../schema/index.ts';
import { currentPath, pathInPod } from './handle.ts';
import type { PodHandle } from './handle.ts';
import { POD_FILES } from './layout.ts';
import { hasEnded } from './state.ts';
import type { PodState } from './state.ts';

/** One entry of net-info.json. */
export interface PodNetwork {
  netName: string;
  netConf?: string;
  pluginPath?: string;
  ifName?: string;
  ip?: string;
  args?: string;
  mask?: string;
  /** rkt had none. */
  ip6?: string;
}

export type AppState = 'created' | 'running' | 'exited' | 'unknown';

export interface AppDetails {
  name: string;
  state: AppState;
  imageID: string;
  /** Name and version of the image as `list` shows them, `coreos.com/etcd:v3.1.7`. */
  imageName: string;
  createdNs?: bigint;
  startedNs?: bigint;
  finishedNs?: bigint;
  exitCode?: number;
  /** Processes killed for want of memory; absent: none. */
  memoryKills?: number;
  /** How often it was started again; absent when never. */
  restarts?: number;
  mounts: { hostPath: string; containerPath: string; readOnly: boolean }[];
  userAnnotations?: Record<string, string>;
  userLabels?: Record<string, string>;
}

export interface PodDetails {
  uuid: string;
  state: PodState;
  createdNs?: bigint;
  startedNs?: bigint;
  /** Of the monitor. Absent when stage1 has not (or never) come that far. */
  pid?: number;
  networks: PodNetwork[];
  manifest?: PodManifest;
  apps: AppDetails[];
  /** Why the manifest or something below it could not be read. */
  problems: RktError[];
}

export function readPodDetails(pod: PodHandle): PodDetails {
  const problems: RktError[] = [];
  const manifest = attempt(problems, () => readPodManifest(pod));
  const details: PodDetails = { uuid: pod.uuid, state: pod.state, networks: attempt(problems, () => readNetworks(pod)) ?? [], apps: [], problems };
  assignDefined(details, { manifest, createdNs: modifiedNs(pod, POD_FILES.created), startedNs: modifiedNs(pod, POD_FILES.pid) ?? modifiedNs(pod, POD_FILES.parentPid), pid: readPid(pod) });
  for (const app of manifest?.apps ?? []) {
    const read = attempt(problems, () => readApp(pod, app, manifest?.volumes ?? []));
    if (read !== undefined) details.apps.push(read);
  }
  return details;
}

/** The manifest while the pod has one: not in `embryo`, and not before `prepare` has written it. */
export function readPodManifest(pod: PodHandle): PodManifest {
  const path = pathInPod(pod, POD_FILES.manifest);
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new RktError('NOT_FOUND', `unable to read pod manifest of ${pod.uuid}`, { cause: movedCause(pod, cause) });
  }
  return parsePodManifest(text, `${currentPath(pod)}/${POD_FILES.manifest}`);
}

/** The text of the manifest as it was written. */
export function readPodManifestText(pod: PodHandle): string {
  return readFileSync(pathInPod(pod, POD_FILES.manifest), 'utf8');
}

/** Process ID of what stage1 runs the pod with, or undefined while it has not written one. */
export function readPid(pod: PodHandle): number | undefined {
  return readProcessId(pod, POD_FILES.pid) ?? readProcessId(pod, POD_FILES.parentPid);
}

/**
 * Process ID for stage1's `enter`: what it has written as `pid`, or the only child of what it has written as `ppid` (rkt's stage1
 * interface). Undefined while there is none. Throws RktError STATE for more than one.
 */
export function readContainerPid(pod: PodHandle): number | undefined {
  const parent = readProcessId(pod, POD_FILES.parentPid);
  if (readProcessId(pod, POD_FILES.pid) !== undefined || parent === undefined) return readPid(pod);
  let children: string[];
  try {
    children = readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8').split(' ').filter((text) => text.trim() !== '');
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
  if (children.length > 1) throw new RktError('STATE', `pod "${pod.uuid}": process ${parent} should have one child and has ${children.length}`);
  return children[0] === undefined ? undefined : Number(children[0]);
}

function readProcessId(pod: PodHandle, name: string): number | undefined {
  const text = readOptional(pod, name)?.trim();
  return text !== undefined && /^[1-9]\d{0,9}$/.test(text) ? Number(text) : undefined;
}

/** Exit codes of the apps that have ended, by name, in the order of the names. */
export function readExitCodes(pod: PodHandle): Map<string, number> {
  const codes = new Map<string, number>();
  let names: string[];
  try {
    // What is not an app's own file has a dot or is empty.
    names = readdirSync(pathInPod(pod, POD_FILES.status)).filter((name) => !name.includes('.')).sort();
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return codes;
    throw error;
  }
  for (const name of names) {
    const code = readExitCode(pod, name);
    if (code !== undefined) codes.set(name, code);
  }
  return codes;
}

/** Whether stage1 has reported that every app was started. */
export function isReady(pod: PodHandle): boolean {
  return readOptionalLinkOrFile(pod, POD_FILES.supervisorStatus);
}

function readApp(pod: PodHandle, app: RuntimeApp, volumes: readonly Volume[]): AppDetails {
  const image = readAppImageManifest(pod, app.name);
  const exitCode = readExitCode(pod, app.name);
  const startedNs = modifiedNs(pod, `${POD_FILES.status}/${app.name}-started`);
  const details: AppDetails = {
    name: app.name,
    state: appState(pod.state, { ended: exitCode !== undefined, started: startedNs !== undefined }),
    imageID: app.image.id,
    imageName: displayName(app, image),
    mounts: mountsOf(app, volumes),
  };
  assignDefined(details, {
    exitCode,
    memoryKills: readNumber(pod, `${POD_FILES.outOfMemory}/${app.name}`, 10),
    restarts: readNumber(pod, `${POD_FILES.status}/${app.name}.restarts`, 15),
    startedNs,
    createdNs: modifiedNs(pod, `${POD_FILES.status}/${app.name}-created`),
    finishedNs: exitCode === undefined ? undefined : modifiedNs(pod, `${POD_FILES.status}/${app.name}`),
    userAnnotations: app.app?.userAnnotations,
    userLabels: app.app?.userLabels,
  });
  return details;
}

export function readAppImageManifest(pod: PodHandle, app: string): ImageManifest {
  const name = `${POD_FILES.apps}/${app}/${POD_FILES.appManifest}`;
  let text: string;
  try {
    text = readFileSync(pathInPod(pod, name), 'utf8');
  } catch (cause) {
    throw new RktError('IO', `unable to read the image manifest of app ${JSON.stringify(app)} in pod ${pod.uuid}`, { cause: movedCause(pod, cause) });
  }
  return parseImageManifest(text, `${currentPath(pod)}/${name}`);
}

function displayName(app: RuntimeApp, image: ImageManifest): string {
  const version = labelValue(image.labels, 'version');
  const name = app.image.name ?? image.name;
  return version === undefined ? name : `${name}:${version}`;
}

function appState(state: PodState, seen: { ended: boolean; started: boolean }): AppState {
  if (seen.ended || hasEnded(state)) return 'exited';
  if (state === 'running') return seen.started ? 'running' : 'created';
  return state === 'prepared' ? 'created' : 'unknown';
}

/** A volume of kind empty is on the pod's own disk, and has no path on this host. */
function mountsOf(app: RuntimeApp, volumes: readonly Volume[]): AppDetails['mounts'] {
  return (app.mounts ?? []).map((mount) => {
    const volume = mount.appVolume ?? volumes.find(({ name }) => name === mount.volume);
    const mountPoint = app.app?.mountPoints?.find(({ path }) => path === mount.path);
    return { hostPath: volume?.kind === 'host' ? volume.source : '', containerPath: mount.path, readOnly: volume?.readOnly ?? mountPoint?.readOnly ?? false };
  });
}

function readNetworks(pod: PodHandle): PodNetwork[] {
  const text = readOptional(pod, POD_FILES.networks);
  if (text === undefined) return [];
  const origin = `${currentPath(pod)}/${POD_FILES.networks}`;
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch (cause) {
    throw new RktError('BAD_INPUT', `${origin}: expected JSON`, { cause });
  }
  if (!Array.isArray(list) || !list.every(isNetwork)) throw new RktError('BAD_INPUT', `${origin}: expected a list of networks with netName`);
  return list;
}

function isNetwork(value: unknown): value is PodNetwork {
  return typeof value === 'object' && value !== null && 'netName' in value && typeof value.netName === 'string';
}

function readExitCode(pod: PodHandle, app: string): number | undefined {
  return readNumber(pod, `${POD_FILES.status}/${app}`, 3);
}

/** Of a file that holds nothing else; undefined when there is none. */
function readNumber(pod: PodHandle, name: string, digitsMax: number): number | undefined {
  const text = readOptional(pod, name)?.trim();
  return text !== undefined && text.length <= digitsMax && /^\d+$/.test(text) ? Number(text) : undefined;
}

function readOptional(pod: PodHandle, name: string): string | undefined {
  try {
    return readFileSync(pathInPod(pod, name), 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

function readOptionalLinkOrFile(pod: PodHandle, name: string): boolean {
  // The link dangles (`ready` is its whole message), so it must not be followed.
  try {
    return readdirSync(pathInPod(pod)).includes(name);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false;
    throw error;
  }
}

function modifiedNs(pod: PodHandle, name: string): bigint | undefined {
  return statSync(pathInPod(pod, name), { bigint: true, throwIfNoEntry: false })?.mtimeNs;
}

/** The same error with the path that a person can look at instead of the one through the descriptor. */
function movedCause(pod: PodHandle, cause: unknown): unknown {
  if (cause instanceof Error && 'path' in cause && typeof cause.path === 'string') {
    return Object.assign(cause, { path: cause.path.replace(pathInPod(pod), `${currentPath(pod)}/`) });
  }
  return cause;
}

function attempt<T>(problems: RktError[], read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    problems.push(error instanceof RktError ? error : new RktError('IO', 'unable to read the pod', { cause: error }));
    return undefined;
  }
}

function assignDefined<T extends object>(target: T, values: { [K in keyof T]?: T[K] | undefined }): void {
  for (const [key, value] of Object.entries(values)) {
    if (value !== undefined) Object.assign(target, { [key]: value });
  }
}

