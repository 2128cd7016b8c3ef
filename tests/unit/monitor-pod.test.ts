import t from 'tap';
import { parseEnterArguments, parseRunArguments, parseStopArguments } from '../../stage1-kvm/options.ts';
import { parseGuestNetwork } from '../../stage1-kvm/pod/guest-network.ts';
import { parseAppDisk, parsePodApps } from '../../stage1-kvm/pod/pod.ts';
import { parseQuantity } from '../../stage1-kvm/pod/quantity.ts';
import { parseHosts, parseResolvConf, startMessage, stdioOf, type StartFacts } from '../../stage1-kvm/pod/start-message.ts';

const UUID = '6733c9f0-8a6a-4b7a-a6ef-4be5e1a0a1a3';

t.test('run arguments', async (t) => {
  const options = parseRunArguments(['--debug', '--net=none', '--interactive=true', '--hostname=h', '--disable-seccomp', '--accel=tcg', '--memory-mib=700', '--cpus=2', '--dns-conf-mode=resolv=host,hosts=stage0', '--local-config=/etc/rkt', '--ipc=auto', UUID]);
  t.match(options, {
    uuid: UUID, debug: true, network: { kind: 'none' }, interactive: true, hostname: 'h', accelerator: 'tcg', memoryMiB: 700, cpus: 2,
    insecure: { capabilities: false, paths: false, seccomp: true }, dns: { resolv: 'host', hosts: 'stage0' }, timing: false,
  });
  for (const [args, message] of [
    [[], /UUID/], [['abc'], /not a UUID/], [['--wat', UUID], /unknown flag --wat/], [['--net=host', UUID], /requires private network/], [['--net=mine', UUID], /"mine" is not supported/],
    [['--accel=xen', UUID], /auto, kvm, tcg/], [['--cpus=0', UUID], /positive integer/], [['--cpus=two', UUID], /positive integer/], [['--ipc=parent', UUID], /private IPC/],
    [['--private-users=1:2', UUID], /private-users/], [['--hostname', UUID], /needs a value/], [[UUID, UUID], /exactly one/],
  ] as const) t.throws(() => parseRunArguments(args), message);
});

t.test('other entrypoints', async (t) => {
  t.same(parseEnterArguments(['--pid=5', '--appname=a', '--', 'ls', '--net=x']), { pid: 5, app: 'a', command: ['ls', '--net=x'] });
  t.throws(() => parseEnterArguments(['--appname=a', '--']), /no command/);
  t.throws(() => parseEnterArguments(['--', 'ls']), /--appname/);
  t.same(parseStopArguments(['--force', UUID]), { uuid: UUID, force: true, graceMs: 10_000 });
});

t.test('quantities', async (t) => {
  for (const [text, value] of [['1', 1], ['500m', 0.5], ['1.5', 1.5], ['256M', 256e6], ['1Gi', 2 ** 30], ['12e6', 12e6], ['2E3', 2000], ['1E', 1e18], ['100k', 1e5], ['.5', 0.5]] as const) t.equal(parseQuantity(text), value, text);
  for (const text of ['', 'm', '-1', '1 Gi', '1.2.3', '1gi', '1e', '1e+', '0x10', '1KiB']) t.equal(parseQuantity(text), null, text);
});

t.test('apps of a pod', async (t) => {
  const image = { id: 'sha512-0' };
  const isolators = [
    { name: 'resource/memory', value: { limit: '1Gi' } }, { name: 'resource/cpu', value: { request: '1', limit: '250m' } },
    { name: 'os/linux/seccomp-retain-set', value: {} }, { name: 'resource/memory', value: { limit: '2Gi' } },
  ];
  t.same(parsePodApps(JSON.stringify({ apps: [{ name: 'a', image, app: { isolators } }, { name: 'b-1', image, app: {} }, { name: 'c', image }] })), [
    { name: 'a', imageId: 'sha512-0', memoryLimitBytes: 2 ** 31, cpuLimit: 0.25 }, { name: 'b-1', imageId: 'sha512-0', memoryLimitBytes: null, cpuLimit: null }, { name: 'c', imageId: 'sha512-0', memoryLimitBytes: null, cpuLimit: null },
  ]);
  for (const [manifest, message] of [
    ['{', /^pod: /], ['[]', /JSON object/], ['{}', /apps must be a list/], ['{"apps":[{}]}', /apps\[0\]\.name/], ['{"apps":[{"name":"../x"}]}', /apps\[0\]\.name/],
    ['{"apps":[{"name":"a","image":{"id":"x"}},{"name":"a"}]}', /two apps/], ['{"apps":[{"name":"a"}]}', /apps\[0\]\.image\.id/], ['{"apps":[{"name":"a","image":{"id":"x"},"app":{"isolators":[{"name":"resource/memory","value":{"limit":"much"}}]}}]}', /"much" is not a quantity/],
  ] as const) t.throws(() => parsePodApps(manifest), message);
});

