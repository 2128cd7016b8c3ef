/**
 * Throughput and latency between this host and a guest, for each way of connecting one, beside a plain veth cable to a process
 * in a network namespace; and what networks add to `rkt run` beyond the time of their plugins. Interleaved, medians; machines
 * here are noisy, so trust the ratios. Runs on a host of its own (a network namespace); needs root.
 *
 *   node bench/net.ts [--rounds=3]
 */
import { execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createNetworkNamespace, removeNetworkNamespace } from '../src/linux/network-namespace.ts';
import { makeOciLayout } from '../tests/helpers/make-image.ts';
import { becomeNetworkHost, PLUGIN_DIR, reasonForNoNetwork, run, runIn } from '../tests/helpers/network-host.ts';
import { eventually } from '../tests/helpers/rkt.ts';
import { median } from './statistics.ts';

const ROOT = join(import.meta.dirname, '..');
const RKT = join(ROOT, 'bin/rkt');
const ECHO_PORT = 1001;
const SOURCE_PORT = 1002;
const SINK_PORT = 1003;
/** Where QEMU's user-mode network shows the guest's ports on this host. */
const FORWARDED = 10_000;
const PINGS = 300;
const PING_BYTES = 64;
const TRANSFER_BYTES = 64 << 20;
const CHUNK = Buffer.alloc(1 << 16);
const SET_UP_ROUNDS = 16;
const SERVERS = `
busybox nc -ll -p ${ECHO_PORT} -e busybox cat &
busybox nc -ll -p ${SOURCE_PORT} -e busybox cat /dev/zero &
busybox nc -ll -p ${SINK_PORT} -e busybox dd of=/dev/null bs=64k 2>/dev/null &
wait`;

interface Measured {
  roundTripUs: number;
  toHostMBps: number;
  toGuestMBps: number;
}

interface Contender {
  name: string;
  /** Servers that are up, and how to end them. */
  start(): Promise<{ address: string; portOffset: number; stop(): Promise<void> }>;
}

const rounds = Number(process.argv.find((argument) => argument.startsWith('--rounds='))?.slice('--rounds='.length) ?? 3);
const reason = reasonForNoNetwork();
if (reason !== undefined) throw new Error(reason);
const work = mkdtempSync(join(tmpdir(), 'rkt-bench-net-'));
const rktArguments = [`--dir=${join(work, 'data')}`, `--local-config=${work}`];
try {
  await main();
} finally {
  rmSync(work, { recursive: true, force: true });
}

async function main(): Promise<void> {
  becomeNetworkHost();
  mkdirSync(join(work, 'net.d'));
  for (const tap of ['redirect', 'bridge', 'macvtap']) {
    const plugins = [{ type: 'ptp', ipam: { type: 'host-local', subnet: '10.77.0.0/24' } }];
    writeFileSync(join(work, 'net.d', `${tap}.conflist`), JSON.stringify({ cniVersion: '1.0.0', name: tap, rkt: { tap }, plugins }));
  }
  const ports = [ECHO_PORT, SOURCE_PORT, SINK_PORT];
  const image = makeOciLayout(join(work, 'image.oci'), { exec: ['/bin/sh'], ports: ports.map((port) => `${port}/tcp`) });
  const contenders: Contender[] = [
    { name: 'veth', start: startPlain },
    ...['redirect', 'bridge', 'macvtap'].map((name) => ({ name, start: () => startPod(image, [`--net=${name}`], { portOffset: 0 }) })),
    { name: 'user', start: () => startPod(image, ['--net=user', ...ports.map((port) => `--port=${port}-tcp:127.0.0.1:${FORWARDED + port}`)], { address: '127.0.0.1', portOffset: FORWARDED }) },
  ];
  const results = new Map<string, Measured[]>(contenders.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const { name, start } of contenders) {
      const peer = await start();
      results.get(name)?.push(await measure(peer.address, peer.portOffset));
      await peer.stop();
    }
    process.stderr.write(`\rround ${round + 1} of ${rounds}`);
  }
  process.stderr.write('\n');
  const middle = (name: string, field: keyof Measured): number => round1(median((results.get(name) ?? []).map((measured) => measured[field])));
  const connections = Object.fromEntries(contenders.map(({ name }) => [name, { roundTripUs: middle(name, 'roundTripUs'), toHostMBps: middle(name, 'toHostMBps'), toGuestMBps: middle(name, 'toGuestMBps') }]));
  const setUp = measureSetUp(image);
  mkdirSync(join(import.meta.dirname, 'out'), { recursive: true });
  writeFileSync(join(import.meta.dirname, 'out/net.json'), `${JSON.stringify({ rounds, connections, setUp }, null, 2)}\n`);
  console.log('connection   round trip µs   to host MB/s   to guest MB/s');
  for (const [name, measured] of Object.entries(connections)) {
    console.log(`${name.padEnd(12)} ${String(measured.roundTripUs).padStart(13)} ${String(measured.toHostMBps).padStart(14)} ${String(measured.toGuestMBps).padStart(15)}`);
  }
  console.log(`\nrkt run of /bin/true, median ms: --net=none ${setUp.noneMs}, --net=redirect ${setUp.networkMs}; its plugins alone ${setUp.pluginsMs}`);
  console.log(`added beyond the plugins: ${setUp.addedPercent} % of a run without a network`);
}

