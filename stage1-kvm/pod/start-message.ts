/** The agent's first message: everything the guest needs to start the pod. Pure. */
import { WIRE_VERSION, type HostMessage, type HostShare, type Network, type Stdio, type TerminalSize } from '../../src/wire/messages.ts';
import { USER_NETWORK_MAC } from '../vmm/qemu-arguments.ts';
import { SCRATCH_SERIAL } from '../vmm/machine.ts';
import type { RunOptions } from '../options.ts';
import { stdioOfModes, type AppStreamSettings } from '../relay/stream-settings.ts';
import type { GuestNetwork } from './guest-network.ts';
import { rootHashOf, type PodAppRoot } from './directory.ts';

export interface StartFacts {
  podManifest: string;
  apps: readonly PodAppRoot[];
  /** In manifest order. */
  streams: readonly AppStreamSettings[];
  /** Null: standard input is no terminal. */
  terminal: TerminalSize | null;
  hasScratchDisk: boolean;
  shares: readonly HostShare[];
  /** Null: the pod has no TPM. */
  hostLogHex: string | null;
  /** Null: there are no tap devices. */
  guestNetwork: GuestNetwork | null;
  wallClockNs: bigint;
  entropyHex: string;
  /** Null: the pod is not registered with a metadata service. */
  metadataToken: string | null;
  /** The host's own configuration files, where --dns-conf-mode asks for them. */
  resolvConf: string | null;
  hostsFile: string | null;
}

/** Without a disk the writable layer is memory: a part of it, as tmpfs itself would take. */
const SCRATCH_TMPFS_BYTES = 256 << 20;

export function appSerial(index: number): string {
  return `app-${index + 1}`;
}

/** Only the first app of an interactive pod gets this process's standard input; otherwise the pod manifest says how an app is connected. */
export function stdioOf(options: Pick<RunOptions, 'interactive'>, { index, settings }: { index: number; settings: AppStreamSettings | undefined }, terminal: TerminalSize | null): Stdio {
  if (!options.interactive || index > 0) return settings === undefined ? { kind: 'streams', stdin: false } : stdioOfModes(settings.modes);
  return terminal === null ? { kind: 'streams', stdin: true } : { kind: 'tty', size: terminal };
}

export function startMessage(options: RunOptions, facts: StartFacts): HostMessage & { type: 'start' } {
  return {
    type: 'start',
    version: WIRE_VERSION,
    uuid: options.uuid,
    hostname: options.hostname ?? `rkt-${options.uuid}`,
    podManifest: facts.podManifest,
    apps: facts.apps.map((root, index) => ({
      name: root.app.name,
      process: index + 1,
      disk: { serial: appSerial(index), dataBlocks: root.disk.dataBlocks, hashStartBlock: root.disk.hashStartBlock, rootHashHex: rootHashOf(root) },
      ...(root.share === undefined ? {} : { share: root.share.tag }),
      stdio: stdioOf(options, { index, settings: facts.streams[index] }, facts.terminal),
    })),
    scratch: facts.hasScratchDisk ? { kind: 'disk', serial: SCRATCH_SERIAL } : { kind: 'tmpfs', sizeBytes: SCRATCH_TMPFS_BYTES },
    shares: [...facts.shares],
    network: networkOf(options, facts),
    wallClockNs: facts.wallClockNs.toString(),
    entropyHex: facts.entropyHex,
    insecure: options.insecure,
    hostLogHex: facts.hostLogHex,
    sealed: options.sealed,
    ...(facts.metadataToken === null ? {} : { metadataToken: facts.metadataToken }),
  };
}

/** QEMU's user-mode network has these addresses unless told otherwise. Site-local IPv6 ones, so that programs prefer IPv4: this host may have no IPv6. */
const USER_NETWORK: GuestNetwork = {
  interfaces: [{
    mac: USER_NETWORK_MAC,
    name: 'eth0',
    addresses: ['10.0.2.15/24', 'fec0::15/64'],
    routes: [
      { destination: '10.0.2.0/24' }, { destination: '0.0.0.0/0', gateway: '10.0.2.2' },
      { destination: 'fec0::/64' }, { destination: '::/0', gateway: 'fec0::2' },
    ],
    neighbours: [],
  }],
  dns: { nameservers: ['10.0.2.3'], search: [], options: [] },
};

function networkOf(options: RunOptions, facts: StartFacts): Network | null {
  const copied = facts.resolvConf === null ? null : parseResolvConf(facts.resolvConf);
  const hosts = facts.hostsFile === null ? [] : parseHosts(facts.hostsFile);
  const given = options.network.kind === 'user' ? USER_NETWORK : facts.guestNetwork;
  if (given === null && copied === null && hosts.length === 0) return null;
  const dns = copied ?? given?.dns ?? null;
  return { interfaces: given?.interfaces ?? [], dns: dns ?? emptyDns(), writeResolvConf: dns !== null && options.dns.resolv !== 'none', hosts };
}

function emptyDns(): Network['dns'] {
  return { nameservers: [], search: [], options: [] };
}

function words(line: string): string[] {
  return line.split('#')[0]!.split('\t').join(' ').split(' ').filter((word) => word !== '');
}

/** resolv.conf(5) */
export function parseResolvConf(text: string): Network['dns'] {
  const dns = emptyDns();
  for (const line of text.split('\n')) {
    if (line.startsWith(';')) continue;
    const [keyword, ...values] = words(line);
    if (keyword === 'nameserver' && values[0] !== undefined) dns.nameservers.push(values[0]);
    else if (keyword === 'search') dns.search = values;
    else if (keyword === 'options') dns.options.push(...values);
    else if (keyword === 'domain' && values[0] !== undefined) dns.domain = values[0];
  }
  return dns;
}

/** hosts(5) */
export function parseHosts(text: string): Network['hosts'] {
  const hosts: Network['hosts'] = [];
  for (const line of text.split('\n')) {
    const [address, ...names] = words(line);
    if (address !== undefined && names.length > 0) hosts.push({ address, names });
  }
  return hosts;
}
