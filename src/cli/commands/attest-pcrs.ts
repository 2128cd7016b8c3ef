import { pcrsJson } from '../../attest/index.ts';
import type { PodHandle } from '../../pod/index.ts';
import { readPodPcrs } from '../../stage0/pod-attestation.ts';
import { parseEventLog, QUOTED_PCRS, replay, type PcrBanks } from '../../tpm/index.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import * as flags from '../flags/table.ts';
import { readMeasuredLog } from '../measured-log.ts';
import { pcrLines } from '../pcr-text.ts';
import { openPodArgument } from '../pod-argument.ts';
import { success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

export async function run(input: ArgumentInput, context: CommandContext): Promise<Outcome> {
  using pod = openPodArgument(input, context);
  const isRunning = pod.state === 'running';
  const pcrs = isRunning ? await readPodPcrs(pod) : await replayed(pod, context);
  if (input.values.last(flags.pcrFormat) === 'json') return success({ kind: 'json', value: { uuid: pod.uuid, source: isRunning ? 'tpm' : 'log', pcrs: pcrsJson(pcrs) }, pretty: true });
  return success({ kind: 'lines', lines: pcrLines(pcrs) });
}

/** Others are the guest's own: what it has put there is in no log. */
async function replayed(pod: PodHandle, context: CommandContext): Promise<PcrBanks> {
  const bytes = await readMeasuredLog(pod, context);
  context.reporter.note(`pod "${pod.uuid}" has ended and its TPM is gone: these are the values that its event log gives`);
  return new Map([...replay(parseEventLog(bytes))].map(([bank, values]) => [bank, new Map(QUOTED_PCRS.map((pcr) => [pcr, values.get(pcr)!]))]));
}
