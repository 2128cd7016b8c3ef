/** What would be measured of a pod, in the form that was asked for. */
import { pcrlockJson, podLogText, parsePodLog, predict, referenceDocument, rvpsJson, type Prediction } from '../attest/index.ts';
import type { PodHandle } from '../pod/index.ts';
import { predictPod } from '../stage0/predict-pod.ts';
import { discardPod } from '../stage0/prepare.ts';
import type { RunRequest } from '../stage0/run.ts';
import { concatBytes, encodeLogHeader } from '../tpm/index.ts';
import { pcrLines } from './pcr-text.ts';
import { success } from './reporter.ts';
import type { Outcome, Result } from './reporter.ts';

export type PredictionFormat = 'json' | 'pcrlock' | 'rvps' | 'text';

/** The pod is removed afterwards. Throws RktError. */
export async function predictionOf(pod: PodHandle, request: RunRequest, format: PredictionFormat): Promise<Outcome> {
  try {
    return success(resultOf(predict(await predictPod(pod, request)), format));
  } finally {
    discardPod(pod);
  }
}

function resultOf(prediction: Prediction, format: PredictionFormat): Result {
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
