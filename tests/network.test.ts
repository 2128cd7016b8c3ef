/**
 * Networks of pods with the real plugins, on a host of their own (a network namespace): what reaches what, ports, checks,
 * and that nothing is left. Most pods here are guests without a virtual machine; the last tests start real ones.
 * RKT_TEST_NETWORK_PODS=200 for the long form of the test with kills.
 */
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import { insideNetworkNamespace } from '../src/linux/network-namespace.ts';
import { Netlink } from '../src/linux/netlink.ts';
import type { LinkCounters } from '../src/linux/netlink.ts';
import { checkPodNetwork, chooseNetworks, collectUnused, inspectPodNetwork, namespacePath, networkReadiness, readNetworks, readRecords, setUpPodNetwork, tearDownPodNetwork } from '../src/network/index.ts';
import type { PodNetwork, PortMapping } from '../src/network/index.ts';
import type { TapMode } from '../src/network/tap-mode.ts';
import { fakePlugins } from './helpers/fake-plugin.ts';
import { makeOciLayout } from './helpers/make-image.ts';
import { ask, becomeNetworkHost, fakeGuest, fetchPath, kernelHas, leftovers, outsideWorld, PLUGIN_DIR, reasonForNoNetwork, run, runIn, startServer } from './helpers/network-host.ts';
import type { Place } from './helpers/network-host.ts';
import { seededRandom } from './helpers/random.ts';
import { eventually, makeHost } from './helpers/rkt.ts';

const reason = reasonForNoNetwork();
if (reason !== undefined) {
  t.plan(0, reason);
  process.exit();
}

/** Asked before this process is on a host of its own. */
const hasIpvlan = kernelHas('ipvlan');
const MANIFEST = { acKind: 'PodManifest', acVersion: '0.8.11', apps: [] } as const;

const work = mkdtempSync(join(tmpdir(), 'rkt-test-network-'));
becomeNetworkHost();
const world = outsideWorld();
const worldServer = await startServer(world.namespace, { name: 'world', port: 80 });
const hostServer = await startServer(undefined, { name: 'host', port: 81 });
t.teardown(() => {
  worldServer.close();
  hostServer.close();
  world.close();
  rmSync(work, { recursive: true, force: true });
});

interface TestPod {
  uuid: string;
  podDir: string;
  pluginDirs: string[];
  network: PodNetwork;
  guest: Place;
  /** Addresses of the first interface. */
  ip4: string;
  ip6: string;
  close(): Promise<void>;
}

/** Directory with `net.d`-like configurations. */
function configurations(...list: Record<string, unknown>[]): string {
  const directory = mkdtempSync(join(work, 'net-d-'));
  list.forEach((configuration, index) => writeFileSync(join(directory, `${index}.conflist`), JSON.stringify({ cniVersion: '1.0.0', ...configuration })));
  return directory;
}

async function makePod(directory: string, names: string[], options: { ports?: PortMapping[]; server?: string; pluginDirs?: string[]; args?: string } = {}): Promise<TestPod> {
  const uuid = crypto.randomUUID();
  const podDir = mkdtempSync(join(work, 'pod-'));
  const pluginDirs = options.pluginDirs ?? [PLUGIN_DIR];
  const choices = names.map((name) => ({ name, ...(options.args === undefined ? {} : { args: options.args }) }));
  const network = await setUpPodNetwork({
    uuid, podDir, pluginDirs, manifest: { ...MANIFEST, apps: [] }, networks: chooseNetworks(choices, readNetworks([directory])), ports: options.ports ?? [], hostname: 'pod', queueCount: 1, log: () => undefined,
  });
  const guest = fakeGuest(uuid.slice(0, 8), network.interfaces.map((card, index) => ({ guest: card, fds: network.taps[index]?.fds ?? [] })));
  const server = options.server === undefined ? undefined : await startServer(guest.namespace, { name: options.server, port: 80 });
  const addresses = network.interfaces[0]?.addresses.map((address) => address.split('/')[0] ?? '') ?? [];
  return {
    uuid, podDir, pluginDirs, network, guest,
    ip4: addresses.find((address) => !address.includes(':')) ?? '',
    ip6: addresses.find((address) => address.includes(':')) ?? '',
    close: async () => {
      server?.close();
      for (const fd of network.portFds) closeSync(fd);
      guest.close();
      await tearDownPodNetwork({ uuid, podDir, pluginDirs });
    },
  };
}

