/** Connects a pod with its networks before its stage1 is called, and takes that down again when it has ended. */
import { closeSync, writeFileSync } from 'node:fs';
import { RktError } from '../error.ts';
import { hasEnded, lockExclusively, pathInPod, POD_FILES, unlockPod, walkPods } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import type { AttachmentRecord, Dns, Finding, NetworkDirectories, NetworkedPod, PodNetwork, PortMapping } from '../network/index.ts';
import type { ImageManifest, PodManifest } from '../schema/index.ts';
import { annotationValue } from './entrypoint.ts';
import type { NetworkPlan } from './network-plan.ts';

/** Annotation of a stage1 that leaves networks to stage0 and takes descriptors of tap devices; others do it all themselves, as rkt's did. */
const NETWORK_ANNOTATION = 'rkt/network';
const FORMAT_VERSION = 1;
const FILE_MODE = 0o640;
/** More queues than that are rarely of use, and each takes a descriptor and a thread. */
const MAX_QUEUES = 4;

/** What the pod's programs are told about names: rkt's `--dns-conf-mode`, and what goes with its mode `stage0`. */
export interface NameSettings {
  resolv: 'host' | 'stage0' | 'none' | 'default';
  dns: Dns;
  hosts: 'host' | 'stage0' | 'default';
  hostsEntries: readonly { address: string; name: string }[];
}

export interface NetworkRequest {
  /** As the person named them. */
  networks: readonly { name: string; args?: string }[];
  /** What that comes to. */
  network: NetworkPlan;
  names: NameSettings;
  hostname?: string;
  log(message: string): void;
}

/** What the networks have to know of the pod. */
interface PodParts {
  manifest: PodManifest;
  stage1: ImageManifest;
  /** Processors of the virtual machine, where the person has said. */
  cpus: number | undefined;
}

/** What stage1 is told. */
export interface NetworkArguments {
  args: string[];
  /** Descriptors it inherits. */
  inherit: number[];
}

/** The pod is locked by this process. Throws RktError when a network cannot be set up; then nothing of any is left. */
export async function connectPod(pod: PodHandle, request: NetworkRequest, { manifest, stage1, cpus }: PodParts): Promise<NetworkArguments> {
  writeNames(pod, request);
  const { network: plan } = request;
  if (plan.kind === 'none' && (manifest.ports ?? []).length > 0) throw new RktError('USAGE', "--port flag does not work with 'none' networking");
  if (plan.kind === 'none' || annotationValue(stage1, NETWORK_ANNOTATION) !== 'tap') return { args: [], inherit: [] };
  const { collide, portMappings, setUpPodNetwork } = await import('../network/index.ts');
  const ports = portMappings(manifest);
  if (plan.kind === 'user') return connectUserNetwork(pod, request, ports);

  const { pluginDirs } = plan;
  if (ports.length > 0) await releaseNetworks(pod.dataDir, { pluginDirs, when: (held) => held.some((theirs) => ports.some((ours) => collide(theirs, ours))) });
  const setUp = (): Promise<PodNetwork> =>
    setUpPodNetwork({
      ...networkedPod(pod, pluginDirs),
      manifest,
      networks: plan.networks,
      ports,
      hostname: request.hostname ?? `rkt-${pod.uuid}`,
      queueCount: Math.min(cpus ?? 1, MAX_QUEUES),
      log: request.log,
      ...(request.names.resolv === 'stage0' ? { dns: request.names.dns } : {}),
    });
  const made = await setUp().catch(async (error: unknown) => {
    // What pods that have ended still hold may be just what is missing: addresses, above all.
    const { releasedCount } = await releaseNetworks(pod.dataDir, { pluginDirs });
    if (releasedCount === 0) throw error;
    return await setUp();
  });
  write(pod, POD_FILES.networks, JSON.stringify(made.info));
  write(pod, POD_FILES.guestNetwork, JSON.stringify({ formatVersion: FORMAT_VERSION, interfaces: made.interfaces, ...(made.dns === undefined ? {} : { dns: made.dns }) }));
  return networkArguments(made);
}

function networkArguments({ taps, portFds }: PodNetwork): NetworkArguments {
  const args = taps.map(({ ifName, fds }) => `--tap=${ifName}=${fds.join(':')}`);
  if (portFds.length > 0) args.push(`--hold-fds=${portFds.join(':')}`);
  return { args, inherit: [...taps.flatMap(({ fds }) => fds), ...portFds] };
}

const USER_NETWORK = { name: 'user', ifName: 'eth0', ip: '10.0.2.15', mask: '255.255.255.0' } as const;