/** The servers in a namespace behind a veth cable. */
async function startPlain(): ReturnType<Contender['start']> {
  const namespace = join('/run/rkt', `bench-${process.pid}`);
  createNetworkNamespace(namespace);
  run(`ip link add plain0 type veth peer name plain1; ip link set plain1 netns ${namespace}; ip addr add 10.78.0.1/24 dev plain0; ip link set plain0 up`);
  runIn(namespace, 'ip addr add 10.78.0.2/24 dev plain1; ip link set plain1 up');
  const child = spawn('nsenter', [`--net=${namespace}`, 'sh', '-c', SERVERS], { stdio: 'ignore', detached: true });
  await answering('10.78.0.2', ECHO_PORT);
  return {
    address: '10.78.0.2',
    portOffset: 0,
    stop: async () => {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      run('ip link del plain0');
      removeNetworkNamespace(namespace);
    },
  };
}

async function startPod(image: string, flags: string[], known: { address?: string; portOffset: number }): ReturnType<Contender['start']> {
  const uuidFile = join(work, 'uuid');
  rmSync(uuidFile, { force: true });
  const child = spawn(RKT, [...rktArguments, 'run', ...flags, `--uuid-file-save=${uuidFile}`, image, '--exec=/bin/sh', '--', '-c', SERVERS], { stdio: 'ignore' });
  const address = known.address ?? (await eventually('the pod has an address', () => podAddress(uuidFile)));
  await answering(address, known.portOffset + ECHO_PORT);
  return { address, portOffset: known.portOffset, stop: () => stopPod(child) };
}

