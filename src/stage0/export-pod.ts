/** Files of a pod that has ended: its stage1 starts a guest that reads them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { RktError } from '../error.ts';
import { readEntries } from '../files/entry-stream.ts';
import { currentPath, readPodManifest } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import type { TarEntry } from '../rootfs/index.ts';
import { entrypointPath } from './entrypoint.ts';
import { isMutable } from './mutable-annotation.ts';
import { machineArguments, machineOf, readStage1Manifest } from './run.ts';

const NOTHING_INSECURE = { capabilities: false, paths: false, seccomp: false };

/**
 * What an app of the pod has left, the image and the app's changes to it; paths are relative to the root, whose own is ''.
 * The caller holds a lock of the pod, so that it is not removed meanwhile. Throws RktError GUEST.
 */
export async function* readEndedApp(pod: PodHandle, app: string, { warn, signal }: { warn(message: string): void; signal: AbortSignal }): AsyncGenerator<TarEntry, void, undefined> {
  // Where on the disk an app has written follows from its place in the manifest, unless apps have come and gone.
  if (isMutable(readPodManifest(pod))) throw new RktError('UNSUPPORTED', `pod "${pod.uuid}" is mutable: its apps cannot be exported`, { hint: 'use `rkt cp` while it runs' });
  const podDir = currentPath(pod);
  const path = entrypointPath(podDir, readStage1Manifest(pod), 'export');
  const { accelerator, kernel } = machineOf(pod, { machine: {} });
  const machine = { ...(accelerator === undefined ? {} : { accelerator }), ...(kernel === undefined ? {} : { kernel }) };
  const args = [`--inspect=${app}`, '--net=none', ...await machineArguments(pod, machine, { insecure: NOTHING_INSECURE, timing: false }), pod.uuid];
  const child = spawn(path, args, { cwd: podDir, stdio: ['ignore', 'pipe', 'inherit'], argv0: path });
  const stop = (): void => void child.kill('SIGKILL');
  signal.addEventListener('abort', stop);
  const exited: Promise<unknown[]> = once(child, 'close');
  exited.catch(() => undefined);
  try {
    try {
      yield* readEntries(child.stdout as AsyncIterable<Buffer>, { warn, name: `pod "${pod.uuid}"` });
    } catch (error) {
      // Stage1 has said on standard error what is wrong.
      if (child.stdout.readableEnded) await checkExit(exited);
      throw error;
    }
    await checkExit(exited);
  } finally {
    signal.removeEventListener('abort', stop);
    stop();
  }
}

async function checkExit(exited: Promise<unknown[]>): Promise<void> {
  const [status, signal] = await exited;
  if (status !== 0) throw new RktError('GUEST', `stage1 entrypoint export failed with ${typeof signal === 'string' ? signal : `exit status ${String(status)}`}`);
}