/** `ip -s link show eth0`, in the form of rkt's counters. */
function countedByIp(namespace: string): LinkCounters {
  interface Counted {
    bytes: number;
    packets: number;
    errors: number;
    dropped: number;
  }
  const [{ stats64: { rx, tx } }] = JSON.parse(runIn(namespace, 'ip -s -j link show dev eth0')) as [{ stats64: { rx: Counted; tx: Counted } }];
  return {
    receivedBytes: BigInt(rx.bytes), receivedPackets: BigInt(rx.packets), receivedErrors: BigInt(rx.errors), receivedDropped: BigInt(rx.dropped),
    sentBytes: BigInt(tx.bytes), sentPackets: BigInt(tx.packets), sentErrors: BigInt(tx.errors), sentDropped: BigInt(tx.dropped),
  };
}

const DUAL_STACK = { type: 'host-local', ranges: [[{ subnet: '10.22.0.0/24' }], [{ subnet: 'fd22::/64' }]], routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }] };

t.test('bridge, tuning, bandwidth, firewall, portmap: everything reaches everything, both IP versions', async (t) => {
  const before = leftovers();
  const directory = configurations({
    name: 'full',
    plugins: [
      { type: 'bridge', bridge: 'cni22', isGateway: true, ipMasq: true, hairpinMode: true, mtu: 1400, ipam: DUAL_STACK },
      { type: 'tuning', capabilities: { mac: true }, sysctl: { 'net.ipv4.conf.all.accept_redirects': '0' } },
      { type: 'bandwidth', ingressRate: 800_000_000, ingressBurst: 80_000_000, egressRate: 800_000_000, egressBurst: 80_000_000 },
      { type: 'firewall', backend: 'iptables' },
      { type: 'portmap', capabilities: { portMappings: true }, snat: true },
    ],
  });
  const ports: PortMapping[] = [
    { hostPort: 8080, containerPort: 80, protocol: 'tcp' },
    { hostPort: 8080, containerPort: 80, protocol: 'udp' },
    { hostPort: 8081, containerPort: 80, protocol: 'tcp', hostIP: '127.0.0.1' },
  ];
  const a = await makePod(directory, ['full'], { ports, server: 'a', args: 'MAC=02:00:00:00:00:22' });
  const b = await makePod(directory, ['full'], { server: 'b' });
  t.match(a.network.interfaces[0], { mac: '02:00:00:00:00:22', mtu: 1400, name: 'eth0' }, 'the guest has what the plugins have made');
  t.match(a.network.info, [{ netName: 'full', ip: a.ip4, mask: '255.255.255.0', ip6: a.ip6, ifName: 'eth0', pluginPath: `${PLUGIN_DIR}/bridge`, netConf: 'net/eth0.json' }]);

  for (const [what, from, address, answer] of [
    ['host to pod', undefined, a.ip4, 'a to 10.22.0.1'],
    ['pod to host, by IPv6', a.guest.namespace, 'fd22::1', `host to ${a.ip6}`],
    ['pod to pod', b.guest.namespace, a.ip4, `a to ${b.ip4}`],
    ['pod to pod', b.guest.namespace, a.ip6, `a to ${b.ip6}`],
    ['pod to outside, behind the host', a.guest.namespace, world.address4, `world to ${world.host4}`],
    ['pod to outside, behind the host', a.guest.namespace, world.address6, `world to ${world.host6}`],
    ['outside to pod', world.namespace, a.ip6, `a to ${world.address6}`],
  ] as const) t.equal(ask(from, { address, port: answer.startsWith('host') ? 81 : 80 }), answer, `${what}, ${address}`);
  t.equal(ask(a.guest.namespace, { address: '10.22.0.1', port: 81 }), `host to ${a.ip4}`);
  t.equal(ask(b.guest.namespace, { protocol: 'udp', address: a.ip4, port: 80 }), `a to ${b.ip4}`);

  t.equal(ask(world.namespace, { address: world.host4, port: 8080 }), `a to ${world.address4}`, 'a published port');
  t.equal(ask(world.namespace, { address: world.host6, port: 8080 }), `a to ${world.address6}`, 'the same by IPv6');
  t.equal(ask(world.namespace, { protocol: 'udp', address: world.host4, port: 8080 }), `a to ${world.address4}`, 'UDP');
  t.equal(ask(undefined, { address: '127.0.0.1', port: 8080 }), 'a to 10.22.0.1', 'from the host itself');
  t.equal(ask(undefined, { protocol: 'udp', address: '127.0.0.1', port: 8080 }), 'a to 10.22.0.1');
  t.match(ask(b.guest.namespace, { address: world.host4, port: 8080 }), /^a to /, 'from another pod by the host’s address');
  t.equal(ask(undefined, { address: '127.0.0.1', port: 8081 }), 'a to 10.22.0.1');
  t.match(ask(world.namespace, { address: world.host4, port: 8081 }), /^status/, 'for the host itself only');
  const second = setUpPodNetwork({
    uuid: crypto.randomUUID(), podDir: mkdtempSync(join(work, 'pod-')), pluginDirs: [PLUGIN_DIR], manifest: { ...MANIFEST, apps: [] },
    networks: chooseNetworks([{ name: 'full' }], readNetworks([directory])), ports: [{ hostPort: 8080, containerPort: 1, protocol: 'tcp' }], hostname: 'x', queueCount: 1, log: () => undefined,
  });
  await t.rejects(second, { code: 'BUSY', message: 'port tcp-0.0.0.0:8080 is already in use on this host' }, 'a port that another pod has');

  t.match(await checkPodNetwork(b), [{ name: 'full', ifName: 'eth0', outcome: 'good' }]);
  // Between the two somebody may have looked for a neighbour.
  const counters = await eventually('rkt counts the traffic as ip does', () => {
    const counted = inspectPodNetwork(a)[0]?.counters;
    return isDeepStrictEqual(counted, countedByIp(namespacePath(a.uuid))) && counted;
  });
  t.ok(counters.receivedBytes > 0n && counters.sentPackets > 0n);
  runIn(namespacePath(b.uuid), `ip addr del ${b.ip4}/24 dev eth0`);
  t.match(await checkPodNetwork(b), [{ outcome: { message: /plugin bridge \(CHECK\) failed/ } }], 'a check finds what is gone');

  runIn(namespacePath(b.uuid), `ip addr add ${b.ip4}/24 dev eth0`);
  await a.close();
  await b.close();
  run('ip link del cni22');
  t.equal(leftovers(), before);
});

