/** Units for pods and for rkt's own services, judged by systemd: its verifier, and a manager of its own that runs them. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { activatedSockets, podUnits } from '../src/cli/systemd/pod-units.ts';
import { commandLine } from '../src/cli/systemd/unit-file.ts';
import { callMachined, isInService } from '../src/stage0/machined.ts';
import { busyboxImage } from './helpers/busybox.ts';
import { makeAci } from './helpers/make-image.ts';
import { eventually, makeHost, PROGRAM } from './helpers/rkt.ts';
import { isListening } from './helpers/unix-socket.ts';

const host = makeHost('units');
t.teardown(host.close);
const OCI = busyboxImage();
const units = join(host.workDir, 'units');
mkdirSync(units);

/** What systemd says against the units. */
function verify(paths: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', ...paths], { encoding: 'utf8' });
  // Nothing but complaints is printed, also about units of this machine that have nothing to do with these.
  const about = `${stdout}${stderr}`.split('\n').filter((line) => line.includes('rkt'));
  return status === 0 ? about.join('\n') : `exit status ${status ?? -1}: ${stdout}${stderr}`;
}

async function generate(args: readonly string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const { status, stdout, stderr } = await host.rkt(['generate', 'systemd', ...args], { cwd: units });
  return { status, stdout: stdout.toString(), stderr };
}

/** What a shell, a unit file or JSON would take for something else. */
const AWKWARD = ['a "b" \'c\'', '$HOME ${HOME} $$', '%n %%', 'back\\slash\\', ';', 'line\nbreak\ttab', '', 'ü\u{1f600}', '-x', '#'];

t.test('units are what systemd-analyze verify accepts', async (t) => {
  const activated = makeAci(join(host.workDir, 'activated.aci'), { manifest: { app: { exec: ['/bin/sh'], user: '0', group: '0', ports: [{ name: 'http', protocol: 'tcp', port: 80, socketActivated: true }, { name: 'plain', protocol: 'tcp', port: 81 }] } } });
  const cases: [name: string, args: readonly string[]][] = [
    ['rkt-busybox', ['--net=none', OCI, `--environment=X=${AWKWARD.join('|')}`, '--', ...AWKWARD]],
    ['rkt-web', ['--slice=machine.slice', '--restart-policy=always', '--net=none', '--user-config=conf', 'docker://registry.example.com/team/web:v1@sha256:00']],
    ['named', ['--unit-name=named', '--port=http:8080', '--port=plain:127.0.0.1:8081', activated, '--name=one', '--', '-x', '---', OCI, '--name=two']],
  ];
  for (const [name, args] of cases) {
    const { status, stdout, stderr } = await generate(['--files', ...args]);
    t.equal(status, 0, stderr);
    const files = stdout.trim().split('\n');
    t.strictSame(files, [join(units, `${name}.service`), ...(name === 'named' ? [join(units, 'named.socket')] : [])]);
    t.equal(verify(files), '', name);
    t.ok((await generate(args)).stdout.startsWith(`# ${name}.service\n${readFileSync(files[0] ?? '', 'utf8').trimEnd()}`), 'the same to standard output');
  }
  t.match(readFileSync(join(units, 'named.socket'), 'utf8'), /^ListenStream=8080$/m);
  t.notMatch(readFileSync(join(units, 'named.socket'), 'utf8'), '8081');
  t.match(readFileSync(join(units, 'rkt-web.service'), 'utf8'), `--user-config=${units}/conf`, 'paths do not depend on a directory');
  for (const [args, expected] of [
    [['--interactive', OCI], 'a service has no terminal: --interactive cannot be used in a unit'],
    [['--unit-name=a/b', OCI], '--unit-name: "a/b" cannot be the name of a unit'],
    [['--slice=machine', OCI], 'expected the name of a slice, such as machine.slice'],
    [[], 'must provide at least one image or specify the pod manifest'],
  ] as const) {
    const refused = await generate(args);
    t.equal(refused.status, 254);
    t.match(refused.stderr, expected);
  }
});

