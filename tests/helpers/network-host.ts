/**
 * A host for network tests: this process and all it starts get a network of their own, and their own copies of the places
 * that plugins keep state in. Nothing of it is left when the process ends.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, existsSync, mkdirSync } from 'node:fs';
import { callInts } from '../../src/linux/libc.ts';
import { createNetworkNamespace, insideNetworkNamespace, removeNetworkNamespace } from '../../src/linux/network-namespace.ts';
import { openTap } from '../../src/linux/tap-device.ts';
import type { GuestInterface } from '../../src/network/guest-interface.ts';
import { eventually } from './rkt.ts';

const CLONE_NEWNS = 0x20000;
const CLONE_NEWNET = 0x40000000;
/** Also where other runtimes keep their networks, which are nothing to these tests. */
const STATE_DIRECTORIES = ['/var/lib/cni', '/run/rkt', '/etc/cni'];
export const PLUGIN_DIR = '/usr/lib/cni';

/** Why there can be no such host here, or undefined. */
export function reasonForNoNetwork(): string | undefined {
  if (process.getuid?.() !== 0) return 'not root';
  if (!existsSync(`${PLUGIN_DIR}/bridge`)) return 'containernetworking-plugins is not installed';
  if (spawnSync('unshare', ['-n', 'true']).status !== 0) return 'no network namespaces';
  if (spawnSync('unshare', ['-n', 'iptables', '-t', 'nat', '-L', '-n']).status !== 0) return 'iptables does not work';
  return undefined;
}

/** Whether the kernel knows this kind of interface. */
export function kernelHas(kind: string): boolean {
  return spawnSync('unshare', ['-n', 'sh', '-c', `ip link add veth0 type veth peer name veth1 && ip link add link veth0 name third type ${kind}`], { stdio: 'ignore' }).status === 0;
}

/** From here on the main thread, and with it every child process, is in the new namespaces. */
export function becomeNetworkHost(): void {
  leaveNamespaces(CLONE_NEWNS | CLONE_NEWNET);
  run('mount -t sysfs sysfs /sys');
  const made = STATE_DIRECTORIES.filter((directory) => mkdirSync(directory, { recursive: true }) !== undefined);
  for (const directory of STATE_DIRECTORIES) run(`mount -t tmpfs tmpfs ${directory}`);
  process.once('exit', () => {
    for (const directory of made) run(`umount -l ${directory}; rmdir ${directory} || true`);
  });
  run('ip link set lo up');
}

/** From here on there is nothing in these directories, for the main thread and every child process. */
export function hideDirectories(paths: readonly string[]): void {
  leaveNamespaces(CLONE_NEWNS);
  for (const path of paths.filter((candidate) => existsSync(candidate))) run(`mount -t tmpfs -o mode=755 tmpfs ${path}`);
}

function leaveNamespaces(flags: number): void {
  const { value } = callInts('unshare', flags);
  if (value === -1) throw new Error('unshare');
  run('mount --make-rprivate /');
}