t.test('ptp, as the default network', async (t) => {
  const before = leftovers();
  const pod = await makePod(configurations(), ['default'], { server: 'pod', ports: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }], args: 'IP=172.16.28.77' });
  t.equal(pod.ip4, '172.16.28.77', 'the address that was asked for');
  t.equal(ask(undefined, { address: pod.ip4, port: 80 }), 'pod to 172.16.28.1');
  t.equal(ask(pod.guest.namespace, { address: world.address4, port: 80 }), `world to ${world.host4}`);
  t.equal(ask(world.namespace, { address: world.host4, port: 8080 }), `pod to ${world.address4}`, 'portmap is added where ports are published');
  await pod.close();
  t.equal(leftovers(), before);

  const restricted = await makePod(configurations(), ['default-restricted'], { server: 'pod' });
  t.equal(ask(undefined, { address: restricted.ip4, port: 80 }), 'pod to 172.31.0.1');
  t.match(ask(restricted.guest.namespace, { address: world.address4, port: 80 }), /^status/, 'no way out');
  await restricted.close();
  t.equal(leftovers(), before);
});

for (const [type, skip] of [['macvlan', false], ['ipvlan', hasIpvlan ? false : 'this kernel has no ipvlan']] as const) {
  t.test(`${type} with static addresses`, { skip }, async (t) => {
    const before = leftovers();
    const ipam = { type: 'static', addresses: [{ address: '192.0.2.50/24' }, { address: '2001:db8::50/64' }] };
    const pod = await makePod(configurations({ name: 'lan', plugins: [{ type, master: 'wan0', dns: { nameservers: ['192.0.2.53'], search: ['example.com'] }, ipam }] }), ['lan'], { server: 'pod' });
    t.match(pod.network.dns, { nameservers: ['192.0.2.53'], search: ['example.com'] });
    t.equal(ask(world.namespace, { address: '192.0.2.50', port: 80 }), `pod to ${world.address4}`);
    t.equal(ask(world.namespace, { address: '2001:db8::50', port: 80 }), `pod to ${world.address6}`);
    t.equal(ask(pod.guest.namespace, { address: world.address4, port: 80 }), 'world to 192.0.2.50');
    t.match(await checkPodNetwork(pod), [{ outcome: 'good' }]);
    await pod.close();
    t.equal(leftovers(), before);
  });
}