t.test("rkt's own units", async (t) => {
  const shipped = join(import.meta.dirname, '../systemd');
  const copies = readdirSync(shipped).filter((name) => name.startsWith('rkt-')).map((name) => {
    const path = join(units, name);
    writeFileSync(path, readFileSync(join(shipped, name), 'utf8').replaceAll('/usr/bin/rkt', PROGRAM));
    return path;
  });
  t.equal(copies.length, 4);
  t.equal(verify(copies), '');
  const root = join(host.workDir, 'root');
  mkdirSync(root);
  const { status, stderr } = spawnSync('systemd-tmpfiles', ['--create', `--root=${root}`, join(shipped, 'tmpfiles.d/rkt.conf')], { encoding: 'utf8' });
  t.equal(status, 0, stderr);
  t.ok(statSync(join(root, 'run/rkt')).isDirectory());
});

t.test('sockets of ports', async (t) => {
  const port = { name: 'p', protocol: 'tcp', port: 80, count: 1, socketActivated: true };
  const app = { name: 'a', image: { id: 'sha512-0' }, app: { exec: ['x'], user: '0', group: '0', ports: [port, { ...port, name: 'u', protocol: 'udp', count: 2 }] } };
  const sockets = activatedSockets({ apps: [app], ports: [{ name: 'p', hostPort: 1, hostIP: '::1' }, { name: 'u', hostPort: 2, hostIP: '10.0.0.1' }, { name: 'x', hostPort: 9, podPort: { ...port, socketActivated: false } }] });
  t.strictSame(sockets, [{ protocol: 'tcp', address: '[::1]:1' }, { protocol: 'udp', address: '10.0.0.1:2' }, { protocol: 'udp', address: '10.0.0.1:3' }]);
  const [, socket] = podUnits({ unitName: 'u', description: 'd', program: '/bin/true', dataDir: '/', globals: [], args: [], sockets, restart: 'no', isSystem: true });
  t.match(socket?.text, /ListenStream=\[::1\]:1\nListenDatagram=10\.0\.0\.1:2\nListenDatagram=10\.0\.0\.1:3\n/);
});

/** Not systemd-machined: something with its name and methods that prints what it is told. */
const FAKE_MACHINED = `
import dbus, dbus.mainloop.glib, dbus.service, json
from gi.repository import GLib
dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
I = 'org.freedesktop.machine1.Manager'
class Fake(dbus.service.Object):
    def told(self, method, name, id, service, kind, leader, root):
        print(json.dumps([method, str(name), bytes(id).hex(), str(service), str(kind), int(leader), str(root)]), flush=True)
        if leader == 1: raise dbus.DBusException('no such leader', name='org.freedesktop.DBus.Error.InvalidArgs')
        return dbus.ObjectPath('/org/freedesktop/machine1/machine/fake')
    @dbus.service.method(I, in_signature='sayssus', out_signature='o')
    def RegisterMachine(self, name, id, service, kind, leader, root): return self.told('RegisterMachine', name, id, service, kind, leader, root)
    @dbus.service.method(I, in_signature='sayssusa(sv)', out_signature='o')
    def CreateMachine(self, name, id, service, kind, leader, root, properties): return self.told('CreateMachine', name, id, service, kind, leader, root)
bus = dbus.SystemBus()
name = dbus.service.BusName('org.freedesktop.machine1', bus)
fake = Fake(bus, '/org/freedesktop/machine1')
print('ready', flush=True)
GLib.MainLoop().run()
`;
const BUS = `<busconfig><type>session</type><listen>unix:path=${host.workDir}/bus</listen><auth>EXTERNAL</auth><policy context="default"><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>`;

function whyNoBus(): string | false {
  if (spawnSync('dbus-daemon', ['--version']).status !== 0) return 'dbus-daemon is not installed';
  return spawnSync('/usr/bin/python3', ['-c', 'import dbus, gi']).status === 0 ? false : 'python3-dbus and python3-gi are not installed';
}

