import { RktError } from '../../error.ts';
import { readPodDetails } from '../../pod/index.ts';
import type { AppDetails } from '../../pod/index.ts';
import { withChosenApp } from '../app-argument.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import * as flags from '../flags/table.ts';
import { absoluteTime } from '../humanize.ts';
import { appJson } from '../pod-json.ts';
import { milliseconds } from '../pod-text.ts';
import { NOTHING, success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

/** What rkt ends with when nothing can be told of the app. */
const STATUS_FAILURE_STATUS = 1;

export function run(input: ArgumentInput, context: CommandContext): Outcome {
  try {
    const app = withChosenApp(input, context, (pod, name) => {
      const { apps, problems } = readPodDetails(pod);
      const found = apps.find((candidate) => candidate.name === name);
      if (found === undefined) throw problems[0] ?? new RktError('NOT_FOUND', `cannot find app "${name}" in the pod`);
      return found;
    });
    const format = input.values.last(flags.format) ?? '';
    if (format !== '') return success({ kind: 'json', value: appJson(app), pretty: format === 'json-pretty' });
    return success({ kind: 'lines', lines: statusLines(app) });
  } catch (error) {
    context.reporter.error(error);
    return { result: NOTHING, exitStatus: STATUS_FAILURE_STATUS };
  }
}

function statusLines(app: AppDetails): string[] {
  const time = (name: string, timeNs: bigint | undefined): string[] => (timeNs === undefined ? [] : [`${name}=${absoluteTime(milliseconds(timeNs))}`]);
  const list = (name: string, entries: readonly string[]): string[] => (entries.length === 0 ? [] : [`${name}=${entries.join(',')}`]);
  const pairs = (record: Readonly<Record<string, string>> | undefined): string[] => Object.entries(record ?? {}).map(([key, value]) => `${key}:${value}`);
  return [
    `name=${app.name}`,
    `state=${app.state}`,
    `image_id=${app.imageID}`,
    ...time('created_at', app.createdNs),
    ...time('started_at', app.startedNs),
    ...time('finished_at', app.finishedNs),
    ...(app.exitCode === undefined ? [] : [`exit_code=${app.exitCode}`]),
    ...list('mounts', app.mounts.map(({ hostPath, containerPath, readOnly }) => `${hostPath}:${containerPath}:(read_only:${readOnly})`)),
    ...list('user_annotations', pairs(app.userAnnotations)),
    ...list('user_labels', pairs(app.userLabels)),
  ];
}