t.test('three networks at once, the loopback among them', async (t) => {
  const before = leftovers();
  const bridge = (name: string, subnet: string, isDefault: boolean) => ({ name, plugins: [{ type: 'bridge', bridge: name, isDefaultGateway: isDefault, isGateway: true, ipam: { type: 'host-local', subnet } }] });
  const directory = configurations(bridge('one', '10.31.0.0/24', true), { name: 'loop', plugins: [{ type: 'loopback' }] }, bridge('two', '10.32.0.0/24', false));
  const pod = await makePod(directory, ['two', 'loop', 'one'], { server: 'pod' });
  t.strictSame(pod.network.info.map(({ netName, ifName, ip }) => `${netName} ${ifName} ${ip}`), ['one eth0 10.31.0.2', 'loop lo 127.0.0.1', 'two eth1 10.32.0.2']);
  t.equal(pod.network.taps.length, 2);
  t.equal(ask(undefined, { address: '10.31.0.2', port: 80 }), 'pod to 10.31.0.1');
  t.equal(ask(undefined, { address: '10.32.0.2', port: 80 }), 'pod to 10.32.0.1');
  t.match(runIn(pod.guest.namespace, 'ip route'), /^default via 10\.31\.0\.1 dev eth0/m);
  t.match((await checkPodNetwork(pod)).map(({ outcome }) => outcome), ['good', 'good', 'good']);
  await pod.close();
  run('ip link del one; ip link del two');
  t.equal(leftovers(), before);
});

for (const tap of ['bridge', 'macvtap'] satisfies TapMode[]) {
  t.test(`connected by ${tap}`, async (t) => {
    const before = leftovers();
    const pod = await makePod(configurations({ name: 'n', rkt: { tap }, plugins: [{ type: 'ptp', ipMasq: true, ipam: DUAL_STACK }] }), ['n'], { server: 'pod', ports: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] });
    t.match(readRecords(pod.podDir), [{ tapMode: tap }]);
    t.equal(ask(undefined, { address: pod.ip4, port: 80 }), 'pod to 10.22.0.1');
    t.match(ask(undefined, { address: pod.ip6, port: 80 }), /^pod to /);
    t.equal(ask(pod.guest.namespace, { address: world.address4, port: 80 }), `world to ${world.host4}`);
    t.equal(ask(pod.guest.namespace, { address: world.address6, port: 80 }), `world to ${world.host6}`);
    t.equal(ask(world.namespace, { address: world.host4, port: 8080 }), `pod to ${world.address4}`);
    await pod.close();
    t.equal(leftovers(), before, 'the plugins find what they have to remove');
  });
}

t.test('neighbours and several queues', async (t) => {
  const directory = mkdtempSync(join(work, 'plugins-'));
  const plugins = fakePlugins(directory);
  // As some routing networks do it: a gateway that is no neighbour of anybody.
  plugins.plugin('routed', `
[ "$CNI_COMMAND" = ADD ] || exit 0
ip link add far0 type veth peer name near0 && ip link set near0 netns "$CNI_NETNS"
nsenter --net="$CNI_NETNS" sh -ec 'ip link set near0 name eth0; ip link set eth0 up; ip addr add 10.41.0.7/32 dev eth0; ip route add 169.254.1.1 dev eth0 scope link; ip route add default via 169.254.1.1 metric 50; ip neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee nud permanent dev eth0' >&2
echo '{"cniVersion":"1.0.0","ips":[{"address":"10.41.0.7/32"}]}'`);
  const uuid = crypto.randomUUID();
  const podDir = mkdtempSync(join(work, 'pod-'));
  const networks = chooseNetworks([{ name: 'r' }], readNetworks([configurations({ name: 'r', plugins: [{ type: 'routed' }] })]));
  const made = await setUpPodNetwork({ uuid, podDir, pluginDirs: [directory], manifest: { ...MANIFEST, apps: [] }, networks, ports: [], hostname: 'h', queueCount: 2, log: () => undefined });
  t.equal(made.taps[0]?.fds.length, 2, 'a descriptor for each queue');
  for (const fd of made.taps.flatMap(({ fds }) => fds)) closeSync(fd);
  t.match(made.interfaces, [{
    addresses: ['10.41.0.7/32'], neighbours: [{ address: '169.254.1.1', mac: 'ee:ee:ee:ee:ee:ee' }],
    routes: [{ destination: '169.254.1.1/32' }, { destination: '0.0.0.0/0', gateway: '169.254.1.1', metric: 50 }],
  }]);
  await tearDownPodNetwork({ uuid, podDir, pluginDirs: [directory] });
});

