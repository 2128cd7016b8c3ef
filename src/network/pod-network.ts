/**
 * A pod's networks, from the choice to the descriptors of its network cards, and back to nothing. What has been begun is
 * in the pod directory before it is done (attachment-record.ts), so taking down works after any accident.
 */
import { closeSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { RktError } from '../error.ts';
import { lockFile } from '../linux/flock.ts';
import type { Lock } from '../linux/flock.ts';
import { createNetworkNamespace, removeNetworkNamespace } from '../linux/network-namespace.ts';
import type { PodManifest } from '../schema/index.ts';
import { currentAttachment, readRecords, removeRecord, writeRecord } from './attachment-record.ts';
import type { AttachmentRecord } from './attachment-record.ts';
import { capabilityArguments } from './capability-arguments.ts';
import { findPlugin } from './cni/plugin.ts';
import type { PluginHost } from './cni/plugin.ts';
import type { Dns, Result } from './cni/result.ts';
import { addNetwork, chooseVersion, deleteNetwork } from './cni/runtime.ts';
import type { Attachment } from './cni/runtime.ts';
import type { GuestInterface } from './guest-interface.ts';
import { networkInfo } from './network-info.ts';
import type { NetworkInfo } from './network-info.ts';
import type { ChosenNetwork } from './networks.ts';
import { reservePorts, withPortForwarding } from './port-forwarding.ts';
import { lockAgainstCollection, namespacePath } from './places.ts';
import type { PortMapping } from './port-mappings.ts';
import { connectTap } from './tap.ts';

const LOCK = 'net/lock';
/** How long a plugin whose caller has been killed may go on. */
const PLUGIN_PATIENCE_MS = 15_000;
const POLL_MS = 50;
/** A plugin whose interface is always the loopback. */
const LOOPBACK_PLUGIN = 'loopback';
export const LOOPBACK_INTERFACE = 'lo';

/** A pod whose directory and lock the caller holds. */
export interface NetworkedPod {
  uuid: string;
  /** Path of the pod directory. */
  podDir: string;
  pluginDirs: readonly string[];
}

export interface PodNetworkRequest extends NetworkedPod {
  manifest: PodManifest;
  networks: readonly ChosenNetwork[];
  ports: readonly PortMapping[];
  hostname: string;
  /** What the person has asked for; absent when that is left to the networks. */
  dns?: Dns;
  /** Of each network card. */
  queueCount: number;
  log(message: string): void;
}

export interface PodNetwork {
  interfaces: GuestInterface[];
  /** Of the first network that says anything. */
  dns: Dns | undefined;
  /** One for each interface. */
  taps: { ifName: string; fds: number[] }[];
  /** Descriptors that keep the ports of this host. */
  portFds: number[];
  info: NetworkInfo[];
}

/** Throws RktError when anything fails; then nothing is left. */
export async function setUpPodNetwork(request: PodNetworkRequest): Promise<PodNetwork> {
  await tearDownPodNetwork(request); // of an earlier attempt that was killed
  const made: PodNetwork = { interfaces: [], dns: undefined, taps: [], portFds: [], info: [] };
  mkdirSync(join(request.podDir, 'net'), { recursive: true, mode: 0o750 });
  const lock = await lockPlugins(request);
  using _collection = lockAgainstCollection();
  try {
    made.portFds.push(...reservePorts(request.ports));
    createNetworkNamespace(namespacePath(request.uuid));
    const host: PluginHost = { pluginDirs: request.pluginDirs, lockFd: lock.fd };
    for (const planned of planAttachments(request)) await attach(planned, { request, host, made });
    return made;
  } catch (error) {
    for (const fd of [...made.portFds, ...made.taps.flatMap(({ fds }) => fds)]) closeSync(fd);
    lock.release();
    await tearDownPodNetwork(request).catch((second: unknown) => request.log(`taking the network down again: ${String(second)}`));
    throw error;
  } finally {
    lock.release();
  }
}

interface PlannedAttachment {
  network: ChosenNetwork;
  attachment: Attachment;
}

/** Interfaces are eth0, eth1 and so on, in the order of the networks; one whose plugin is `loopback` has none but the loopback's. */
export function interfaceNames(networks: readonly ChosenNetwork[]): string[] {
  let count = 0;
  return networks.map(({ configuration }) => (configuration.plugins[0]?.type === LOOPBACK_PLUGIN ? LOOPBACK_INTERFACE : `eth${count++}`));
}

function planAttachments(request: PodNetworkRequest): PlannedAttachment[] {
  const { networks, forwarding } = request.ports.length === 0 ? { networks: request.networks, forwarding: undefined } : withPortForwarding(request.networks);
  const names = interfaceNames(networks);
  return networks.map((network, index) => {
    const capabilityArgs = capabilityArguments({ manifest: request.manifest, args: network.args, aliases: [request.hostname], dns: request.dns });
    const attachment = {
      containerId: request.uuid,
      namespacePath: namespacePath(request.uuid),
      ifName: names[index] ?? LOOPBACK_INTERFACE,
      args: network.args,
      capabilityArgs: network === forwarding ? { ...capabilityArgs, portMappings: request.ports } : capabilityArgs,
    };
    return { network, attachment };
  });
}

async function attach({ network: chosen, attachment }: PlannedAttachment, context: { request: PodNetworkRequest; host: PluginHost; made: PodNetwork }): Promise<void> {
  const { request, host, made } = context;
  const { versions: _versions, ...configuration } = chosen.configuration;
  const network = { ...configuration, version: await chooseVersion(chosen.configuration, host) };
  const record: AttachmentRecord = { network, attachment: withoutNamespace(attachment) };
  request.log(`Adding network ${JSON.stringify(network.name)} as ${attachment.ifName}`);
  writeRecord(request.podDir, record, { durable: true });
  const result = await addNetwork(network, attachment, {
    ...host,
    onResult: (raw) => {
      record.result = raw;
      writeRecord(request.podDir, record, { durable: false });
    },
  });
  if (attachment.ifName !== LOOPBACK_INTERFACE) {
    const tap = connectTap({ ...attachment, index: made.taps.length, queueCount: request.queueCount, ...(network.tapMode === undefined ? {} : { mode: network.tapMode }) });
    record.tapMode = tap.mode;
    writeRecord(request.podDir, record, { durable: false });
    made.taps.push({ ifName: attachment.ifName, fds: tap.fds });
    made.interfaces.push(tap.guest);
  }
  made.dns ??= saysAnything(result.dns) ? result.dns : undefined;
  made.info.push(networkInfo({ record, result, pluginPath: findPlugin(network.plugins[0]?.type ?? '', host.pluginDirs) }));
}

function withoutNamespace({ namespacePath: _path, ...attachment }: Attachment): AttachmentRecord['attachment'] {
  return attachment;
}

function saysAnything(dns: Result['dns']): boolean {
  return dns.nameservers.length > 0 || dns.search.length > 0 || dns.options.length > 0 || dns.domain !== undefined;
}

/** Undoes everything that is recorded; nothing to do is no error. Throws RktError for the first network that cannot be undone; what is left is tried again next time. */
export async function tearDownPodNetwork(pod: NetworkedPod): Promise<void> {
  const path = namespacePath(pod.uuid);
  const records = readRecords(pod.podDir);
  if (records.length === 0 && !existsSync(path)) return;
  const lock = records.length === 0 ? undefined : await lockPlugins(pod);
  try {
    const failures: unknown[] = [];
    for (const record of records.reverse()) {
      try {
        await deleteNetwork(record.network, currentAttachment(record), { pluginDirs: pod.pluginDirs, result: record.result, ...(lock === undefined ? {} : { lockFd: lock.fd }) });
        removeRecord(pod.podDir, record.attachment.ifName);
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
    removeNetworkNamespace(path);
  } finally {
    lock?.release();
  }
}

/**
 * Plugins inherit the lock's descriptor, so it is free only when none of an earlier caller is at work any more, even if
 * that caller was killed. Throws RktError BUSY.
 */
async function lockPlugins({ uuid, podDir }: NetworkedPod): Promise<Lock> {
  const deadline = performance.now() + PLUGIN_PATIENCE_MS;
  for (;;) {
    const lock = lockFile(join(podDir, LOCK), 'exclusive', { block: false });
    if (lock !== null) return lock;
    if (performance.now() > deadline) throw new RktError('BUSY', `a network plugin of pod "${uuid}" is still at work`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