const disk = { path: 'd', sizeBytes: 8192, dataBlocks: 1, hashStartBlock: 2, rootHashHex: 'ab'.repeat(32), formatVersion: 1 };

t.test('disk descriptions', async (t) => {
  t.match(parseAppDisk('f', JSON.stringify(disk)), { path: 'd', dataBlocks: 1, hashStartBlock: 2 });
  for (const change of [{ formatVersion: 2 }, { path: 5 }, { dataBlocks: -1 }, { dataBlocks: 1.5 }, { rootHashHex: 'AB'.repeat(32) }, { rootHashHex: 'ab' }]) {
    t.throws(() => parseAppDisk('appsinfo/a/disk.json', JSON.stringify({ ...disk, ...change })), /^appsinfo\/a\/disk\.json: /, JSON.stringify(change));
  }
});

t.test('the start message', async (t) => {
  const app = { name: 'a', imageId: 'sha512-0', memoryLimitBytes: null, cpuLimit: null };
  const facts: StartFacts = { podManifest: '{"x":1}', apps: [{ app, disk }, { app: { ...app, name: 'b' }, disk }], streams: [], terminal: null, hasScratchDisk: true, shares: [], hostLogHex: null, guestNetwork: null, wallClockNs: 5n, entropyHex: '00', resolvConf: null, hostsFile: null, metadataToken: null };
  const options = parseRunArguments(['--interactive', UUID]);
  const message = startMessage(options, facts);
  t.match(message, {
    hostname: `rkt-${UUID}`, podManifest: '{"x":1}', scratch: { kind: 'disk', serial: 'scratch' },
    apps: [
      { name: 'a', process: 1, disk: { serial: 'app-1' }, stdio: { kind: 'streams', stdin: true } },
      { name: 'b', process: 2, disk: { serial: 'app-2' }, stdio: { kind: 'streams', stdin: false } },
    ],
    network: { interfaces: [{ mac: '52:54:00:12:34:56', addresses: ['10.0.2.15/24', 'fec0::15/64'] }], dns: { nameservers: ['10.0.2.3'] }, writeResolvConf: true },
  });
  t.equal(startMessage(parseRunArguments(['--net=none', UUID]), facts).network, null);

  const card = { mac: '02:00:00:00:00:01', name: 'eth0', mtu: 1400, addresses: ['10.1.0.2/24'], routes: [{ destination: '10.1.0.0/24' }], neighbours: [] };
  const guestNetwork = parseGuestNetwork(JSON.stringify({ formatVersion: 1, interfaces: [card], dns: { nameservers: ['10.1.0.1'], search: [], options: [] } }));
  const tap = parseRunArguments(['--net=default', '--tap=eth0=7:8', '--hold-fds=9', UUID]);
  t.same(tap.network, { kind: 'tap', taps: [{ name: 'eth0', fds: [7, 8] }] });
  t.same(tap.holdFds, [9]);
  t.match(startMessage(tap, { ...facts, guestNetwork }).network, { interfaces: [card], dns: { nameservers: ['10.1.0.1'] }, writeResolvConf: true });
  t.match(startMessage(tap, { ...facts, guestNetwork: { ...guestNetwork, dns: null } }).network, { writeResolvConf: false }, "the image's own resolv.conf stays");
  t.match(startMessage(tap, { ...facts, guestNetwork, resolvConf: 'nameserver 9.9.9.9\n' }).network, { dns: { nameservers: ['9.9.9.9'] } }, 'what the person says counts more');
  for (const text of ['{', '{}', '{"formatVersion":1}', '{"formatVersion":1,"interfaces":[{"name":"eth0"}]}']) t.throws(() => parseGuestNetwork(text), /^network\.json: /, text);
  t.match(startMessage(options, { ...facts, terminal: { rows: 3, cols: 4 } }).apps[0]!.stdio, { kind: 'tty', size: { rows: 3, cols: 4 } });
  t.match(startMessage(options, { ...facts, hasScratchDisk: false }).scratch, { kind: 'tmpfs' });
  t.same(stdioOf({ interactive: false }, { index: 0, settings: undefined }, { rows: 1, cols: 1 }), { kind: 'streams', stdin: false });
});

t.test('files of the host', async (t) => {
  t.same(parseResolvConf('# c\nnameserver 1.1.1.1\nnameserver\t::1 # x\nsearch a b\n; no\noptions ndots:2 rotate\ndomain d\n'), { nameservers: ['1.1.1.1', '::1'], search: ['a', 'b'], options: ['ndots:2', 'rotate'], domain: 'd' });
  t.same(parseHosts('127.0.0.1 localhost # me\n\n::1\tip6 loop\n# x\n9.9.9.9\n'), [{ address: '127.0.0.1', names: ['localhost'] }, { address: '::1', names: ['ip6', 'loop'] }]);
});
