/** Mutable pods, as far as no virtual machine is needed: flags, manifests, the machine, QEMU's protocol with a QEMU that is not well-meaning. */
import '../helpers/fake-sys.ts';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { parseAddedApp, parsePodManifest } from '../../guest-agent/app/manifest.ts';
import { appVolume, sandboxPort } from '../../src/cli/flags/mutable.ts';
import { buildCache } from '../../scripts/build-cache.ts';
import { buildProgram } from '../../scripts/build-runtime.ts';
import { parseRunArguments } from '../../stage1-kvm/options.ts';
import { canonicalConfiguration, kernelCommandLine, planMachine } from '../../stage1-kvm/vmm/machine.ts';
import { requireRoom } from '../../stage1-kvm/vmm/size.ts';

const UUID = '11111111-2222-3333-4444-555555555555';

t.test('flags', async (t) => {
  t.strictSame(appVolume('name=data,kind=empty,target=/data,mode=0700,readOnly=true'), { volume: { name: 'data', kind: 'empty', readOnly: true, mode: '0700', uid: 0, gid: 0 }, path: '/data' });
  t.strictSame(appVolume('kind=host,target=/d,source=/srv,name=d').volume, { name: 'd', kind: 'host', source: '/srv' });
  for (const wrong of ['name=a,kind=empty', 'kind=empty,target=/x', 'name=a,kind=empty,target=x', 'name=a,kind=none,target=/x', 'name=a,name=b,kind=empty,target=/x']) t.throws(() => appVolume(wrong), wrong);
  t.strictSame(sandboxPort('web:tcp:80:127.0.0.1:8080'), { name: 'web', hostPort: 8080, hostIP: '127.0.0.1', podPort: { name: 'web', protocol: 'tcp', port: 80, count: 1, socketActivated: false } });
  t.equal(sandboxPort('web:udp:80:[::1]:8080').hostIP, '::1');
  for (const wrong of ['web:80', 'web:sctp:80:0.0.0.0:80', 'web:tcp:80:nowhere:80', 'web:tcp:0:0.0.0.0:80', 'Web:tcp:80:0.0.0.0:80']) t.throws(() => sandboxPort(wrong), wrong);
});

t.test('stage1: mutable excludes sealed', async (t) => {
  t.equal(parseRunArguments(['--mutable', UUID]).mutable, true);
  t.equal(parseRunArguments([UUID]).mutable, false);
  t.throws(() => parseRunArguments(['--mutable', '--sealed', UUID]), /cannot be mutable and sealed/);
});

t.test('manifests as the agent reads them', async (t) => {
  const pod = (annotations: object[]): boolean => parsePodManifest(JSON.stringify({ apps: [], annotations })).isMutable;
  t.equal(pod([{ name: 'coreos.com/rkt/stage1/mutable', value: 'true' }]), true);
  t.equal(pod([{ name: 'coreos.com/rkt/stage1/mutable', value: 'false' }]), false);
  t.equal(pod([]), false);
  const volume = { name: 'v', kind: 'empty', mode: '0700', uid: 1, gid: 2 };
  const app = { name: 'a', app: { exec: ['/x'], user: '0', group: '0' }, mounts: [{ volume: 'v', path: '/one', appVolume: volume }, { volume: 'v', path: '/two', appVolume: volume }] };
  t.match(parseAddedApp(app), { apps: [{ name: 'a', mounts: [{ volume: 'v', path: '/one' }, { volume: 'v', path: '/two' }] }], volumes: [{ name: 'v', mode: 0o700 }] });
  t.equal(parseAddedApp(app).volumes.length, 1, 'one volume, mounted twice');
  t.throws(() => parseAddedApp({ ...app, mounts: [{ volume: 'v', path: '/one' }] }), /mounts\[0\]\.appVolume: object expected/);
});

t.test('the machine', async (t) => {
  const base = { accelerator: 'tcg', size: { memoryMiB: 512, cpus: 1 }, network: 'none', vsock: 'own', tpm: false, givesBackMemory: false, volumes: [], disks: [{ serial: 'scratch', readOnly: false }] } as const;
  const plain = planMachine('elf', { ...base, hotPlug: false });
  const mutable = planMachine('elf', { ...base, hotPlug: true });
  t.equal(plain.board, 'microvm');
  t.equal(mutable.board, 'q35', 'a microvm has nothing to plug into');
  t.notMatch(canonicalConfiguration(plain), /bridge/);
  t.match(canonicalConfiguration(mutable), '{"slot":2,"type":"bridge"},{"slot":3,"type":"bridge"}');
  t.notMatch(kernelCommandLine(mutable, 'elf'), /pci/);
});

t.test('memory limits must fit', async (t) => {
  const mib = (count: number): number => count * 2 ** 20;
  requireRoom([], mib(384), 512);
  requireRoom([mib(200)], mib(184), 512);
  requireRoom([mib(384)], 0, 512);
  t.throws(() => requireRoom([mib(200)], mib(184) + 1, 512), { message: "the app's memory limit is 185 MiB, the pod has 184 MiB left for limits" });
});

t.test('disks plugged into a QEMU that may be hostile; what apps leave is removed', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'rkt-mutable-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const program = await buildProgram({ entry: join(import.meta.dirname, '../helpers/mutable-program.ts'), output: join(buildCache(), 'mutable-program') });
  const { stdout, stderr } = spawnSync(program.output, [directory], { encoding: 'utf8', timeout: 30_000 });
  t.equal(stderr, '');
  const { heard, serials, ...observed } = JSON.parse(stdout) as Record<string, unknown> & { heard: string[]; serials: string[] };
  t.strictSame(serials, ['disk-1', 'disk-1', 'disk-2'], 'one disk for apps of one image');
  t.strictSame(heard.filter((name) => name === 'device_add').length, 2);
  t.strictSame(heard.slice(-4), ['device_del', 'blockdev-del', 'device_del', 'blockdev-del']);
  t.strictSame(observed, {
    kept: 0,
    descriptors: 2,
    full: 'all 62 places for disks are taken',
    roomAgain: 'no error',
    refused: 'QEMU: device_add: no such bus',
    takenBack: 'blockdev-del',
    secondTime: 'no error',
    strangeEvents: 'no error',
    noJson: 'QEMU: one: QEMU has closed its connection',
    noObject: 'QEMU: one: QEMU has closed its connection',
    endless: 'QEMU: one: QEMU has closed its connection',
    closed: 'QEMU: one: no connection',
    tree: { left: ['outside'], app: null },
  });
});