t.test('a plugin that fails leaves nothing', async (t) => {
  const before = leftovers();
  const plugins = fakePlugins(mkdtempSync(join(work, 'plugins-')));
  const failOn = (command: string): void => plugins.plugin('fails', `[ "$CNI_COMMAND" != ${command} ] || { echo '{"code":100,"msg":"no ${command} today"}'; exit 1; }
[ "$CNI_COMMAND" != ADD ] || sed 's/.*"prevResult"://; s/}$//' "$INPUT"`);
  const directory = configurations({
    name: 'chain',
    plugins: [{ type: 'ptp', ipMasq: true, ipam: DUAL_STACK }, { type: 'firewall', backend: 'iptables' }, { type: 'portmap', capabilities: { portMappings: true }, snat: true }, { type: 'fails' }],
  });
  const options = { pluginDirs: [PLUGIN_DIR, plugins.directory], ports: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' as const }] };

  failOn('ADD');
  await t.rejects(makePod(directory, ['chain'], options), { message: 'network "chain": plugin fails (ADD) failed: no ADD today' });
  t.equal(leftovers(), before, 'what the plugins before it have done is undone');

  failOn('DEL');
  const pod = await makePod(directory, ['chain'], options);
  await t.rejects(pod.close(), { message: 'network "chain": plugin fails (DEL) failed: no DEL today' });
  t.equal(readRecords(pod.podDir).length, 1, 'still known');
  t.not(leftovers(), before);
  failOn('CHECK');
  t.match(await checkPodNetwork(pod), [{ outcome: { message: /\(CHECK\) failed/ } }]);
  await tearDownPodNetwork(pod);
  t.strictSame(readRecords(pod.podDir), []);
  t.equal(leftovers(), before, 'the next attempt succeeds');
  await tearDownPodNetwork(pod);

  // What Debian's plugins do not speak yet.
  const modern = fakePlugins(mkdtempSync(join(work, 'plugins-')));
  modern.plugin('fine', '');
  const [chosen] = chooseNetworks([{ name: 'modern' }], readNetworks([configurations({ name: 'modern', cniVersions: ['1.0.0', '1.1.0'], plugins: [{ type: 'fails' }, { type: 'fine' }] })]));
  if (chosen === undefined) throw new Error('no network');
  const modernHost = { pluginDirs: [modern.directory, plugins.directory] };
  failOn('STATUS');
  t.match(await networkReadiness(chosen.configuration, modernHost), { message: 'network "modern": plugin fails (STATUS) failed: no STATUS today' });
  failOn('GC');
  t.match(await collectUnused(chosen.configuration, [], modernHost), { message: 'network "modern": plugin fails (GC) failed: no GC today' });
  t.match(modern.calls().at(-1), { type: 'fine', command: 'GC' }, 'the plugins behind it may still tidy up');
  writeFileSync(join(plugins.directory, 'fails'), '#!/bin/sh\nexit 1\n');
  t.match(await networkReadiness(chosen.configuration, modernHost), { message: 'network "modern": plugin fails (VERSION) failed with exit status 1' });
  t.equal(leftovers(), before);
});

t.test('when the namespace is gone, as after a restart of the host', async (t) => {
  const before = leftovers();
  const pod = await makePod(configurations(), ['default']);
  pod.guest.close();
  const link = /^veth\S+/m.exec(leftovers())?.[0] ?? '';
  run(`umount ${namespacePath(pod.uuid)}`);
  await eventually('the kernel has removed the namespace', () => !leftovers().includes(link));
  await tearDownPodNetwork(pod);
  // The rules would not have survived the restart; the plugin cannot know them any more.
  t.equal(leftovers().split('\n').filter((line) => !line.includes('CNI-')).join('\n'), before, 'lease, link and namespace are gone');
  run("iptables-save | grep -v CNI- | iptables-restore");
  t.equal(leftovers(), before);
});

t.test('many pods at once, killed at any moment', { timeout: 600_000 }, async (t) => {
  const podCount = Number(process.env['RKT_TEST_NETWORK_PODS'] ?? 16);
  const random = seededRandom(42);
  const before = leftovers();
  const directory = configurations({
    name: 'many',
    plugins: [{ type: 'bridge', bridge: 'cni50', isGateway: true, ipMasq: true, ipam: { type: 'host-local', subnet: '10.50.0.0/16' } }, { type: 'portmap', capabilities: { portMappings: true }, snat: true }],
  });
  const indexUrl = new URL('../src/network/index.ts', import.meta.url).href;
  const program = `import { chooseNetworks, readNetworks, setUpPodNetwork } from ${JSON.stringify(indexUrl)};
const [uuid, podDir, port] = process.argv.slice(1);
await setUpPodNetwork({ uuid, podDir, pluginDirs: [${JSON.stringify(PLUGIN_DIR)}], manifest: { acKind: 'PodManifest', acVersion: '0.8.11', apps: [] }, networks: chooseNetworks([{ name: 'many' }], readNetworks([${JSON.stringify(directory)}])), ports: [{ hostPort: Number(port), containerPort: 80, protocol: 'tcp' }], hostname: 'h', queueCount: 1, log: () => {} });
console.log('up');`;
  const pods = Array.from({ length: podCount }, (_, index) => ({ uuid: crypto.randomUUID(), podDir: mkdtempSync(join(work, 'pod-')), pluginDirs: [PLUGIN_DIR], port: 20000 + index }));
  let finished = 0;
  const live = async ({ uuid, podDir, port }: (typeof pods)[number], killAfterMs: number | undefined): Promise<void> => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', program, uuid, podDir, String(port)], { stdio: ['ignore', 'pipe', 'inherit'] });
    child.stdout.on('data', () => finished++);
    const timer = killAfterMs === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), killAfterMs);
    await new Promise((resolve) => child.on('close', resolve));
    clearTimeout(timer);
  };
  const PARALLEL = 8;
  for (let first = 0; first < pods.length; first += PARALLEL) {
    // A quarter may finish; the others are killed somewhere between their first step and their last.
    await Promise.all(pods.slice(first, first + PARALLEL).map((pod, index) => live(pod, index % 4 === 0 ? undefined : 80 + random.below(1200))));
  }
  t.ok(finished >= podCount / 4, `${finished} of ${podCount} came up`);
  t.ok(finished < podCount, 'and some did not');
  for (let first = 0; first < pods.length; first += PARALLEL) await Promise.all(pods.slice(first, first + PARALLEL).map((pod) => tearDownPodNetwork(pod)));
  run('ip link del cni50');
  t.equal(leftovers(), before, 'no lease, no rule, no link, no namespace');
});

