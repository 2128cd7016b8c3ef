/** The CNI host without a kernel: configurations, what plugins are told, what becomes of their answers. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { capabilityArguments } from '../../src/network/capability-arguments.ts';
import { configurationOf, parseNetworkConfiguration } from '../../src/network/cni/configuration.ts';
import type { Network } from '../../src/network/cni/configuration.ts';
import { runPlugin } from '../../src/network/cni/plugin.ts';
import { addNetwork, checkNetwork, chooseVersion, collectGarbage, deleteNetwork, networkStatus } from '../../src/network/cni/runtime.ts';
import { readRecords, removeRecord, writeRecord } from '../../src/network/attachment-record.ts';
import { networkInfo } from '../../src/network/network-info.ts';
import { chooseNetworks, networkDirectories, readNetworks } from '../../src/network/networks.ts';
import { parseResult } from '../../src/network/cni/result.ts';
import type { PodManifest } from '../../src/schema/index.ts';
import { answering, fakePlugins } from '../helpers/fake-plugin.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';

const attachment = { containerId: 'pod-1', namespacePath: '/run/rkt/netns/pod-1', ifName: 'eth0', args: '', capabilityArgs: {} };

function network(configuration: Record<string, unknown>): Network {
  const { versions: [version = '1.0.0'], ...rest } = parseNetworkConfiguration(JSON.stringify(configuration), 'test');
  return { ...rest, version };
}

t.test('configurations', async (t) => {
  const conf = parseNetworkConfiguration('{"cniVersion":"1.0.0","name":"a","type":"ptp","ipMasq":true,"capabilities":{"portMappings":true,"mac":false},"mtu":1400}', 'a.conf');
  t.match(conf, { name: 'a', versions: ['1.0.0'], disableCheck: false, disableGc: false, plugins: [{ type: 'ptp', ipMasq: true, capabilities: ['portMappings'], raw: { mtu: 1400 } }] });
  const list = parseNetworkConfiguration('{"cniVersion":"0.4.0","name":"b","disableCheck":true,"disableGC":"true","rkt":{"tap":"macvtap"},"plugins":[{"type":"bridge"},{"type":"tuning"}]}', 'b.conflist');
  t.match(list, { name: 'b', disableCheck: true, disableGc: true, tapMode: 'macvtap', plugins: [{ type: 'bridge' }, { type: 'tuning' }] });
  t.strictSame(parseNetworkConfiguration(JSON.stringify(configurationOf({ ...list, version: '0.4.0' })), 'again'), list, 'a configuration that was written is the same when it is read');

  const versions = (text: string): unknown => parseNetworkConfiguration(`{"name":"a","type":"x",${text}}`, 'v').versions;
  t.strictSame(versions('"mtu":1'), ['0.4.0'], "rkt's own configurations had no version");
  t.strictSame(versions('"cniVersion":"0.2.0"'), ['0.4.0']);
  t.strictSame(versions('"cniVersion":"1.0.0","cniVersions":["0.3.1","1.0.0","1.1.0","9.0.0"]'), ['1.1.0', '1.0.0', '0.4.0']);

  for (const [text, message] of [
    ['{', /^f: not valid JSON/],
    ['[]', /^f: expected an object/],
    ['{"type":"x"}', /^f: name: expected/],
    ['{"name":"../x","type":"x"}', /^f: name: expected a network name/],
    ['{"name":"a"}', /^f: type: expected/],
    ['{"name":"a","type":"../../bin/sh"}', /^f: type: expected the file name of a plugin/],
    ['{"name":"a","type":".."}', /^f: type: expected the file name of a plugin/],
    ['{"name":"a","plugins":[]}', /^f: plugins: expected at least one plugin/],
    ['{"name":"a","plugins":[{"type":"x"},{"type":7}]}', /^f: plugins\[1\]\.type: expected/],
    ['{"name":"a","type":"x","cniVersion":"2.0.0"}', /^f: cniVersion 2\.0\.0 is not supported/],
    ['{"name":"a","type":"x","rkt":{"tap":"pigeon"}}', /^f: rkt\.tap: expected one of/],
    [`{"name":"a","type":"x","pad":"${'x'.repeat(1 << 20)}"}`, /^f: larger than/],
  ] as const) t.throws(() => parseNetworkConfiguration(text, 'f'), message, text.slice(0, 60));
});

t.test('networks of directories', async (t) => {
  const root = scratchDir(t, 'net-d');
  const [own, shared] = [join(root, 'own'), join(root, 'shared')];
  for (const directory of [own, shared]) mkdirSync(directory);
  const write = (path: string, configuration: Record<string, unknown>): void => writeFileSync(path, JSON.stringify({ cniVersion: '1.0.0', type: 'ptp', ...configuration }));
  write(join(own, '50-b.conf'), { name: 'b' });
  write(join(own, '60-b.conf'), { name: 'b' });
  write(join(own, '70-default.conflist'), { name: 'default', type: 'bridge' });
  write(join(shared, '10-a.json'), { name: 'a' });
  write(join(shared, '55-b.conf'), { name: 'b', type: 'other' });
  writeFileSync(join(shared, '56-broken.conf'), '{');
  writeFileSync(join(shared, 'README'), 'not a configuration');

  const known = readNetworks([own, shared, join(root, 'missing')]);
  t.strictSame(known.networks.map(({ configuration, fileName }) => [fileName, configuration.name]), [['10-a.json', 'a'], ['50-b.conf', 'b'], ['70-default.conflist', 'default'], ['99-default-restricted.conf', 'default-restricted']]);
  t.match(known.networks[2], { path: join(own, '70-default.conflist') }, "a file takes the built-in network's place");
  t.match(known.problems.map(({ message }) => message), [`"b" network already defined in ${own}/50-b.conf, ignoring ${own}/60-b.conf`, /ignoring .*55-b\.conf/, /56-broken\.conf: not valid JSON/]);

  const names = (chosen: ReturnType<typeof chooseNetworks>): string[] => chosen.map(({ configuration, args }) => `${configuration.name}:${args}`);
  t.strictSame(names(chooseNetworks([{ name: 'default' }, { name: 'a', args: 'IP=10.0.0.9' }], known)), ['a:IP=10.0.0.9', 'default:'], 'files decide the order');
  t.strictSame(names(chooseNetworks([{ name: 'all' }, { name: 'b', args: 'x=y' }], known)), ['a:', 'b:x=y', 'default:', 'default-restricted:']);
  t.throws(() => chooseNetworks([{ name: 'nope' }, { name: 'a' }, { name: 'neither' }], known), { code: 'NOT_FOUND', message: 'networks not found: nope, neither', hint: /56-broken/ });

  t.strictSame(readNetworks([]).networks.map(({ configuration }) => configuration.name), ['default-restricted', 'default'], "in the order of rkt's files");
  const directories = networkDirectories({ localConfigDir: '/etc/rkt', pluginsDir: '/srv/cni' });
  t.strictSame(directories.configurations, ['/etc/rkt/net.d', '/etc/cni/net.d']);
  t.strictSame(directories.plugins, ['/etc/rkt/net.d', '/srv/cni', '/usr/lib/rkt/plugins/net', '/opt/cni/bin', '/usr/lib/cni']);
});

t.test('what plugins are told, and in which order', async (t) => {
  const plugins = fakePlugins(scratchDir(t, 'cni'));
  const host = { pluginDirs: ['/nonexistent', plugins.directory] };
  plugins.plugin('first', answering({ ips: [{ address: '10.0.0.2/24' }], extra: { kept: true } }));
  plugins.plugin('second', answering({ ips: [{ address: '10.0.0.2/24', gateway: '10.0.0.1' }], dns: { nameservers: ['10.0.0.1'] } }));
  const chain = network({ cniVersion: '1.0.0', name: 'n', plugins: [{ type: 'first', mtu: 1400, ipam: { type: 'x' } }, { type: 'second', capabilities: { portMappings: true, bandwidth: true, ips: false } }] });
  const results: unknown[] = [];
  const joined = { ...attachment, args: 'K=V', capabilityArgs: { portMappings: [{ hostPort: 1 }], ips: ['10.0.0.9'] } };

  const result = await addNetwork(chain, joined, { ...host, onResult: (raw) => void results.push(raw) });
  t.match(result, { ips: [{ address: '10.0.0.2/24', gateway: '10.0.0.1' }], dns: { nameservers: ['10.0.0.1'], search: [], options: [] }, interfaces: [] });
  t.equal(results.length, 2);
  const [first, second] = plugins.calls();
  t.strictSame(first?.input, { type: 'first', mtu: 1400, ipam: { type: 'x' }, cniVersion: '1.0.0', name: 'n' });
  t.strictSame(second?.input, {
    type: 'second', cniVersion: '1.0.0', name: 'n', runtimeConfig: { portMappings: [{ hostPort: 1 }] },
    prevResult: { cniVersion: '1.0.0', ips: [{ address: '10.0.0.2/24' }], extra: { kept: true } },
  });
  t.strictSame(second?.env, {
    CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'pod-1', CNI_NETNS: '/run/rkt/netns/pod-1', CNI_IFNAME: 'eth0', CNI_ARGS: 'IgnoreUnknown=1;K=V', CNI_PATH: `/nonexistent:${plugins.directory}`,
  });

  t.ok(await checkNetwork(chain, joined, { ...host, result: result.raw }));
  t.strictSame(plugins.calls().map(({ type, command, input }) => [type, command, input['prevResult']]), [['first', 'CHECK', result.raw], ['second', 'CHECK', result.raw]]);
  t.notOk(await checkNetwork({ ...chain, disableCheck: true }, joined, { ...host, result: result.raw }));

  await deleteNetwork(chain, { ...joined, namespacePath: '' }, { ...host, result: result.raw });
  t.strictSame(plugins.calls().map(({ type, command, env, input }) => [type, command, env['CNI_NETNS'], input['prevResult']]), [['second', 'DEL', '', result.raw], ['first', 'DEL', '', result.raw]]);
  await deleteNetwork(chain, attachment, { ...host, result: undefined });
  t.notOk(plugins.calls().some(({ input }) => 'prevResult' in input), 'there is no result of an ADD that failed at once');

  t.notOk(await networkStatus(chain, host), '1.0.0 knows neither STATUS nor GC');
  t.notOk(await collectGarbage(chain, [], host));
  const modern = { ...chain, version: '1.1.0' as const };
  t.ok(await networkStatus(modern, host));
  t.ok(await collectGarbage(modern, [attachment], host));
  t.notOk(await collectGarbage({ ...modern, disableGc: true }, [attachment], host));
  t.match(plugins.calls(), [
    { type: 'first', command: 'STATUS', input: { cniVersion: '1.1.0', name: 'n' } },
    { type: 'second', command: 'STATUS' },
    { type: 'first', command: 'GC', input: { 'cni.dev/valid-attachments': [{ containerID: 'pod-1', ifname: 'eth0' }] } },
    { type: 'second', command: 'GC' },
  ]);
});

t.test('versions', async (t) => {
  const plugins = fakePlugins(scratchDir(t, 'cni'));
  const host = { pluginDirs: [plugins.directory] };
  plugins.plugin('old', '', ['0.3.1', '0.4.0', '1.0.0']);
  plugins.plugin('new', '', ['1.0.0', '1.1.0']);
  plugins.plugin('ancient', '', ['0.1.0']);
  const of = (types: string[], cniVersions: string[]) => parseNetworkConfiguration(JSON.stringify({ cniVersion: '1.0.0', cniVersions, name: 'n', plugins: types.map((type) => ({ type })) }), 'v');
  t.equal(await chooseVersion(of(['old', 'new'], ['0.4.0', '1.0.0', '1.1.0']), host), '1.0.0');
  t.equal(await chooseVersion(of(['new'], ['0.4.0', '1.0.0', '1.1.0']), host), '1.1.0');
  await t.rejects(chooseVersion(of(['old', 'ancient'], ['1.0.0', '1.1.0']), host), { code: 'UNSUPPORTED', message: /no version of 1\.1\.0, 1\.0\.0 is spoken by all plugins \(old: .*; ancient: 0\.1\.0\)/ });
  t.equal(await chooseVersion(of(['missing'], ['1.0.0']), host), '1.0.0', 'without a choice nobody is asked');
});

t.test('when plugins fail', async (t) => {
  const plugins = fakePlugins(scratchDir(t, 'cni'));
  const failing = async (body: string, options: { timeoutMs?: number } = {}): Promise<Error & { code?: string; hint?: string }> => {
    plugins.plugin('p', body);
    try {
      await addNetwork(network({ cniVersion: '1.0.0', name: 'n', type: 'p' }), attachment, { pluginDirs: [plugins.directory], onResult: () => undefined, ...options });
    } catch (error) {
      return error as Error;
    }
    throw new Error('did not fail');
  };
  t.match(await failing(`echo '{"cniVersion":"1.0.0","code":7,"msg":"bad subnet","details":"10.0.0/8"}'; exit 1`), { code: 'IO', message: 'network "n": plugin p (ADD) failed: bad subnet; 10.0.0/8' });
  t.match(await failing(`echo '{"code":1,"msg":"incompatible CNI versions"}'; exit 1`), { code: 'UNSUPPORTED', hint: /does not speak the cniVersion/ });
  t.match(await failing('echo "panic: oh no" >&2; exit 2'), { message: 'network "n": plugin p (ADD) failed with exit status 2: panic: oh no' });
  t.match(await failing('kill -KILL $$'), { message: /was ended by SIGKILL/ });
  t.match(await failing('exit 0'), { message: /result of plugin p: not valid JSON/ });
  t.match(await failing(`echo '{"ips":[{"gateway":"x"}]}'`), { message: /result of plugin p: ips\[0\]\.address: expected a string/ });
  t.match(await failing('exec sleep 20', { timeoutMs: 200 }), { message: /did not end within 0\.2 seconds/ });
  t.match(await failing('exec head -c 5000000 /dev/zero'), { code: 'LIMIT', message: /printed more than/ });
  await t.rejects(runPlugin({ command: 'ADD', network: 'n', type: 'gone', configuration: {}, variables: {} }, { pluginDirs: ['/nonexistent'] }), {
    code: 'MISSING_DEPENDENCY', message: 'network "n": there is no CNI plugin "gone" in /nonexistent', hint: /containernetworking-plugins/,
  });
  plugins.calls();

  plugins.plugin('good', answering({}));
  plugins.plugin('bad', `echo '{"code":100,"msg":"no"}'; exit 1`);
  const chain = network({ cniVersion: '1.0.0', name: 'n', plugins: [{ type: 'good' }, { type: 'bad' }, { type: 'good' }] });
  await t.rejects(addNetwork(chain, attachment, { pluginDirs: [plugins.directory], onResult: () => undefined }));
  t.strictSame(plugins.calls().map(({ type }) => type), ['good', 'bad'], 'those behind it are not called');
  await t.rejects(deleteNetwork(chain, attachment, { pluginDirs: [plugins.directory], result: undefined }));
  t.strictSame(plugins.calls().map(({ type }) => type), ['good', 'bad']);
  await t.rejects(collectGarbage({ ...chain, version: '1.1.0' }, [], { pluginDirs: [plugins.directory] }), { message: 'network "n": plugin bad (GC) failed: no' });
  t.strictSame(plugins.calls().map(({ type }) => type), ['good', 'bad', 'good'], 'others may still collect their garbage');
});

t.test('when plugins say "later"', async (t) => {
  const plugins = fakePlugins(scratchDir(t, 'cni'));
  const host = { pluginDirs: [plugins.directory], retryDelaysMs: [1, 1], onResult: () => undefined };
  const later = `{ echo '{"code":11,"msg":"soon"}'; exit 1; }`;
  const chain = network({ cniVersion: '1.0.0', name: 'n', plugins: [{ type: 'first' }, { type: 'slow' }] });
  const commands = (): string[] => plugins.calls().map(({ type, command }) => `${type} ${command}`);
  plugins.plugin('first', answering({ ips: [] }));
  plugins.plugin('slow', `if [ "$CNI_COMMAND" = ADD ]; then [ -e "${plugins.directory}/ready" ] || { touch "${plugins.directory}/ready"; ${later}; }; echo '{}'; fi`);
  await addNetwork(chain, attachment, host);
  t.strictSame(commands(), ['first ADD', 'slow ADD', 'slow DEL', 'slow ADD'], 'it is called again, as if for the first time');

  plugins.plugin('slow', later);
  await t.rejects(deleteNetwork(chain, attachment, { ...host, result: undefined }), { code: 'BUSY', message: 'network "n": plugin slow (DEL) failed: soon', hint: /try again later/ });
  t.strictSame(commands(), ['slow DEL', 'slow DEL', 'slow DEL'], 'but not forever');
});

t.test('records of a pod directory', async (t) => {
  const podDir = scratchDir(t, 'pod');
  t.strictSame(readRecords(podDir), []);
  const { namespacePath: _path, ...kept } = attachment;
  const one = { network: network({ cniVersion: '1.0.0', name: 'n', plugins: [{ type: 'ptp' }, { type: 'portmap', capabilities: { portMappings: true } }], rkt: { tap: 'bridge' } }), attachment: kept };
  const ten = { ...one, attachment: { ...kept, ifName: 'eth10', args: 'A=1' }, result: { ips: [], odd: 1 }, tapMode: 'bridge' as const };
  const two = { ...one, attachment: { ...kept, ifName: 'eth2' } };
  writeRecord(podDir, ten, { durable: true });
  writeRecord(podDir, two, { durable: false });
  writeRecord(podDir, one, { durable: true });
  t.strictSame(readRecords(podDir), [one, two, ten]);
  removeRecord(podDir, 'eth2');
  removeRecord(podDir, 'eth2');
  t.equal(readRecords(podDir).length, 2);
  const path = join(podDir, 'net/eth0.json');
  writeFileSync(path, readFileSync(path, 'utf8').replace('"ptp"', '"../ptp"'));
  t.throws(() => readRecords(podDir), { code: 'BAD_INPUT', message: /net\/eth0\.json: configuration\.plugins\[0\]\.type/ });
});

t.test('net-info.json', async (t) => {
  const { namespacePath: _path, ...kept } = attachment;
  const record = { network: network({ cniVersion: '1.0.0', name: 'n', type: 'ptp' }), attachment: { ...kept, args: 'IP=10.0.0.9' } };
  const of = (addresses: string[]) => networkInfo({ record, result: parseResult(JSON.stringify({ ips: addresses.map((address) => ({ address })) }), 'r'), pluginPath: '/usr/lib/cni/ptp' });
  t.strictSame(of(['fd00::9/64', '10.0.0.9/20', '10.0.0.10/20']), {
    netName: 'n', netConf: 'net/eth0.json', pluginPath: '/usr/lib/cni/ptp', ifName: 'eth0', ip: '10.0.0.9', args: 'IP=10.0.0.9', mask: '255.255.240.0', ip6: 'fd00::9',
  });
  t.match(of(['10.0.0.1/32']), { mask: '255.255.255.255' });
  t.match(of([]), { ip: '', mask: '' });
});

t.test('capability arguments', async (t) => {
  const manifest = (limits: (string | undefined)[]): PodManifest => ({
    acKind: 'PodManifest', acVersion: '0.8.11',
    apps: limits.map((limit, index) => ({
      name: `a${index}`, image: { id: `sha512-${'0'.repeat(64)}` },
      app: { exec: ['/x'], user: '0', group: '0', isolators: limit === undefined ? [] : [{ name: 'resource/network-bandwidth', value: { limit } }] },
    })),
  });
  const of = (limits: (string | undefined)[], args = '') => capabilityArguments({ manifest: manifest(limits), args, aliases: ['web'], dns: undefined });
  t.strictSame(of([]), { aliases: ['web'] });
  t.strictSame(of(['1G', undefined]), { aliases: ['web'] }, 'an app without a limit may use everything');
  t.strictSame(of(['40M', '60M'])['bandwidth'], { ingressRate: 100e6, ingressBurst: 10e6, egressRate: 100e6, egressBurst: 10e6 });
  t.match(of(['100G'])['bandwidth'], { ingressBurst: 2 ** 31 - 1 });
  t.match(of([], 'IP=10.0.0.9,fd00::9;MAC=02:00:00:00:00:01'), { ips: ['10.0.0.9', 'fd00::9'], mac: '02:00:00:00:00:01' });
});
