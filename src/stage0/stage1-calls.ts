/** The other programs of a stage1: `enter`, `stop`, `gc`. */
import { spawn, spawnSync } from 'node:child_process';
import { RktError } from '../error.ts';
import { replaceProcess } from '../linux/execute.ts';
import { currentPath } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import { crossingEnvironment, entrypointPath, interfaceVersion } from './entrypoint.ts';
import type { AppEntrypoint, Entrypoint } from './entrypoint.ts';
import { readStage1Manifest } from './run.ts';

/** Becomes the stage1's `enter`, which runs the command in the app; does not return. */
export function enterPod(pod: PodHandle, command: { pid: number; app: string; argv: readonly string[]; env: Record<string, string> }): never {
  const podDir = currentPath(pod);
  const path = entrypointPath(podDir, readStage1Manifest(pod), 'enter');
  process.chdir(podDir);
  return replaceProcess({ path, argv: [path, `--pid=${command.pid}`, `--appname=${command.app}`, '--', ...command.argv], env: command.env, inherit: [] });
}

export interface StopOptions {
  force: boolean;
  /** Of our own stage1: others decide themselves, and are only told when a person has said something. */
  graceMs?: number | undefined;
}

/** Asks the stage1 to stop the pod and waits until it has done so. Several pods can be stopped at a time. */
export async function stopPod(pod: PodHandle, { force, graceMs }: StopOptions): Promise<void> {
  const podDir = currentPath(pod);
  const path = entrypointPath(podDir, readStage1Manifest(pod), 'stop');
  const args = [...(force ? ['--force'] : []), ...(graceMs === undefined ? [] : [`--grace-period-ms=${graceMs}`]), pod.uuid];
  const child = spawn(path, args, { cwd: podDir, stdio: ['ignore', 'inherit', 'inherit'], argv0: path });
  const end = await new Promise<CallEnd>((resolve) => {
    child.on('error', (error) => resolve({ error, status: null, signal: null }));
    child.on('close', (status, signal) => resolve({ status, signal }));
  });
  checkEnd(end, { entrypoint: 'stop', path });
}

/** Lets the stage1 remove what it has outside the pod directory. */
export function cleanUpStage1(pod: PodHandle, { debug, localConfigDir }: { debug: boolean; localConfigDir: string }): void {
  const knowsConfig = interfaceVersion(readStage1Manifest(pod)) >= 5;
  call(pod, 'gc', [...(debug ? ['--debug'] : []), ...(knowsConfig ? [`--local-config=${localConfigDir}`] : []), pod.uuid]);
}

/** Has the stage1 of a running mutable pod change one of its apps, and waits until it has done so. */
export function callAppEntrypoint(pod: PodHandle, entrypoint: AppEntrypoint, { pid, app, debug }: { pid: number; app: string; debug: boolean }): void {
  const crossing = crossingEnvironment(currentPath(pod), readStage1Manifest(pod), { pid, app });
  call(pod, entrypoint, [`--debug=${debug}`, ...(entrypoint === 'app/add' ? [`--uuid=${pod.uuid}`] : []), `--app=${app}`], crossing);
}

function call(pod: PodHandle, entrypoint: Entrypoint, args: readonly string[], environment: Readonly<Record<string, string>> = {}): void {
  const podDir = currentPath(pod);
  const path = entrypointPath(podDir, readStage1Manifest(pod), entrypoint);
  checkEnd(spawnSync(path, args, { cwd: podDir, stdio: ['ignore', 'inherit', 'inherit'], argv0: path, env: { ...process.env, ...environment } }), { entrypoint, path });
}

interface CallEnd {
  error?: Error;
  status: number | null;
  signal: NodeJS.Signals | null;
}

function checkEnd(result: CallEnd, { entrypoint, path }: { entrypoint: Entrypoint; path: string }): void {
  if (result.error !== undefined) throw new RktError('IO', `cannot execute the stage1 entrypoint ${path}`, { cause: result.error });
  if (result.signal !== null) throw new RktError('GUEST', `stage1 entrypoint ${entrypoint} was ended by ${result.signal}`);
  if (result.status !== 0) throw new RktError('GUEST', `stage1 entrypoint ${entrypoint} failed with exit status ${result.status ?? -1}`);
}
