/** The event log of a pod, for commands that show it or compute with it. */
import type { PodHandle } from '../pod/index.ts';
import { readPodLog } from '../stage0/pod-attestation.ts';
import { explain, measurementOf } from '../tpm/index.ts';
import type { CommandContext } from './context.ts';

/** Tells what may be missing from it. Throws RktError STATE. */
export async function readMeasuredLog(pod: PodHandle, context: CommandContext): Promise<Uint8Array> {
  const { bytes, interrupted } = await readPodLog(pod);
  if (interrupted !== null) {
    context.reporter.note(`the monitor of the pod ended while it measured into PCR ${interrupted.pcr}: ${explain(measurementOf(interrupted))}`);
    context.reporter.note('that event is not in the log, and whether the TPM has had it is not known');
  }
  return bytes;
}