export function run(command: string): string {
  return execFileSync('/bin/sh', ['-ec', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

export function runIn(namespace: string, command: string): string {
  return execFileSync('nsenter', [`--net=${namespace}`, '/bin/sh', '-ec', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** What concerns one pod; chains and rules that plugins make once for all are left out. */
const POD_RULE = 'CNI-DN-|CNI-[0-9a-f]{20}|^-A CNI-FORWARD -[sd]';

/** Everything that networks of pods may leave behind on the host, as text. Two hosts with nothing left look the same. */
export function leftovers(): string {
  return run(`
    ip -o link | sed 's/^[0-9]*: //; s/@.*//; s/:.*//'
    ip -4 route; ip -6 route | grep -v fe80:: || true
    (iptables-save; ip6tables-save) 2>/dev/null | grep -E '${POD_RULE}' || true
    find /var/lib/cni -type f ! -name lock ! -name 'last_reserved_ip*'
    ls -A /run/rkt/netns 2>/dev/null || true
  `);
}

export interface Place {
  /** File of the namespace. */
  namespace: string;
  close(): void;
}

/** The rest of the world: a namespace behind a cable, `host` on this end of it. IPv4 only knows the way to the host; so does IPv6. */
export function outsideWorld(): Place & { address4: string; address6: string; host4: string; host6: string } {
  const namespace = `/run/rkt/outside-${process.pid}`;
  createNetworkNamespace(namespace);
  run(`
    ip link add wan0 type veth peer name cable
    ip link set cable netns ${namespace}
    ip addr add 192.0.2.1/24 dev wan0
    ip addr add 2001:db8::1/64 dev wan0 nodad
    ip link set wan0 up
  `);
  runIn(namespace, `
    ip link set lo up
    ip addr add 192.0.2.2/24 dev cable
    ip addr add 2001:db8::2/64 dev cable nodad
    ip link set cable up
    ip -6 route add default via 2001:db8::1
  `);
  return {
    namespace, address4: '192.0.2.2', address6: '2001:db8::2', host4: '192.0.2.1', host6: '2001:db8::1',
    close: () => {
      removeNetworkNamespace(namespace);
      run('ip link del wan0 2>/dev/null || true');
    },
  };
}

export interface Card {
  guest: GuestInterface;
  /** The tap's descriptors. */
  fds: readonly number[];
}

/**
 * A guest without a virtual machine: a namespace with a network card for each tap, frames carried from one to the other by
 * `cat`, configured as the agent would configure it.
 */
export function fakeGuest(name: string, cards: readonly Card[]): Place {
  const namespace = `/run/rkt/guest-${name}`;
  createNetworkNamespace(namespace);
  runIn(namespace, 'ip link set lo up');
  const carriers: ChildProcess[] = [];
  for (const { guest, fds } of cards) {
    const [own = -1] = insideNetworkNamespace(namespace, () => openTap(guest.name, 1));
    const [tap = -1] = fds;
    // A write to a card that is down would end the carrier.
    configure(namespace, guest);
    // One read is one frame, and so is one write.
    for (const [from, to] of [[own, tap], [tap, own]] as const) carriers.push(spawn('cat', [], { stdio: [from, to, 'ignore'] }));
    closeSync(own);
    for (const fd of fds) closeSync(fd);
  }
  return {
    namespace,
    close: () => {
      for (const carrier of carriers) carrier.kill('SIGKILL');
      removeNetworkNamespace(namespace);
    },
  };
}

function configure(namespace: string, { name, mac, mtu, addresses, routes, neighbours }: GuestInterface): void {
  const link = `ip link set ${name} address ${mac} mtu ${mtu} up`;
  const lines = [
    ...addresses.map((address) => `ip addr add ${address} dev ${name} noprefixroute ${address.includes(':') ? 'nodad' : ''}`),
    ...routes.map(({ destination, gateway, source, metric }) => [
      `ip ${destination.includes(':') ? '-6' : '-4'} route replace ${destination} dev ${name}`,
      gateway === undefined ? '' : `via ${gateway}`, source === undefined ? '' : `src ${source}`, metric === undefined ? '' : `metric ${metric}`,
    ].join(' ')),
    ...neighbours.map((neighbour) => `ip neigh replace ${neighbour.address} lladdr ${neighbour.mac} dev ${name}`),
  ];
  runIn(namespace, [link, ...lines].join('\n'));
}

const SERVER = `
const greeting = (address) => process.argv[1] + ' to ' + address.replace('::ffff:', '') + '\\n';
require('net').createServer((socket) => socket.on('error', () => {}).end(greeting(socket.remoteAddress))).listen(+process.argv[2], '::', () => {
  const udp = require('dgram').createSocket('udp6');
  udp.on('message', (_, from) => udp.send(greeting(from.address), from.port, from.address));
  udp.bind(+process.argv[2], '::', () => console.log('ready'));
});`;

/** Says `NAME to CLIENT` to everybody who asks by TCP or UDP. */
export async function startServer(namespace: string | undefined, { name, port }: { name: string; port: number }): Promise<{ port: number; close(): void }> {
  const enter = namespace === undefined ? [] : ['nsenter', `--net=${namespace}`];
  const [program = '', ...args] = [...enter, process.execPath, '-e', SERVER, name, String(port)];
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  await eventually(`the server ${name} is ready`, () => output.includes('ready'));
  return { port, close: () => void child.kill('SIGKILL') };
}

/** The server's answer, or what prevented it. From the host when there is no namespace. */
export function ask(namespace: string | undefined, { protocol = 'tcp', address, port }: { protocol?: 'tcp' | 'udp'; address: string; port: number }): string {
  return bash(namespace, `exec 3<>/dev/${protocol}/${address}/${port} && echo >&3 && head -n 1 <&3`);
}

/** The last line of what a web server answers. */
export function fetchPath(namespace: string | undefined, { address, port = 80, path }: { address: string; port?: number; path: string }): string {
  return bash(namespace, `exec 3<>/dev/tcp/${address}/${port} && printf 'GET ${path} HTTP/1.0\\r\\n\\r\\n' >&3 && tail -n 1 <&3`);
}

function bash(namespace: string | undefined, script: string): string {
  const enter = namespace === undefined ? [] : ['nsenter', `--net=${namespace}`];
  const [program = '', ...args] = [...enter, 'timeout', '3', 'bash', '-c', script];
  const { stdout, stderr, status } = spawnSync(program, args, { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : `status ${status ?? -1} ${stderr.trim()}`;
}
