/** What would be measured of a prepared pod if it were run, from the stage1 that would run it. */
import { spawnSync } from 'node:child_process';
import type { PredictionInput } from '../attest/index.ts';
import { RktError } from '../error.ts';
import { currentPath, readPodManifest } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import { entrypointPath } from './entrypoint.ts';
import { isMutable } from './mutable-annotation.ts';
import { plannedNetworkArguments } from './pod-network.ts';
import { machineOf, readStage1Manifest, stage1Arguments } from './run.ts';
import type { RunRequest } from './run.ts';

/** Measuring reads kernel and VMM. */
const TIMEOUT_MS = 120_000;
/** Manifests are in it. */
const LARGEST_OUTPUT_BYTES = 64 << 20;

/** The pod is in `prepare`, and stays as it is. Throws RktError USAGE for a pod without a TPM, UNSUPPORTED for a stage1 that cannot predict, GUEST. */
export async function predictPod(pod: PodHandle, request: RunRequest): Promise<PredictionInput> {
  const stage1 = readStage1Manifest(pod);
  const machine = machineOf(pod, request);
  if (machine.tpm === 'off') throw new RktError('USAGE', 'nothing is measured of a pod without a TPM: --tpm=off leaves nothing to predict');
  const podDir = currentPath(pod);
  const path = entrypointPath(podDir, stage1, 'predict');
  const args = [...await stage1Arguments(pod, request, { stage1, machine, mutable: isMutable(readPodManifest(pod)) }), ...await plannedNetworkArguments(request, stage1), pod.uuid];
  const result = spawnSync(path, args, { cwd: podDir, argv0: path, stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8', timeout: TIMEOUT_MS, maxBuffer: LARGEST_OUTPUT_BYTES });
  if (result.error !== undefined) throw new RktError('IO', `cannot execute the stage1 entrypoint ${path}`, { cause: result.error });
  if (result.status !== 0) throw new RktError('GUEST', `stage1 entrypoint predict failed with ${result.signal ?? `exit status ${result.status ?? -1}`}`);
  try {
    // Of this rkt's own stage1, or one the person trusts with running the pod.
    return JSON.parse(result.stdout) as PredictionInput;
  } catch (cause) {
    throw new RktError('GUEST', 'stage1 entrypoint predict printed no JSON', { cause });
  }
}
