/** The other programs of a stage1: `enter`, `stop`, `gc`. */
import { spawnSync } from 'node:child_process';
import { RktError } from '../error.ts';
import { replaceProcess } from '../linux/execute.ts';
import { currentPath } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import { entrypointPath } from './entrypoint.ts';
import type { Entrypoint } from './entrypoint.ts';
import { readStage1Manifest } from './run.ts';

/** Becomes the stage1's `enter`, which runs the command in the app; does not return. */
export function enterPod(pod: PodHandle, command: { pid: number; app: string; argv: readonly string[]; env: Record<string, string> }): never {
  const podDir = currentPath(pod);
  const path = entrypointPath(podDir, readStage1Manifest(pod), 'enter');
  process.chdir(podDir);
  return replaceProcess({ path, argv: [path, `--pid=${command.pid}`, `--appname=${command.app}`, '--', ...command.argv], env: command.env, inherit: [] });
}

/** Asks the stage1 to stop the pod and waits until it has done so. */
export function stopPod(pod: PodHandle, options: { force: boolean }): void {
  call(pod, 'stop', [...(options.force ? ['--force'] : []), pod.uuid]);
}

/** Lets the stage1 remove what it has outside the pod directory. */
export function cleanUpStage1(pod: PodHandle, options: { debug: boolean }): void {
  call(pod, 'gc', [...(options.debug ? ['--debug'] : []), pod.uuid]);
}

function call(pod: PodHandle, entrypoint: Entrypoint, args: readonly string[]): void {
  const podDir = currentPath(pod);
  const path = entrypointPath(podDir, readStage1Manifest(pod), entrypoint);
  const result = spawnSync(path, args, { cwd: podDir, stdio: ['ignore', 'inherit', 'inherit'], argv0: path });
  if (result.error !== undefined) throw new RktError('IO', `cannot execute the stage1 entrypoint ${path}`, { cause: result.error });
  if (result.signal !== null) throw new RktError('GUEST', `stage1 entrypoint ${entrypoint} was ended by ${result.signal}`);
  if (result.status !== 0) throw new RktError('GUEST', `stage1 entrypoint ${entrypoint} failed with exit status ${result.status ?? -1}`);
}
