import { pcrlockJson, podLogText, parsePodLog, predict, referenceDocument, rvpsJson, type Prediction } from '../../attest/index.ts';
import { RktError } from '../../error.ts';
import { predictPod } from '../../stage0/predict-pod.ts';
import { discardPod } from '../../stage0/prepare.ts';
import { rootfsKind } from '../../stage0/stage1-abilities.ts';
import { checkStart } from '../../stage0/stage1-check.ts';
import { concatBytes, encodeLogHeader } from '../../tpm/index.ts';
import type { CommandContext } from '../context.ts';
import type { ImageCommandLine } from '../flags/image-arguments.ts';
import * as flags from '../flags/table.ts';
import { makePodOnPaper } from '../make-pod.ts';
import { pcrLines } from '../pcr-text.ts';
import { checkPodFlags } from '../pod-options.ts';
import { success } from '../reporter.ts';
import type { Outcome, Result } from '../reporter.ts';
import { runRequest } from '../run-options.ts';

/** Goes the way of `run` up to where the pod would be started, and removes it then. */
export async function run(commandLine: ImageCommandLine, context: CommandContext): Promise<Outcome> {
  checkPodFlags(commandLine);
  const request = await runRequest(commandLine.pod, context);
  const note = (warning: string): void => context.reporter.note(warning);
  const { pod } = await makePodOnPaper(commandLine, context, note, (stage1) => {
    if (rootfsKind(stage1) !== 'disk') throw new RktError('UNSUPPORTED', `stage1 image ${stage1.name} runs no virtual machine: nothing of its pods is measured`);
    checkStart(stage1, request, note);
  });
  try {
    return success(resultOf(predict(await predictPod(pod, request)), commandLine.pod.last(flags.predictionFormat) ?? 'json'));
  } finally {
    discardPod(pod);
  }
}

function resultOf(prediction: Prediction, format: 'json' | 'pcrlock' | 'rvps' | 'text'): Result {
  switch (format) {
    case 'json':
      return { kind: 'json', value: referenceDocument(prediction), pretty: true };
    case 'pcrlock':
      return { kind: 'lines', lines: [pcrlockJson(prediction)] };
    case 'rvps':
      return { kind: 'lines', lines: [rvpsJson(prediction)] };
    case 'text': {
      const log = parsePodLog(concatBytes(encodeLogHeader(), ...prediction.events.map(({ record }) => record)));
      return { kind: 'lines', lines: [podLogText(log).trimEnd(), ...pcrLines(prediction.pcrs)] };
    }
  }
}