t.test('machined is told what its methods take', { skip: whyNoBus() }, async (t) => {
  writeFileSync(join(host.workDir, 'bus.conf'), BUS);
  process.env['DBUS_SYSTEM_BUS_ADDRESS'] = `unix:path=${host.workDir}/bus`;
  t.teardown(() => delete process.env['DBUS_SYSTEM_BUS_ADDRESS']);
  const daemon = spawn('dbus-daemon', ['--nofork', `--config-file=${join(host.workDir, 'bus.conf')}`], { stdio: 'ignore' });
  t.teardown(() => daemon.kill());
  await eventually('the bus is there', () => isListening(join(host.workDir, 'bus')));
  const fake = spawn('/usr/bin/python3', ['-c', FAKE_MACHINED], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => fake.kill());
  let told = '';
  fake.stdout.on('data', (chunk: Buffer) => (told += chunk.toString()));
  await eventually('the fake is ready', () => {
    if (fake.exitCode !== null) throw new Error('the fake has ended');
    return told.includes('ready');
  });

  const problems: string[] = [];
  const uuid = '00112233-4455-4677-8899-aabbccddeeff';
  const machine = { uuid, class: 'vm' as const, leaderPid: 4711, rootDirectory: '/some where', log: (message: string) => void problems.push(message) };
  callMachined(machine, true);
  callMachined(machine, false);
  t.strictSame(problems, []);
  callMachined({ ...machine, leaderPid: 1 }, true);
  t.match(problems, [/^the pod is not registered with systemd-machined: .*no such leader/]);
  await eventually('the fake has printed it', () => told.split('\n').length > 4);
  const expected = (method: string, pid: number): string => JSON.stringify([method, `rkt-${uuid}`, uuid.replaceAll('-', ''), 'rkt', 'vm', pid, '/some where']);
  t.strictSame(told.trim().split('\n').slice(1).map((line) => JSON.stringify(JSON.parse(line))), [expected('RegisterMachine', 4711), expected('CreateMachine', 4711), expected('RegisterMachine', 1)]);
});

t.test('whether a pod is in a service', async (t) => {
  t.ok(isInService('0::/system.slice/rkt-web.service\n'));
  t.ok(isInService('9:name=systemd:/system.slice/rkt-web.service\n8:pids:/x\n0::/\n'));
  t.notOk(isInService('0::/user.slice/user-0.slice/session-1.scope\n'));
  t.notOk(isInService('0::/user.slice/user-1.slice/user@1.service/app.slice/shell.scope\n'));
  t.notOk(isInService('8:pids:/system.slice/x.service\n0::/init.scope\n'));
});

/** A manager of its own that believes the machine has been booted with systemd. */
const IN_MANAGER = 'mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system /run/user && exec "$@"';
const ENVIRONMENT = { ...process.env, XDG_RUNTIME_DIR: '/run/user', HOME: host.workDir, SYSTEMD_UNIT_PATH: `${units}:` };

function whyNoManager(): string | false {
  const { status, stderr } = spawnSync('unshare', ['--mount', 'sh', '-c', IN_MANAGER, 'sh', '/lib/systemd/systemd', '--user', '--unit=exit.target'], { encoding: 'utf8', env: ENVIRONMENT, timeout: 60_000 });
  return status === 0 ? false : `systemd cannot run here: ${stderr.trim().split('\n').at(-1) ?? ''}`;
}

