import { RktError } from '../../error.ts';
import type { InspectedInterface, KnownNetwork } from '../../network/index.ts';
import { openPodByName, pathInPod, walkPods } from '../../pod/index.ts';
import type { PodHandle } from '../../pod/index.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import * as flags from '../flags/table.ts';
import { networkDirectories } from '../network-directories.ts';
import { success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

type Networks = typeof import('../../network/index.ts');

/** An argument is the name of a network, or else a pod. */
export async function run({ values, positional }: ArgumentInput, context: CommandContext): Promise<Outcome> {
  if (positional.length === 0) throw usage('expected names of networks or UUIDs of pods');
  const network = await import('../../network/index.ts');
  const { configurations, plugins } = await networkDirectories(context);
  const known = network.readNetworks(configurations).networks;
  const value = positional.map((text) => {
    const found = known.find(({ configuration }) => configuration.name === text);
    if (found !== undefined) return networkJson(found, { network, pluginDirs: plugins, dataDir: context.dataDir() });
    using pod = openPod(text, context);
    return podJson(pod, network);
  });
  return success({ kind: 'json', value, pretty: values.last(flags.prettyPrint) ?? true });
}

function openPod(text: string, context: CommandContext): PodHandle {
  try {
    return openPodByName(context.dataDir(), text);
  } catch (error) {
    if (error instanceof RktError && error.code === 'NOT_FOUND') throw new RktError('NOT_FOUND', `there is neither a network nor a pod ${JSON.stringify(text)}`);
    throw error;
  }
}

function networkJson({ configuration, path }: KnownNetwork, host: { network: Networks; pluginDirs: readonly string[]; dataDir: string }): Record<string, unknown> {
  const pods: Record<string, unknown>[] = [];
  for (const pod of walkPods(host.dataDir)) {
    for (const { attachment, network } of host.network.readRecords(pathInPod(pod))) {
      if (network.name === configuration.name) pods.push({ pod: pod.uuid, state: pod.state, interface: attachment.ifName });
    }
  }
  return {
    name: configuration.name,
    ...(path === null ? {} : { path }),
    cni_versions: configuration.versions,
    plugins: configuration.plugins.map(({ type, raw }) => ({ type, path: host.network.findPlugin(type, host.pluginDirs) ?? null, configuration: raw })),
    pods,
  };
}

function podJson(pod: PodHandle, { inspectPodNetwork }: Networks): Record<string, unknown> {
  return { pod: pod.uuid, state: pod.state, interfaces: inspectPodNetwork({ uuid: pod.uuid, podDir: pathInPod(pod) }).map(interfaceJson) };
}

/** Counters are seen from the pod. Absent are those of a pod whose network namespace is gone. */
function interfaceJson({ record, result, counters }: InspectedInterface): Record<string, unknown> {
  const { attachment, network, tapMode } = record;
  return {
    name: attachment.ifName,
    network: network.name,
    cni_version: network.version,
    ...(attachment.args === '' ? {} : { args: attachment.args }),
    ...(tapMode === undefined ? {} : { tap: tapMode }),
    addresses: result?.ips.map(({ address, gateway }) => ({ address, ...(gateway === undefined ? {} : { gateway }) })) ?? [],
    ...(attachment.capabilityArgs['portMappings'] === undefined ? {} : { ports: attachment.capabilityArgs['portMappings'] }),
    ...(counters === undefined
      ? {}
      : {
          received: { bytes: counters.receivedBytes, packets: counters.receivedPackets, errors: counters.receivedErrors, dropped: counters.receivedDropped },
          sent: { bytes: counters.sentBytes, packets: counters.sentPackets, errors: counters.sentErrors, dropped: counters.sentDropped },
        }),
  };
}