t.test('pods in virtual machines: each other, the host, published ports, names', { timeout: 300_000 }, async (t) => {
  const host = makeHost('network');
  t.teardown(host.close);
  const before = leftovers();
  const localConfig = join(host.workDir, 'etc');
  mkdirSync(join(localConfig, 'net.d'), { recursive: true });
  writeFileSync(join(localConfig, 'net.d/10-dual.conflist'), JSON.stringify({ cniVersion: '1.0.0', name: 'dual', plugins: [{ type: 'bridge', bridge: 'cni60', isGateway: true, ipMasq: true, mtu: 1300, ipam: DUAL_STACK }] }));
  const image = makeOciLayout(join(host.workDir, 'web.oci'), { exec: ['/bin/busybox', 'httpd', '-f', '-p', '80', '-h', '/etc'], ports: ['80/tcp'] });
  const common = [`--local-config=${localConfig}`, 'run', '--net=dual'];

  const uuidFile = join(host.workDir, 'uuid');
  const server = host.start([...common, '--port=80-tcp:8080', '--port=80-tcp:127.0.0.1:9090', `--uuid-file-save=${uuidFile}`, '--hostname=server', image]);
  const fetch = (from: string | undefined, address: string, port?: number): string => fetchPath(from, { address, path: '/hostname', ...(port === undefined ? {} : { port }) });
  await eventually('the server answers', () => fetch(undefined, '10.22.0.2') === 'server');
  const uuid = readFileSync(uuidFile, 'utf8').trim();
  const { qemuPid } = JSON.parse(readFileSync(join(host.dataDir, 'pods/run', uuid, 'vm.json'), 'utf8')) as { qemuPid: number };
  const own = statSync(`/proc/${qemuPid}/ns/net`).ino;
  t.notOk([namespacePath(uuid), '/proc/self/ns/net'].some((path) => statSync(path).ino === own), 'QEMU is neither in the pod’s namespace nor in the host’s');
  t.equal(fetch(undefined, 'fd22::2'), 'server', 'by IPv6');
  t.equal(fetch(undefined, '127.0.0.1', 8080), 'server', 'a published port, from the host itself');
  t.equal(fetch(undefined, '127.0.0.1', 9090), 'server');
  t.equal(fetch(world.namespace, world.host4, 8080), 'server', 'and from outside');
  t.equal(fetch(world.namespace, world.host4, 9090).slice(0, 6), 'status', 'which has no way to one for the host only');

  const script = 'wget -qO- http://10.22.0.2/hostname; wget -qO- http://[fd22::2]/hostname; wget -qO- http://192.0.2.1:8080/hostname; nc 192.0.2.2 80; nc 10.22.0.1 81; cat /sys/class/net/eth0/mtu; cat /etc/resolv.conf; grep -w db /etc/hosts; ip -o -4 addr show eth0; ip -o -6 addr show eth0 scope global';
  const client = await host.rkt([...common, '--dns=8.8.8.8', '--dns-search=example.com', '--hosts-entry=10.9.9.9=db', image, '--exec=/bin/sh', '--', '-c', script]);
  const lines = client.stdout.toString().split('\n');
  t.strictSame(lines.slice(0, 10), ['server', 'server', 'server', `world to ${world.host4}`, 'host to 10.22.0.3', '1300', 'nameserver 8.8.8.8', 'search example.com', '10.9.9.9 db', lines[9]], client.stderr);
  t.match(lines[9], /inet 10\.22\.0\.3\/24/);
  t.match(lines[10], /inet6 fd22::3\/64/);

  const list = await host.rkt(['list', '--no-legend']);
  t.match(list.stdout.toString(), /running.*dual:ip4=10\.22\.0\.2, dual:ip6=fd22::2$/m);
  const taken = await host.rkt([...common, '--port=80-tcp:8080', image]);
  t.equal(taken.status, 254);
  t.match(taken.stderr, /^run: port tcp-0\.0\.0\.0:8080 is already in use on this host$/m);

  const inspect = await host.rkt(['network', 'inspect', uuid]);
  t.match(JSON.parse(inspect.stdout.toString()), [{ pod: uuid, state: 'running', interfaces: [{ name: 'eth0', network: 'dual', tap: 'redirect', addresses: [{ address: '10.22.0.2/24' }, { address: 'fd22::2/64' }], ports: [{ hostPort: 8080, containerPort: 80 }, { hostPort: 9090, hostIP: '127.0.0.1' }] }] }]);
  t.match(JSON.parse(inspect.stdout.toString()), [{ interfaces: [{ received: { bytes: /^[1-9]/ }, sent: { packets: /^[1-9]/ } }] }], 'with its traffic');

  server.child.kill('SIGTERM');
  await server.ended;
  t.notSame(leftovers(), before);
  const again = host.start([...common, '--port=80-tcp:8080', '--hostname=again', image]);
  await eventually('another pod has the port of one that has ended', () => fetch(undefined, '127.0.0.1', 8080) === 'again');
  again.child.kill('SIGKILL');
  await again.ended;

  const early = await host.rkt([`--local-config=${localConfig}`, 'gc', '--mark-only']);
  t.equal(early.status, 0, early.stderr);
  t.strictSame(leftovers().split('\n').filter((line) => /^\/var\/lib\/cni|^[0-9a-f-]{36}$/.test(line)), [], 'leases and namespaces do not wait for the grace period');
  const gc = await host.rkt([`--local-config=${localConfig}`, 'gc', '--grace-period=0s']);
  t.equal(gc.status, 0, gc.stderr);
  run('ip link del cni60');
  t.equal(leftovers(), before);
  t.strictSame(host.listing().filter((path) => /^pods\/[^/]+\/./.test(path)), [], 'and no pod');
});

