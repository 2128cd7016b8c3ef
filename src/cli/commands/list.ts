import { readPodDetails, walkPods } from '../../pod/index.ts';
import type { PodDetails, PodDirectory } from '../../pod/index.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import * as flags from '../flags/table.ts';
import { absoluteTime, relativeTime } from '../humanize.ts';
import { podJson } from '../pod-json.ts';
import { milliseconds, networksText } from '../pod-text.ts';
import { success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

/** Pods that are only being made, or were never run and wait for removal, are not listed. */
const LISTED: readonly PodDirectory[] = ['prepare', 'prepared', 'run', 'exited-garbage'];
const LEGEND = ['UUID', 'APP', 'IMAGE NAME', 'STATE', 'CREATED', 'STARTED', 'NETWORKS'];
const FULL_LEGEND = ['UUID', 'APP', 'IMAGE NAME', 'IMAGE ID', 'STATE', 'CREATED', 'STARTED', 'NETWORKS'];
const SHORT_UUID_DIGITS = 8;
/** `sha512-` and 12 digits. */
const SHORT_IMAGE_ID_LENGTH = 19;
const SEPARATOR = '-'.repeat(40);

export function run({ values }: ArgumentInput, context: CommandContext): Outcome {
  const pods = readAll(context.dataDir());
  reportProblems(pods, context);
  const format = values.last(flags.format) ?? '';
  if (format !== '') return success({ kind: 'json', value: pods.map(podJson), pretty: format === 'json-pretty' });
  const full = values.last(flags.full) ?? false;
  const rows = pods.flatMap((pod) => podRows(pod, { full, nowMs: Date.now() }));
  return success({ kind: 'table', rows, ...(values.last(flags.noLegend) === true ? {} : { legend: full ? FULL_LEGEND : LEGEND }) });
}

function readAll(dataDir: string): PodDetails[] {
  const pods: PodDetails[] = [];
  for (const pod of walkPods(dataDir, LISTED)) pods.push(readPodDetails(pod));
  return pods;
}

/** One row for each app; what is about the pod stands in the first. */
function podRows(pod: PodDetails, options: { full: boolean; nowMs: number }): string[][] {
  const time = (timeNs: bigint | undefined): string => {
    if (timeNs === undefined) return '';
    return options.full ? absoluteTime(milliseconds(timeNs)) : relativeTime(milliseconds(timeNs), options.nowMs);
  };
  const uuid = options.full ? pod.uuid : pod.uuid.slice(0, SHORT_UUID_DIGITS);
  const aboutPod = [pod.state, time(pod.createdNs), time(pod.startedNs), networksText(pod.networks)];
  const apps = pod.apps.map((app) => [app.name, app.imageName, ...(options.full ? [app.imageID.slice(0, SHORT_IMAGE_ID_LENGTH)] : [])]);
  if (apps.length === 0) apps.push(options.full ? ['-', '-', '-'] : ['-', '-']);
  return apps.map((app, index) => (index === 0 ? [uuid, ...app, ...aboutPod] : ['', ...app, '', '', '', '']));
}

function reportProblems(pods: readonly PodDetails[], context: CommandContext): void {
  // A pod in the making has no manifest yet, which is no error.
  const problems = pods.filter(({ state }) => state !== 'preparing' && state !== 'aborted prepare').flatMap((pod) => pod.problems);
  if (problems.length === 0) return;
  context.reporter.note(`${problems.length} error(s) encountered when listing pods:`);
  context.reporter.note(SEPARATOR);
  for (const problem of problems) {
    context.reporter.error(problem);
    context.reporter.note(SEPARATOR);
  }
}