/** QEMU has to take the ports itself, so they can only be tried here. */
async function connectUserNetwork(pod: PodHandle, request: NetworkRequest, ports: readonly PortMapping[]): Promise<NetworkArguments> {
  const beyond = ports.find(({ protocol, hostIP = '' }) => protocol === 'sctp' || hostIP.includes(':'));
  if (beyond !== undefined) throw new RktError('UNSUPPORTED', `port ${beyond.hostPort}: the user-mode network forwards TCP and UDP from IPv4 addresses only`);
  if (ports.length > 0) {
    const { reservePorts } = await import('../network/index.ts');
    for (const fd of reservePorts(ports.map((port) => ({ hostIP: '0.0.0.0', ...port })))) closeSync(fd);
  }
  const [choice] = request.networks;
  write(pod, POD_FILES.networks, JSON.stringify([{ netName: choice?.name ?? USER_NETWORK.name, ifName: USER_NETWORK.ifName, ip: USER_NETWORK.ip, mask: USER_NETWORK.mask, netConf: '', pluginPath: '', args: '' }]));
  return { args: ports.map(userPort), inherit: [] };
}

function userPort({ protocol, hostIP = '', hostPort, containerPort }: PortMapping): string {
  return `--user-port=${protocol}:${hostIP}:${hostPort}-${containerPort}`;
}

/** What the person has said about names, in the files that stage1 reads with `--dns-conf-mode=…=stage0`. */
function writeNames(pod: PodHandle, { names }: NetworkRequest): void {
  if (names.resolv === 'stage0') {
    const { nameservers, search, options, domain } = names.dns;
    const lines = [
      ...(domain === undefined ? [] : [`domain ${domain}`]),
      ...(search.length === 0 ? [] : [`search ${search.join(' ')}`]),
      ...nameservers.map((server) => `nameserver ${server}`),
      ...(options.length === 0 ? [] : [`options ${options.join(' ')}`]),
    ];
    write(pod, POD_FILES.resolvConf, `# Generated by rkt\n${lines.join('\n')}\n`);
  }
  if (names.hosts === 'stage0') write(pod, POD_FILES.hosts, names.hostsEntries.map(({ address, name }) => `${address} ${name}\n`).join(''));
}

function write(pod: PodHandle, name: string, text: string): void {
  writeFileSync(pathInPod(pod, name), text, { mode: FILE_MODE });
}

/** Leases, links and rules of the pod, wherever its start was interrupted. Throws RktError for what cannot be removed now. */
export async function disconnectPod(pod: PodHandle, pluginDirs: readonly string[]): Promise<void> {
  const { tearDownPodNetwork } = await import('../network/index.ts');
  await tearDownPodNetwork(networkedPod(pod, pluginDirs));
}

export function networkedPod(pod: PodHandle, pluginDirs: readonly string[]): NetworkedPod {
  return { uuid: pod.uuid, podDir: pathInPod(pod), pluginDirs };
}

interface Released {
  releasedCount: number;
  /** Of pods whose network cannot be taken down now. */
  problems: RktError[];
}

/**
 * Takes down the networks of pods that have ended or whose start was interrupted, without waiting until the pods
 * themselves are removed. `when` looks at the ports a pod holds; without it all are meant.
 */
export async function releaseNetworks(dataDir: string, { pluginDirs, when }: { pluginDirs: readonly string[]; when?(ports: readonly PortMapping[]): boolean }): Promise<Released> {
  const { heldPorts, readRecords } = await import('../network/index.ts');
  const released: Released = { releasedCount: 0, problems: [] };
  for (const pod of walkPods(dataDir, ['prepared', 'run', 'exited-garbage'])) {
    if (pod.state !== 'prepared' && !hasEnded(pod.state)) continue;
    const podDir = pathInPod(pod);
    if (readRecords(podDir).length === 0 || when?.(heldPorts(podDir)) === false || !lockExclusively(pod)) continue;
    try {
      await disconnectPod(pod, pluginDirs);
      released.releasedCount++;
    } catch (cause) {
      released.problems.push(new RktError('BUSY', `the network of pod "${pod.uuid}", which has ended, cannot be taken down`, { cause }));
    } finally {
      unlockPod(pod);
    }
  }
  return released;
}

/**
 * Lets the networks that this host has for rkt alone remove what belongs to none of its pods (CNI's GC, 1.1.0). Gives the
 * problems; networks that know nothing of it are passed over.
 */
export async function collectNetworkGarbage(dataDir: string, directories: NetworkDirectories): Promise<RktError[]> {
  const network = await import('../network/index.ts');
  const [ownDirectory] = directories.configurations;
  const own = network.readNetworks(directories.configurations).networks.filter(({ path }) => path !== null && ownDirectory !== undefined && path.startsWith(`${ownDirectory}/`));
  if (own.length === 0) return [];
  using lock = network.lockForCollection();
  if (lock === null) return [];
  const records: AttachmentRecord[] = [];
  for (const pod of walkPods(dataDir)) records.push(...network.readRecords(pathInPod(pod)));
  const findings: Finding[] = [];
  for (const { configuration } of own) {
    const valid = records.filter((record) => record.network.name === configuration.name).map(({ attachment }) => attachment);
    findings.push(await network.collectUnused(configuration, valid, { pluginDirs: directories.plugins }));
  }
  return findings.filter((finding) => finding instanceof RktError);
}