t.test('addresses of pods that have ended are given to the next', { timeout: 300_000 }, async (t) => {
  const host = makeHost('network-exhausted');
  t.teardown(host.close);
  const before = leftovers();
  const netD = join(host.workDir, 'etc/net.d');
  mkdirSync(netD, { recursive: true });
  writeFileSync(join(netD, 'tiny.conf'), JSON.stringify({ cniVersion: '1.0.0', name: 'tiny', type: 'ptp', ipam: { type: 'host-local', subnet: '10.61.0.0/30' } }));
  const image = makeOciLayout(join(host.workDir, 'image.oci'));
  for (const cpus of ['1', '2']) {
    const { status, stdout, stderr } = await host.rkt([`--local-config=${join(host.workDir, 'etc')}`, 'run', '--net=tiny', `--cpus=${cpus}`, image, '--exec=/bin/sh', '--', '-c', 'ip -o -4 addr show eth0; ls -d /sys/class/net/eth0/queues/rx-*']);
    t.equal(status, 0, stderr);
    t.match(stdout.toString(), /inet 10\.61\.0\.2\/30/, 'the only one there is');
    t.equal(stdout.toString().split('/queues/rx-').length - 1, Number(cpus), 'a queue for each processor');
  }
  const gc = await host.rkt([`--local-config=${join(host.workDir, 'etc')}`, 'gc', '--grace-period=0s']);
  t.equal(gc.status, 0, gc.stderr);
  t.equal(leftovers(), before);
});

