/**
 * Reference values: what a pod must have measured. The document lists the measurements themselves, so that a verifier can say
 * which one differs and how, not only that some register does; the registers are there for people and other tools.
 */
import { RktError } from '../error.ts';
import { equalBytes } from '../tpm/bytes.ts';
import { isJsonObject, type Json, type JsonObject } from '../tpm/canonical-json.ts';
import { POD_BANKS } from '../tpm/hash-algorithms.ts';
import { eventOf, hostSeparators, measurementOf, stageOf, type Measurement } from '../tpm/measurements.ts';
import { PCR } from '../tpm/pcr-table.ts';
import { replay } from '../tpm/pcr.ts';
import { pcrBanks } from './evidence.ts';
import { jsonDocument, type JsonFields } from './json-fields.ts';
import { pcrsJson, type Prediction } from './predict.ts';

const FORMAT = 'rkt-reference';
const VERSION = 1;
const MAX_MEASUREMENTS = 10_000;

export interface Reference {
  /** For messages: the file's. */
  name: string;
  /** Up to the end of the launch. */
  measurements: readonly Measurement[];
}

export function referenceDocument({ measurements, pcrs, phasePcrs }: Prediction): JsonObject {
  return {
    format: FORMAT,
    formatVersion: VERSION,
    measurements: measurements as unknown as readonly Json[],
    pcrs: pcrsJson(pcrs),
    phases: Object.fromEntries(Object.entries(phasePcrs).map(([phase, banks]) => [phase, pcrsJson(banks)])),
  };
}

/**
 * @param document its text, or what JSON.parse made of it
 * @param name begins every message
 * @throws RktError BAD_INPUT, LIMIT
 */
export function parseReference(document: unknown, name = 'reference'): Reference {
  const fields = jsonDocument(document, name);
  fields.expectFormat(FORMAT, VERSION);
  const list = fields.list('measurements');
  if (list.length > MAX_MEASUREMENTS) throw new RktError('LIMIT', `${name}: ${list.length} measurements, at most ${MAX_MEASUREMENTS} are read`);
  const measurements = list.map((item) => measurementFrom(item, fields));
  if (fields.has('pcrs')) checkRegisters(measurements, fields);
  return { name, measurements };
}

function measurementFrom(item: Json, fields: JsonFields): Measurement {
  try {
    if (!isJsonObject(item)) throw new RktError('BAD_INPUT', 'expected an object');
    const measurement = measurementOf(eventOf(item as unknown as Measurement));
    if (['mutation', 'phase'].includes(stageOf(measurement.kind))) throw new RktError('BAD_INPUT', `"${measurement.kind}" is no part of a launch`);
    return measurement;
  } catch (error) {
    if (error instanceof RktError) return fields.fail('measurements', error.message);
    throw error;
  }
}

/** A document whose two halves say different things was made or changed by mistake. */
function checkRegisters(measurements: readonly Measurement[], fields: JsonFields): void {
  const events = [...measurements.map((measurement) => eventOf(measurement)), ...hostSeparators()];
  const expected = replay({ algorithms: POD_BANKS, events });
  for (const [bank, values] of pcrBanks(fields.object('pcrs'))) {
    for (const [pcr, value] of values) {
      if (pcr !== PCR.phases && !equalBytes(value, expected.get(bank)!.get(pcr)!)) fields.fail('pcrs', `PCR ${pcr} of ${bank} is not what the measurements of the same document give`);
    }
  }
}
