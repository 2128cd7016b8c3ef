/** Questions about the networks of one pod. */
import { insideNetworkNamespace, isNetworkNamespace } from '../linux/network-namespace.ts';
import { Netlink } from '../linux/netlink.ts';
import type { LinkCounters } from '../linux/netlink.ts';
import { checkValue } from '../schema/index.ts';
import { currentAttachment, readRecords } from './attachment-record.ts';
import type { AttachmentRecord } from './attachment-record.ts';
import { parseResult } from './cni/result.ts';
import type { Result } from './cni/result.ts';
import { checkNetwork } from './cni/runtime.ts';
import { findingOf } from './network-questions.ts';
import type { Finding } from './network-questions.ts';
import { namespacePath } from './places.ts';
import type { NetworkedPod } from './pod-network.ts';
import { keptPortMappings } from './port-mappings.ts';
import type { PortMapping } from './port-mappings.ts';

/** Ports of this host that lead to the pod. */
export function heldPorts(podDir: string): PortMapping[] {
  return readRecords(podDir).flatMap(({ attachment }) => checkValue(attachment.capabilityArgs['portMappings'], keptPortMappings, { origin: podDir }));
}

/** One network of a pod, as `rkt network check` finds it. */
export interface CheckedNetwork {
  name: string;
  ifName: string;
  /** `unchecked`: its configuration does not want to be checked, or it was never set up completely. */
  outcome: Finding;
}

export async function checkPodNetwork(pod: NetworkedPod): Promise<CheckedNetwork[]> {
  const checked: CheckedNetwork[] = [];
  for (const record of readRecords(pod.podDir)) {
    const { network, attachment, result } = record;
    const outcome = await findingOf(async () => result !== undefined && (await checkNetwork(network, currentAttachment(record), { pluginDirs: pod.pluginDirs, result })));
    checked.push({ name: network.name, ifName: attachment.ifName, outcome });
  }
  return checked;
}

export interface InspectedInterface {
  record: AttachmentRecord;
  result: Result | undefined;
  /** Seen from the pod; absent when its namespace is gone. */
  counters: LinkCounters | undefined;
}

export function inspectPodNetwork(pod: Pick<NetworkedPod, 'uuid' | 'podDir'>): InspectedInterface[] {
  const path = namespacePath(pod.uuid);
  const links = isNetworkNamespace(path) ? insideNetworkNamespace(path, listLinks) : [];
  return readRecords(pod.podDir).map((record) => ({
    record,
    result: record.result === undefined ? undefined : parseResult(JSON.stringify(record.result), `result of ${record.network.name}`),
    counters: links.find(({ name }) => name === record.attachment.ifName)?.counters,
  }));
}

function listLinks(): ReturnType<Netlink['links']> {
  using netlink = new Netlink();
  return netlink.links();
}