t.test('rkt network', async (t) => {
  const host = makeHost('network-commands');
  t.teardown(host.close);
  const netD = join(host.workDir, 'etc/net.d');
  mkdirSync(netD, { recursive: true });
  const plugins = fakePlugins(netD);
  plugins.plugin('modern', `[ "$CNI_COMMAND" != STATUS ] || [ ! -e "${netD}/busy" ] || { echo '{"code":50,"msg":"no addresses left"}'; exit 1; }`);
  writeFileSync(join(netD, '10-new.conflist'), JSON.stringify({ cniVersion: '1.1.0', name: 'new', plugins: [{ type: 'modern' }] }));
  writeFileSync(join(netD, '20-lost.conf'), JSON.stringify({ cniVersion: '1.0.0', name: 'lost', type: 'no-such-plugin' }));
  const rkt = async (...args: string[]): Promise<{ status: number | null; stdout: string; stderr: string }> => {
    const { status, stdout, stderr } = await host.rkt([`--local-config=${join(host.workDir, 'etc')}`, ...args]);
    return { status, stdout: stdout.toString(), stderr };
  };
  const list = await rkt('network', 'list');
  t.match(list.stdout, /^NAME\t+PLUGINS\t+CNI VERSION\t+CONFIGURATION\nnew\t+modern\t+1\.1\.0\t+.*10-new\.conflist\nlost\t/);
  t.match(list.stdout, /^default\t+ptp\t+1\.0\.0\t+\(built in\)$/m);
  t.match(JSON.parse((await rkt('network', 'list', '--format=json')).stdout), [{ name: 'new', plugins: ['modern'], cni_versions: ['1.1.0'] }, { name: 'lost' }, { name: 'default-restricted' }, { name: 'default' }]);

  const check = await rkt('network', 'check', '--no-legend');
  t.equal(check.status, 254);
  t.match(check.stdout, /^-\tnew\t+-\tgood\n-\tlost\t+-\tbad\n-\tdefault-restricted\t+-\tunchecked\n/);
  t.match(check.stderr, /network "lost": there is no CNI plugin no-such-plugin in/);
  writeFileSync(join(netD, 'busy'), '');
  t.match((await rkt('network', 'check')).stderr, /network "new": network "new": plugin modern \(STATUS\) failed: no addresses left/);

  t.match(JSON.parse((await rkt('network', 'inspect', 'new', 'default')).stdout), [
    { name: 'new', path: join(netD, '10-new.conflist'), plugins: [{ type: 'modern', path: join(netD, 'modern') }], pods: [] },
    { name: 'default', plugins: [{ type: 'ptp', configuration: { ipMasq: true } }] },
  ]);
  const unknown = await rkt('network', 'inspect', 'nothing');
  t.equal(unknown.status, 254);
  t.match(unknown.stderr, 'inspect: there is neither a network nor a pod "nothing"');

  plugins.calls();
  await rkt('gc');
  t.match(plugins.calls(), [{ type: 'modern', command: 'GC', input: { 'cni.dev/valid-attachments': [], name: 'new' } }], 'gc lets the networks tidy up');
  plugins.plugin('modern', `echo '{"code":100,"msg":"the broom is broken"}'; exit 1`);
  const untidy = await rkt('gc');
  t.equal(untidy.stderr, 'gc: network "new": plugin modern (GC) failed: the broom is broken\n');
  t.equal(untidy.status, 0, 'which keeps no pod from being removed');
  const missing = await rkt('run', '--net=nowhere', 'x');
  t.equal(missing.status, 254);
  t.match(missing.stderr, /^run: networks not found: nowhere$/m);
});

t.test('netlink tells what there is', async (t) => {
  const links = insideNetworkNamespace(world.namespace, () => {
    using netlink = new Netlink();
    return netlink.links();
  });
  t.strictSame(links.map(({ name, kind }) => [name, kind]).sort(), [['cable', 'veth'], ['lo', '']]);
});
