import { eventTypeName } from '../../tpm/event-types.ts';
import { celJson, describeEntry, parsePodLog, podLogText, toHex, type PodLogEntry } from '../../tpm/index.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import * as flags from '../flags/table.ts';
import { readMeasuredLog } from '../measured-log.ts';
import { openPodArgument } from '../pod-argument.ts';
import { success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

export async function run(input: ArgumentInput, context: CommandContext): Promise<Outcome> {
  using pod = openPodArgument(input, context);
  const bytes = await readMeasuredLog(pod, context);
  switch (input.values.last(flags.logFormat) ?? 'text') {
    case 'binary':
      return success({ kind: 'bytes', bytes });
    case 'cel':
      return success({ kind: 'lines', lines: [celJson(parsePodLog(bytes).log)] });
    case 'json':
      return success({ kind: 'json', value: parsePodLog(bytes).entries.map(entryJson), pretty: true });
    case 'text':
      return success({ kind: 'lines', lines: [podLogText(parsePodLog(bytes)).trimEnd()] });
  }
}

/** Numbers of events begin with 1, as in the text. */
function entryJson(entry: PodLogEntry): Record<string, unknown> {
  const { event, meaning, uncoveredBanks } = entry;
  return {
    number: entry.index + 1,
    pcr: event.pcr,
    type: eventTypeName(event.type),
    digests: Object.fromEntries(event.digests.map(({ algorithm, digest }) => [algorithm, toHex(digest)])),
    data: toHex(event.data),
    ...(meaning.kind === 'measurement' ? { measurement: meaning.measurement } : {}),
    ...(uncoveredBanks.length === 0 ? {} : { uncovered_banks: uncoveredBanks }),
    text: describeEntry(entry),
  };
}
