import { isAbsolute, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { currentPath, readPodManifest, refreshState } from '../../pod/index.ts';
import type { PodHandle } from '../../pod/index.ts';
import { AppLog } from '../../pod/logs/app-log.ts';
import type { LogLine } from '../../pod/logs/app-log.ts';
import { MergedLog } from '../../pod/logs/merged-log.ts';
import { kubernetesLogPath } from '../../wire/kubernetes-log.ts';
import { requireApp } from '../choose-app.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import * as flags from '../flags/table.ts';
import { LogPrinter } from '../log-printer.ts';
import { openPodArgument } from '../pod-argument.ts';
import { NOTHING, success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

const POLL_MS = 100;

export async function run(input: ArgumentInput, context: CommandContext): Promise<Outcome> {
  const { values } = input;
  using pod = openPodArgument(input, context);
  const paths = logPaths(pod, values.last(flags.app));
  const withTimes = values.last(flags.timestamps) ?? false;
  const tail = values.last(flags.tail);
  const since = values.last(flags.since) ?? '';
  const until = values.last(flags.until) ?? '9999';
  const immediate = paths.size === 1 && !withTimes && tail === undefined;
  const log = new MergedLog(new Map([...paths].map(([app, path]) => [app, new AppLog(path, { immediate })])));
  const printer = new LogPrinter((fd, bytes) => context.reporter.pass(fd, bytes), { withNames: paths.size > 1, withTimes });
  const isWanted = ({ time }: LogLine): boolean => time >= since && time < until;
  try {
    if (tail !== undefined) log.skipToTail(tail, isWanted);
    for (;;) {
      // Asked before reading: what was written before the end is read.
      const goesOn = (values.last(flags.follow) ?? false) && refreshState(pod) === 'running' && new Date().toISOString() < until;
      for (let line = log.next(); line !== undefined && !printer.isOver; line = log.next()) if (isWanted(line)) printer.print(line);
      printer.flush();
      if (!goesOn || printer.isOver) break;
      await sleep(POLL_MS);
    }
    for (const line of log.remainder()) if (isWanted(line)) printer.print(line);
    printer.flush();
  } finally {
    log.close();
  }
  return success(NOTHING);
}

/** In manifest order; the pod directory may move while its logs are read, but not while it runs. */
function logPaths(pod: PodHandle, wanted: string | undefined): Map<string, string> {
  const { apps, annotations } = readPodManifest(pod);
  if (wanted !== undefined) requireApp(apps.map(({ name }) => name), wanted);
  return new Map(apps.filter(({ name }) => wanted === undefined || name === wanted).map((app) => {
    const path = kubernetesLogPath(app.annotations, annotations) ?? `logs/${app.name}.log`;
    return [app.name, isAbsolute(path) ? path : join(currentPath(pod), path)];
  }));
}
