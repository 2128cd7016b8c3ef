/** Attaching to an app: the stage1's `attach` does it, in the place of this process. */
import { replaceProcess } from '../linux/execute.ts';
import { currentPath } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import { crossingEnvironment, entrypointPath } from './entrypoint.ts';
import { readStage1Manifest } from './run.ts';

export const ATTACH_ENDPOINTS = ['stdin', 'stdout', 'stderr', 'tty-in', 'tty-out'] as const;
export type AttachEndpoint = (typeof ATTACH_ENDPOINTS)[number];

export interface AttachRequest {
  pid: number;
  app: string;
  /** `auto`: everything the app has. */
  action: 'list' | 'auto' | readonly AttachEndpoint[];
  /** Undefined: those of the stage1. */
  detachKeys?: string;
  debug: boolean;
  env: Record<string, string>;
}

/** Does not return. */
export function attachPod(pod: PodHandle, { pid, app, action, detachKeys, debug, env }: AttachRequest): never {
  const podDir = currentPath(pod);
  const manifest = readStage1Manifest(pod);
  const path = entrypointPath(podDir, manifest, 'attach');
  const crossing = crossingEnvironment(podDir, manifest, { pid, app });
  const actionArgs = typeof action === 'string'
    ? [`--action=${action === 'auto' ? 'auto-attach' : action}`]
    : ['--action=custom-attach', ...ATTACH_ENDPOINTS.map((name) => `--${name}=${action.includes(name)}`)];
  const argv = [path, ...actionArgs, `--app=${app}`, `--debug=${debug}`, ...(detachKeys === undefined ? [] : [`--detach-keys=${detachKeys}`])];
  process.chdir(podDir);
  return replaceProcess({ path, argv, env: { ...env, ...crossing }, inherit: [] });
}
