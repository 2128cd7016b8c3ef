import type { Finding } from '../../network/index.ts';
import { openPodByName, walkPods } from '../../pod/index.ts';
import type { PodHandle } from '../../pod/index.ts';
import { networkedPod } from '../../stage0/network-release.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import * as flags from '../flags/table.ts';
import { networkDirectories } from '../network-directories.ts';
import { FAILURE_STATUS } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

const LEGEND = ['POD', 'NETWORK', 'INTERFACE', 'STATE'];
const SHORT_UUID_DIGITS = 8;

interface Row {
  pod: string;
  network: string;
  ifName: string;
  outcome: Finding;
}

/** Asks the plugins (CHECK) about running pods: those given, or all; without pods given also whether each network would work (STATUS). */
export async function run({ values, positional }: ArgumentInput, context: CommandContext): Promise<Outcome> {
  const rows = positional.length === 0 ? [...(await checkNetworks(context)), ...(await checkAllPods(context))] : await checkNamedPods(positional, context);
  for (const { outcome, network } of rows) {
    if (outcome instanceof Error) context.reporter.error(outcome, `network ${JSON.stringify(network)}`);
  }
  const cells = rows.map(({ pod, network, ifName, outcome }) => [pod.slice(0, SHORT_UUID_DIGITS), network, ifName, stateText(outcome)]);
  return {
    result: { kind: 'table', rows: cells, ...(values.last(flags.noLegend) === true ? {} : { legend: LEGEND }) },
    exitStatus: rows.some(({ outcome }) => outcome instanceof Error) ? FAILURE_STATUS : 0,
  };
}

function stateText(outcome: Finding): string {
  return outcome instanceof Error ? 'bad' : outcome;
}

async function checkNetworks(context: CommandContext): Promise<Row[]> {
  const { networkReadiness, readNetworks } = await import('../../network/index.ts');
  const { configurations, plugins: pluginDirs } = await networkDirectories(context);
  const { networks, problems } = readNetworks(configurations);
  for (const problem of problems) context.reporter.error(problem);
  const rows: Row[] = [];
  for (const { configuration } of networks) rows.push({ pod: '-', network: configuration.name, ifName: '-', outcome: await networkReadiness(configuration, { pluginDirs }) });
  return rows;
}

async function checkAllPods(context: CommandContext): Promise<Row[]> {
  const rows: Row[] = [];
  for (const pod of walkPods(context.dataDir(), ['run'])) {
    if (pod.state === 'running') rows.push(...(await checkPod(pod, context)));
  }
  return rows;
}

async function checkNamedPods(names: readonly string[], context: CommandContext): Promise<Row[]> {
  const rows: Row[] = [];
  for (const name of names) {
    using pod = openPodByName(context.dataDir(), name);
    rows.push(...(await checkPod(pod, context)));
  }
  return rows;
}

async function checkPod(pod: PodHandle, context: CommandContext): Promise<Row[]> {
  const { checkPodNetwork } = await import('../../network/index.ts');
  const { plugins } = await networkDirectories(context);
  return (await checkPodNetwork(networkedPod(pod, plugins))).map(({ name, ifName, outcome }) => ({ pod: pod.uuid, network: name, ifName, outcome }));
}