t.test('systemd runs them', { skip: process.getuid?.() === 0 ? whyNoManager() : 'root only' }, async (t) => {
  // What arrives is what was asked for, whatever is in it.
  writeFileSync(join(units, 'words.service'), `[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=${commandLine(['/bin/sh', '-c', 'for word; do printf "%s\\0" "$word"; done > "$0"', join(host.workDir, 'words'), ...AWKWARD])}\n`);
  const manager = spawn('unshare', ['--mount', 'sh', '-c', IN_MANAGER, 'sh', '/lib/systemd/systemd', '--user', '--unit=words.service', '--log-target=console'], { env: ENVIRONMENT, stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  manager.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()));
  const ended = new Promise((resolve) => manager.on('close', resolve));
  t.teardown(async () => {
    manager.kill('SIGTERM');
    await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 20_000).unref())]);
    manager.kill('SIGKILL');
  });
  const systemctl = (...args: string[]): string => spawnSync('nsenter', [`--target=${manager.pid ?? -1}`, '--mount', 'systemctl', '--user', ...args], { encoding: 'utf8', env: ENVIRONMENT }).stdout.trim();
  const property = (unit: string, name: string): string => systemctl('show', '--value', `--property=${name}`, unit);
  await eventually(`the manager is up: ${log}`, () => property('words.service', 'ActiveState') === 'active');
  t.strictSame(readFileSync(join(host.workDir, 'words'), 'utf8').split('\0').slice(0, -1), AWKWARD);

  const podsIn = (state: string): string[] => host.listing().flatMap((path) => new RegExp(`^pods/${state}/([0-9a-f-]{36})/$`).exec(path)?.[1] ?? []);
  const runUnit = async (name: string): Promise<string> => {
    systemctl('start', '--no-block', name);
    await eventually(`${name} is active`, () => {
      if (property(name, 'ActiveState') === 'failed') throw new Error(`${name} has failed: ${systemctl('status', '--no-pager', name)} ${log}`);
      return property(name, 'ActiveState') === 'active';
    });
    const [uuid = '', ...others] = podsIn('run');
    t.strictSame(others, []);
    t.ok(host.listing().includes(`pods/run/${uuid}/supervisor-status 0`), 'active when its apps have been started');
    t.equal(property(name, 'MainPID'), readFileSync(join(host.dataDir, 'pods/run', uuid, 'pid'), 'utf8').trim());
    return uuid;
  };
  const stopUnit = (name: string, uuid: string): void => {
    systemctl('stop', name);
    t.equal(property(name, 'Result'), 'success', 'being stopped is no failure');
    t.strictSame(podsIn('run'), []);
    t.ok(podsIn('exited-garbage').includes(uuid), 'ExecStopPost has marked it');
  };
  const manifestOf = (state: string, uuid: string): string => readFileSync(join(host.dataDir, 'pods', state, uuid, 'pod'), 'utf8');

  const args = ['--net=none', '--hostname=my-host', '--mem=300M', OCI, '--name=awkward', `--environment=X=${AWKWARD.join('|')}`, '--exec=/bin/sleep', '--', '600'];
  t.equal((await generate(['--files', ...args])).status, 0);
  systemctl('daemon-reload');
  const first = await runUnit('rkt-awkward.service');
  t.match(JSON.parse(manifestOf('run', first)), { apps: [{ app: { exec: ['/bin/sleep', '600'], environment: [{ name: 'PATH' }, { name: 'X', value: AWKWARD.join('|') }] } }] });
  stopUnit('rkt-awkward.service', first);

  // The pod that has run, again.
  const again = await generate(['--files', '--unit-name=again', first.slice(0, 8)]);
  t.equal(again.status, 0, again.stderr);
  t.equal(verify([join(units, 'again.service')]), '');
  systemctl('daemon-reload');
  const second = await runUnit('again.service');
  t.equal(manifestOf('run', second), manifestOf('exited-garbage', first), 'the same manifest');
  const startFlags = (state: string, uuid: string): unknown => JSON.parse(readFileSync(join(host.dataDir, 'pods', state, uuid, 'start-flags.json'), 'utf8'));
  t.strictSame(startFlags('run', second), startFlags('exited-garbage', first), 'started with the same flags');
  t.strictSame(startFlags('run', second), ['--net=none', '--hostname=my-host', '--mem=300M']);
  stopUnit('again.service', second);
});
