import { setTimeout as sleep } from 'node:timers/promises';
import { isatty } from 'node:tty';
import { openPod, openPodByName, readPid, requireRunning, walkPods } from '../../pod/index.ts';
import type { PodHandle } from '../../pod/index.ts';
import { connectAgent } from '../../stage0/guest-connection.ts';
import type { AgentConnection } from '../../stage0/guest-connection.ts';
import { podUsageOf, printable } from '../../stage0/guest-statistics.ts';
import type { AppUsage, PodUsage } from '../../stage0/guest-statistics.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import * as flags from '../flags/table.ts';
import { hostMemoryOf } from '../host-memory.ts';
import { binarySize } from '../humanize.ts';
import { failure, NOTHING, success } from '../reporter.ts';
import type { Outcome, Result } from '../reporter.ts';

const LEGEND = ['UUID', 'APP', 'CPU %', 'MEM USAGE / LIMIT', 'MEM %', 'NET IO', 'BLOCK IO', 'PIDS', 'CPU TIME', 'HOST MEM'];
const DEFAULT_INTERVAL_MS = 1000;
/** Between the two looks that one result needs. */
const SINGLE_INTERVAL_MS = 500;
const SHORT_UUID_DIGITS = 8;
const CLEAR_SCREEN = '\x1b[H\x1b[2J';

interface Watched {
  pod: PodHandle;
  agent: AgentConnection;
  last: PodUsage;
}

interface AppRow {
  app: AppUsage;
  /** Of one processor. */
  cpuPercent: number;
  limitBytes: number;
}

interface PodRows {
  uuid: string;
  usage: PodUsage;
  hostMemoryBytes?: number | undefined;
  apps: AppRow[];
}

export async function run({ values, positional }: ArgumentInput, context: CommandContext): Promise<Outcome> {
  const { reporter } = context;
  const isSingle = values.last(flags.noStream) === true;
  const format = values.last(flags.format) ?? '';
  const print = (pods: readonly PodRows[]): Result => (format === '' ? table(pods) : { kind: 'json', value: pods.map(podJson), pretty: format === 'json-pretty' });
  let watched = await watchPods(positional, context);
  try {
    if (watched.length === 0) return success(print([]));
    for (;;) {
      await sleep(isSingle ? SINGLE_INTERVAL_MS : (values.last(flags.interval) ?? DEFAULT_INTERVAL_MS));
      const rows: PodRows[] = [];
      const left: Watched[] = [];
      for (const [index, result] of (await Promise.allSettled(watched.map(look))).entries()) {
        const one = watched[index];
        if (one === undefined) continue;
        if (result.status === 'fulfilled') {
          rows.push(result.value);
          left.push(one);
        } else if (openPod(context.dataDir(), one.pod.uuid)?.state === 'running') {
          reporter.error(result.reason);
        }
      }
      watched = left;
      if (isSingle) return rows.length === 0 ? failure() : success(print(rows));
      if (rows.length === 0) return success(NOTHING);
      if (format === '' && isatty(1)) reporter.status(CLEAR_SCREEN);
      reporter.result(print(rows));
    }
  } finally {
    for (const { agent, pod } of watched) {
      agent.close();
      pod.close();
    }
  }
}

/** Of all running pods those that can be asked; named ones must be. */
async function watchPods(names: readonly string[], context: CommandContext): Promise<Watched[]> {
  const dataDir = context.dataDir();
  const uuids = names.length > 0 ? names : [...walkPods(dataDir, ['run'])].filter(({ state }) => state === 'running').map(({ uuid }) => uuid);
  const watched = await Promise.all(uuids.map(async (name) => {
    const pod = openPodByName(dataDir, name);
    try {
      requireRunning(pod);
      const agent = await connectAgent(pod);
      return { pod, agent, last: await podUsageOf(pod, agent) };
    } catch (error) {
      pod.close();
      if (names.length > 0) throw error;
      context.reporter.error(error);
      return undefined;
    }
  }));
  return watched.filter((one) => one !== undefined);
}

async function look(watched: Watched): Promise<PodRows> {
  const { pod, agent, last } = watched;
  const usage = await podUsageOf(pod, agent);
  watched.last = usage;
  const elapsedMs = Math.max(1, usage.uptimeMs - last.uptimeMs);
  const pid = readPid(pod);
  return {
    uuid: pod.uuid,
    usage,
    hostMemoryBytes: pid === undefined ? undefined : hostMemoryOf(pid),
    apps: usage.apps.map((app) => {
      const before = last.apps.find((other) => other.app === app.app)?.cpuMicroseconds ?? 0;
      const limitBytes = Math.min(app.memoryLimitBytes ?? Infinity, usage.memoryTotalBytes);
      return { app, cpuPercent: Math.max(0, app.cpuMicroseconds - before) / elapsedMs / 10, limitBytes };
    }),
  };
}

function table(pods: readonly PodRows[]): Result {
  return { kind: 'table', legend: LEGEND, rows: pods.flatMap(podRows) };
}

/** What the apps of a pod share stands in its first row. */
function podRows({ uuid, usage, hostMemoryBytes, apps }: PodRows): string[][] {
  const { receivedBytes, sentBytes } = usage.network;
  const network = `${binarySize(receivedBytes)} / ${binarySize(sentBytes)}`;
  const host = hostMemoryBytes === undefined ? '-' : binarySize(hostMemoryBytes);
  if (apps.length === 0) return [[uuid.slice(0, SHORT_UUID_DIGITS), '-', '-', '-', '-', network, '-', '-', '-', host]];
  return apps.map(({ app, cpuPercent, limitBytes }, index) => [
    index === 0 ? uuid.slice(0, SHORT_UUID_DIGITS) : '',
    printable(app.app),
    percent(cpuPercent),
    `${binarySize(app.memoryBytes)} / ${binarySize(limitBytes)}`,
    percent(memoryPercent(app, limitBytes)),
    index === 0 ? network : '',
    `${binarySize(app.readBytes)} / ${binarySize(app.writtenBytes)}`,
    String(app.processes),
    `${(app.cpuMicroseconds / 1e6).toFixed(3)}s`,
    index === 0 ? host : '',
  ]);
}

function percent(value: number): string {
  return `${value.toFixed(2)}%`;
}

function memoryPercent({ memoryBytes }: AppUsage, limitBytes: number): number {
  return limitBytes === 0 ? 0 : (100 * memoryBytes) / limitBytes;
}

function podJson({ uuid, usage, hostMemoryBytes, apps }: PodRows): Record<string, unknown> {
  return {
    name: uuid,
    network: { received_bytes: usage.network.receivedBytes, sent_bytes: usage.network.sentBytes },
    memory_total_bytes: usage.memoryTotalBytes,
    host_memory_bytes: hostMemoryBytes,
    apps: apps.map(({ app, cpuPercent, limitBytes }) => ({
      name: app.app,
      cpu_percent: Number(cpuPercent.toFixed(2)),
      cpu_time_us: app.cpuMicroseconds,
      memory_bytes: app.memoryBytes,
      memory_peak_bytes: app.memoryPeakBytes,
      memory_limit_bytes: limitBytes,
      memory_percent: Number(memoryPercent(app, limitBytes).toFixed(2)),
      processes: app.processes,
      processes_limit: app.processesLimit,
      read_bytes: app.readBytes,
      written_bytes: app.writtenBytes,
    })),
  };
}
