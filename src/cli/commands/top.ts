import { RktError } from '../../error.ts';
import { openPodByName, readPodManifest, requireRunning } from '../../pod/index.ts';
import { connectAgent } from '../../stage0/guest-connection.ts';
import { printable, processesOf } from '../../stage0/guest-statistics.ts';
import type { ProcessList } from '../../stage0/guest-statistics.ts';
import type { ProcessInfo } from '../../wire/messages.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import * as flags from '../flags/table.ts';
import { argumentsOfPod } from '../pod-argument.ts';
import { success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

const LEGEND = ['USER', 'PID', 'PPID', '%CPU', 'ELAPSED', 'TTY', 'TIME', 'COMMAND'];
/** Of pseudo-terminals (Documentation/admin-guide/devices.txt). */
const PTY_MAJOR = 136;

interface AppProcesses {
  app: string;
  list: ProcessList;
}

export async function run(input: ArgumentInput, context: CommandContext): Promise<Outcome> {
  const { values } = input;
  const [name, appName, ...more] = argumentsOfPod(input);
  if (name === undefined || more.length > 0) throw usage('expected a UUID, and perhaps the name of an app');
  using pod = openPodByName(context.dataDir(), name);
  requireRunning(pod);
  const names = readPodManifest(pod).apps.map((app) => app.name);
  if (appName !== undefined && !names.includes(appName)) throw new RktError('NOT_FOUND', `app ${JSON.stringify(appName)} is not in the pod: it has ${names.join(', ')}`);
  const agent = await connectAgent(pod);
  const found: AppProcesses[] = [];
  const problems: unknown[] = [];
  try {
    for (const app of appName === undefined ? names : [appName]) {
      try {
        found.push({ app, list: await processesOf(pod, agent, app) });
      } catch (error) {
        problems.push(error);
      }
    }
  } finally {
    agent.close();
  }
  // Some apps of a pod may have ended; all of them, and there is nothing to show.
  if (found.length === 0) throw problems[0];
  for (const { app, list } of found) if (list.total > list.processes.length) context.reporter.note(`app ${JSON.stringify(app)}: ${list.processes.length} of ${list.total} processes`);
  const format = values.last(flags.format) ?? '';
  if (format !== '') return success({ kind: 'json', value: found.map(appJson), pretty: format === 'json-pretty' });
  // One that was asked for, or is alone, needs no name.
  const isNamed = appName === undefined && names.length > 1;
  const rows = found.flatMap(({ app, list }) => list.processes.map((process) => [...(isNamed ? [app] : []), ...row(process, list.uptimeMs)]));
  return success({ kind: 'table', legend: isNamed ? ['APP', ...LEGEND] : LEGEND, rows });
}

function row(process: ProcessInfo, uptimeMs: number): string[] {
  const elapsedMs = Math.max(1, uptimeMs - process.startedMs);
  return [
    printable(process.user), String(process.pid), String(process.parentPid), ((100 * process.cpuMs) / elapsedMs).toFixed(1), span(elapsedMs), terminalName(process.terminal),
    span(process.cpuMs), printable(process.command),
  ];
}

/** `1h2m3.4s`, as Go prints durations. */
function span(milliseconds: number): string {
  const seconds = milliseconds / 1000;
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  const rest = `${Number((seconds % 60).toFixed(2))}s`;
  if (hours > 0) return `${hours}h${minutes}m${rest}`;
  return minutes > 0 ? `${minutes}m${rest}` : rest;
}

/** From a device number in the kernel's packed form. */
function terminalName(device: number): string {
  const [major, minor] = [(device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00)];
  return major === PTY_MAJOR ? `pts/${minor}` : '?';
}

function appJson({ app, list }: AppProcesses): Record<string, unknown> {
  return {
    name: app,
    processes: list.processes.map((process) => ({
      pid: process.pid, ppid: process.parentPid, user: process.user, state: process.state, elapsed_ms: Math.max(0, list.uptimeMs - process.startedMs),
      cpu_time_ms: process.cpuMs, tty: terminalName(process.terminal), command: process.command,
    })),
  };
}
