import { setTimeout as sleep } from 'node:timers/promises';
import { hasEnded, hasRun, isReady, readPid, readPodDetails, refreshState } from '../../pod/index.ts';
import type { PodDetails, PodHandle } from '../../pod/index.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import * as flags from '../flags/table.ts';
import { absoluteTime } from '../humanize.ts';
import { openPodArgument } from '../pod-argument.ts';
import { podJson } from '../pod-json.ts';
import { milliseconds, networksText } from '../pod-text.ts';
import { success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

const POLL_MS = 100;
/** The monitor writes its pid soon after the pod has become "running". */
const PID_WAIT_MS = 1000;
/** Printed when no pid is known, as rkt always did. */
const NO_PID = -1;

export async function run(input: ArgumentInput, context: CommandContext): Promise<Outcome> {
  const { values } = input;
  using pod = openPodArgument(input, context);
  await waitUntil(values.last(flags.waitReady) ?? 0, () => isReady(pod) || isOver(pod));
  await waitUntil(values.last(flags.wait) ?? 0, () => isOver(pod));
  if (refreshState(pod) === 'running') await waitUntil(PID_WAIT_MS, () => readPid(pod) !== undefined || isOver(pod));
  const details = readPodDetails(pod);
  for (const problem of details.problems) context.reporter.error(problem);
  const format = values.last(flags.format) ?? '';
  if (format !== '') return success({ kind: 'json', value: podJson(details), pretty: format === 'json-pretty' });
  return success({ kind: 'lines', lines: statusLines(details) });
}

/** Whether the pod will not run any more. */
function isOver(pod: PodHandle): boolean {
  const state = refreshState(pod);
  return hasEnded(state) || state === 'gone' || state === 'garbage' || state === 'aborted prepare';
}

/** Negative: without limit; 0: not at all. */
async function waitUntil(limitMs: number, reached: () => boolean): Promise<void> {
  const deadline = Date.now() + (limitMs < 0 ? Infinity : limitMs);
  while (Date.now() < deadline && !reached()) await sleep(POLL_MS);
}

function statusLines(pod: PodDetails): string[] {
  const lines = [`state=${pod.state}`];
  if (pod.createdNs !== undefined) lines.push(`created=${absoluteTime(milliseconds(pod.createdNs))}`);
  if (pod.startedNs !== undefined) lines.push(`started=${absoluteTime(milliseconds(pod.startedNs))}`);
  if (pod.state === 'running' || pod.state === 'exited') lines.push(`networks=${networksText(pod.networks)}`);
  if (!hasRun(pod.state)) return lines;
  lines.push(`pid=${pod.pid ?? NO_PID}`, `exited=${String(pod.state === 'exited' || pod.state === 'exited garbage')}`);
  // Behind rkt's own keys, which scripts may read by their place.
  const more = pod.apps.flatMap(({ name, memoryKills, restarts }) => [
    ...(memoryKills === undefined ? [] : [`memory-kills-${name}=${memoryKills}`]),
    ...(restarts === undefined ? [] : [`restarts-${name}=${restarts}`]),
  ]);
  if (pod.state === 'running') return [...lines, ...more];
  return [...lines, ...pod.apps.flatMap(({ name, exitCode }) => (exitCode === undefined ? [] : [`app-${name}=${exitCode}`])), ...more];
}
