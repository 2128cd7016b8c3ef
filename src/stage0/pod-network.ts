/** Connects a pod with its networks before its stage1 is called. */
import { closeSync, writeFileSync } from 'node:fs';
import { RktError } from '../error.ts';
import { pathInPod, POD_FILES } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import type { Dns, PodNetwork, PortMapping } from '../network/index.ts';
import type { ImageManifest, PodManifest } from '../schema/index.ts';
import type { NetworkPlan } from './network-plan.ts';
import { networkedPod, releaseNetworks } from './network-release.ts';
import { dividePorts, passedSockets } from './socket-activation.ts';
import { networkKind } from './stage1-abilities.ts';

const FORMAT_VERSION = 1;
const FILE_MODE = 0o640;
/** More queues than that are rarely of use, and each takes a descriptor and a thread. */
const MAX_QUEUES = 4;
/** Stands for one that would be there: it is not used. */
const NO_DESCRIPTOR = 3;

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
  /** For the person, always. */
  warn(message: string): void;
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
export async function connectPod(pod: PodHandle, request: NetworkRequest, parts: PodParts): Promise<NetworkArguments> {
  writeNames(pod, request);
  const sockets = passedSockets();
  const { activated, others } = dividePorts(parts.manifest, sockets, (message) => request.warn(message));
  const made = await joinNetworks(pod, request, { ...parts, ports: others });
  // Another stage1 finds them by itself, as rkt's did.
  const args = networkKind(parts.stage1) !== 'tap' ? [] : activated.map(({ fd, port }) => `--listen=${fd}=${port}`);
  return { args: [...made.args, ...args], inherit: [...made.inherit, ...sockets.map(({ fd }) => fd)] };
}

async function joinNetworks(pod: PodHandle, request: NetworkRequest, { manifest, stage1, cpus, ports }: PodParts & { ports: readonly PortMapping[] }): Promise<NetworkArguments> {
  const { network: plan } = request;
  const kind = networkKind(stage1);
  const without = kind === 'host' ? 'host' : plan.kind === 'none' ? 'none' : undefined;
  if (without !== undefined && ports.length > 0) throw new RktError('USAGE', `--port flag does not work with '${without}' networking`);
  if (plan.kind === 'none' || plan.kind === 'host' || kind !== 'tap') return { args: [], inherit: [] };
  const { collide, setUpPodNetwork } = await import('../network/index.ts');
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

/** What stage1 would be told of networks, where only the shape of the machine matters: nothing is made. */
export async function plannedNetworkArguments({ network: plan }: Pick<NetworkRequest, 'network'>, stage1: ImageManifest): Promise<string[]> {
  if (plan.kind !== 'cni' || networkKind(stage1) !== 'tap') return [];
  const { interfaceNames, LOOPBACK_INTERFACE } = await import('../network/index.ts');
  return interfaceNames(plan.networks).filter((name) => name !== LOOPBACK_INTERFACE).map((name) => `--tap=${name}=${NO_DESCRIPTOR}`);
}

const USER_NETWORK = { netName: 'user', netConf: '', pluginPath: '', ifName: 'eth0', ip: '10.0.2.15', args: '', mask: '255.255.255.0', ip6: 'fec0::15' } as const;

/** QEMU has to take the ports itself, so they can only be tried here. */
async function connectUserNetwork(pod: PodHandle, request: NetworkRequest, ports: readonly PortMapping[]): Promise<NetworkArguments> {
  const beyond = ports.find(({ protocol, hostIP = '' }) => protocol === 'sctp' || hostIP.includes(':'));
  if (beyond !== undefined) throw new RktError('UNSUPPORTED', `port ${beyond.hostPort}: the user-mode network forwards TCP and UDP from IPv4 addresses only`);
  if (ports.length > 0) {
    const { reservePorts } = await import('../network/index.ts');
    for (const fd of reservePorts(ports.map((port) => ({ hostIP: '0.0.0.0', ...port })))) closeSync(fd);
  }
  const [choice] = request.networks;
  write(pod, POD_FILES.networks, JSON.stringify([{ ...USER_NETWORK, ...(choice === undefined ? {} : { netName: choice.name }) }]));
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