function podAddress(uuidFile: string): string | undefined {
  try {
    const status = execFileSync(RKT, [...rktArguments, 'status', `--uuid-file=${uuidFile}`], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return /ip4=([\d.]+)/.exec(status)?.[1];
  } catch {
    return undefined; // not there yet
  }
}

async function stopPod(child: ChildProcess): Promise<void> {
  const ended = once(child, 'close');
  child.kill('SIGINT');
  child.kill('SIGINT');
  await ended;
  execFileSync(RKT, [...rktArguments, 'gc', '--grace-period=0s'], { stdio: 'ignore' });
}

async function answering(address: string, port: number): Promise<void> {
  await eventually(`an answer from ${address}:${port}`, async () => {
    try {
      const socket = await dial(address, port);
      socket.write('x');
      const answer = await Promise.race([once(socket, 'data').then(() => true), once(socket, 'close').then(() => false)]);
      socket.destroy();
      return answer;
    } catch {
      return false;
    }
  });
}

async function dial(address: string, port: number): Promise<Socket> {
  const socket = connect({ host: address, port, noDelay: true });
  await once(socket, 'connect');
  socket.on('error', () => undefined);
  return socket;
}

async function measure(address: string, portOffset: number): Promise<Measured> {
  return {
    roundTripUs: await roundTrip(await dial(address, portOffset + ECHO_PORT)),
    toHostMBps: await receive(await dial(address, portOffset + SOURCE_PORT)),
    toGuestMBps: await send(await dial(address, portOffset + SINK_PORT)),
  };
}

/** Median of echoes of a small message, in µs. */
async function roundTrip(socket: Socket): Promise<number> {
  const times: number[] = [];
  for (let ping = 0; ping < PINGS; ping++) {
    const begin = performance.now();
    socket.write(CHUNK.subarray(0, PING_BYTES));
    for (let received = 0; received < PING_BYTES; ) received += ((await once(socket, 'data')) as [Buffer])[0].length;
    times.push((performance.now() - begin) * 1000);
  }
  socket.destroy();
  return median(times);
}

async function receive(socket: Socket): Promise<number> {
  const begin = performance.now();
  let received = 0;
  for await (const chunk of socket) {
    received += (chunk as Buffer).length;
    if (received >= TRANSFER_BYTES) break;
  }
  return received / 1e3 / (performance.now() - begin);
}

/** Until the other side has read everything and closed. */
async function send(socket: Socket): Promise<number> {
  const begin = performance.now();
  for (let sent = 0; sent < TRANSFER_BYTES; sent += CHUNK.length) {
    if (!socket.write(CHUNK)) await once(socket, 'drain');
  }
  socket.resume();
  socket.end();
  await once(socket, 'close');
  return TRANSFER_BYTES / 1e3 / (performance.now() - begin);
}

/** Wall times of whole runs with and without a network, and of the network's plugins called by hand. */
function measureSetUp(image: string): { noneMs: number; networkMs: number; pluginsMs: number; addedPercent: number } {
  const namespace = join('/run/rkt', `bench-setup-${process.pid}`);
  createNetworkNamespace(namespace);
  const times = { none: [] as number[], network: [] as number[], plugins: [] as number[] };
  const runTrue = (network: string): number => timed(() => execFileSync(RKT, [...rktArguments, 'run', `--net=${network}`, image, '--exec=/bin/true'], { stdio: 'ignore' }));
  for (const network of ['none', 'redirect']) runTrue(network);
  for (let round = 0; round < SET_UP_ROUNDS; round++) {
    // Whichever is first in a round has the colder caches.
    const order = [(): unknown => times.none.push(runTrue('none')), (): unknown => times.network.push(runTrue('redirect'))];
    for (const step of round % 2 === 0 ? order : order.reverse()) step();
    times.plugins.push(timed(() => callPtp('ADD', namespace)));
    callPtp('DEL', namespace);
  }
  removeNetworkNamespace(namespace);
  execFileSync(RKT, [...rktArguments, 'gc', '--grace-period=0s'], { stdio: 'ignore' });
  const addedMs = median(times.none.map((noneMs, round) => (times.network[round] ?? NaN) - noneMs - (times.plugins[round] ?? NaN)));
  const noneMs = median(times.none);
  return { noneMs: round1(noneMs), networkMs: round1(median(times.network)), pluginsMs: round1(median(times.plugins)), addedPercent: round1((addedMs / noneMs) * 100) };
}

function callPtp(command: 'ADD' | 'DEL', namespace: string): void {
  const input = JSON.stringify({ cniVersion: '1.0.0', name: 'redirect', type: 'ptp', ipam: { type: 'host-local', subnet: '10.77.0.0/24' } });
  const variables = { CNI_COMMAND: command, CNI_CONTAINERID: 'bench', CNI_NETNS: namespace, CNI_IFNAME: 'eth0', CNI_PATH: PLUGIN_DIR };
  execFileSync(join(PLUGIN_DIR, 'ptp'), [], { input, env: { ...process.env, ...variables }, stdio: ['pipe', 'ignore', 'inherit'] });
}

function timed(work: () => unknown): number {
  const begin = performance.now();
  work();
  return performance.now() - begin;
}

function round1(value: number): number {
  return Math.round(value * 10) / 10;
}
