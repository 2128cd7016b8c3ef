import '../helpers/fake-sys.ts';
import t from 'tap';
import { parsePodManifest, type AppManifest } from '../../guest-agent/app/manifest.ts';
import { parseQuantity } from '../../guest-agent/app/quantity.ts';
import { buildEnvironment } from '../../guest-agent/app/environment.ts';
import { isImagesOwn, planVolumes } from '../../guest-agent/machine/volumes.ts';
import { hostsFile, resolvConf } from '../../guest-agent/machine/network.ts';
import { parseHostMessage, parseStreamHeader } from '../../guest-agent/messages.ts';
import { startMessage } from '../helpers/agent-client.ts';

const manifest = (app: object, runtime: object = {}, volumes: object[] = []): string =>
  JSON.stringify({ acKind: 'PodManifest', apps: [{ name: 'a', app: { exec: ['/x'], user: '0', group: '0', ...app }, ...runtime }], volumes });

function appOf(app: object, runtime: object = {}): AppManifest {
  const parsed = parsePodManifest(manifest(app, runtime)).apps[0];
  if (parsed === undefined) throw new Error('no app');
  return parsed;
}

t.test('an app and what is not said about it', async (t) => {
  const app = appOf({ eventHandlers: [{ name: 'pre-start', exec: ['/y'] }] });
  t.equal(app.workingDirectory, '/');
  t.equal(app.readOnlyRoot, false);
  t.strictSame(app.preStart, ['/y']);
  t.equal(app.postStop, undefined);
});

t.test('errors name the field', async (t) => {
  t.throws(() => appOf({ user: 7 }), { message: 'apps[0].app.user: string expected' });
  t.throws(() => appOf({ exec: ['a', 1] }), { message: 'apps[0].app.exec[1]: string expected' });
  t.throws(() => appOf({ exec: ['a\0b'] }), { message: 'apps[0].app.exec[0]: string without NUL expected' });
  t.throws(() => appOf({ workingDirectory: 'x' }), { message: 'apps[0].app.workingDirectory: absolute path expected' });
  t.throws(() => appOf({ environment: [{ name: 'A=B', value: '' }] }), { message: /name without = expected/ });
  t.throws(() => appOf({ supplementaryGIDs: [-1] }), { message: /supplementaryGIDs\[0\]: integer from 0/ });
  t.throws(() => parsePodManifest(manifest({}, {}, [{ name: 'v', kind: 'empty', mode: '9' }])), { message: 'volumes[0].mode: octal mode expected' });
});

t.test('quantities', async (t) => {
  t.equal(parseQuantity('1Ki', 'x'), 1024);
  t.equal(parseQuantity('1.5k', 'x'), 1500);
  t.equal(parseQuantity('2e3', 'x'), 2000);
  t.equal(parseQuantity('100m', 'x'), 0.1);
  for (const bad of ['', 'x', '-1', '1Kix', '1 Ki', 'Ki']) t.throws(() => parseQuantity(bad, 'x'), { message: /is not a quantity/ }, bad);
});

t.test('environment', async (t) => {
  const account = { name: 'www', home: '/var/www', shell: '/bin/sh' };
  const identity = { uid: 33, gid: 33, supplementaryGids: [], account };
  const variables = [{ name: 'HOME', value: '/other' }, { name: 'AC_APP_NAME', value: 'lie' }];
  const environment = buildEnvironment({ appName: 'a', identity, variables, extra: { TERM: 'linux' }, hasTerminal: true });
  t.strictSame(Object.fromEntries(environment), {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: '/other', USER: 'www', LOGNAME: 'www', SHELL: '/bin/sh', TERM: 'linux', AC_APP_NAME: 'a',
  });
  const nobody = buildEnvironment({ appName: 'a', identity: { ...identity, account: undefined }, variables: [], hasTerminal: false });
  t.equal(nobody.get('HOME'), '/');
  t.equal(nobody.get('USER'), undefined);
});

t.test('volumes', async (t) => {
  const volumes = [{ kind: 'empty', name: 'data', mode: 0o700, uid: 1, gid: 2, readOnly: true } as const];
  const plain = { kind: 'empty', name: 'data', mode: 0o700, uid: 1, gid: 2 } as const;
  const own = { owner: null, takesContent: false };
  const app = appOf(
    { mountPoints: [{ name: 'data', path: '/data' }, { name: 'log', path: '/data/log', readOnly: true }, { name: 'volume-www', path: '/var/www' }] },
  );
  const plan = planVolumes(app, volumes);
  t.strictSame(plan.mounts, [
    { path: '/data', readOnly: true, volume: plain, ...own },
    { path: '/data/log', readOnly: true, volume: { kind: 'empty', name: 'a-log', mode: 0o755, uid: 0, gid: 0 }, ...own },
    { path: '/var/www', readOnly: false, volume: undefined, ...own },
  ]);
  t.match(plan.warnings, [/^no volume specified for mount point "log", implicitly creating an "empty" volume/, /"volume-www"/]);
  const named = (name: string) => planVolumes(app, [...volumes, { kind: 'empty', name, mode: 0o755, uid: 0, gid: 0, readOnly: false }]);
  const mounted = appOf({ mountPoints: [{ name: 'volume-www', path: '/var/www' }] }, { mounts: [{ volume: 'a-volume-www', path: '/var/www' }] });
  const implicit = { kind: 'empty', name: 'a-volume-www', mode: 0o755, uid: 0, gid: 0, readOnly: false } as const;
  t.strictSame(planVolumes(mounted, [implicit]).mounts, [{ path: '/var/www', readOnly: false, volume: undefined, ...own }], 'what the image has there is kept');
  t.match(named('volume-www').mounts[2], { volume: { name: 'volume-www' }, takesContent: true }, 'unless a volume was asked for');
  const host = { kind: 'host', name: 'h', source: '/x' } as const;
  t.notOk(isImagesOwn('a', { ...host, name: 'a-volume-www', readOnly: undefined }, mounted.mountPoints[0]), 'a directory of the host was always asked for');
  const readOnlyPoint = appOf({ mountPoints: [{ name: 'h', path: '/h', readOnly: true }] });
  t.strictSame(planVolumes(readOnlyPoint, [{ ...host, readOnly: undefined }]).mounts, [{ path: '/h', readOnly: true, volume: host, ...own }]);
  t.equal(planVolumes(readOnlyPoint, [{ ...host, readOnly: false }]).mounts[0]?.readOnly, false, 'the volume decides where it says something');
  const withOwn = appOf({}, { mounts: [{ volume: 'data', path: 'relative', appVolume: { ...host, readOnly: true } }] });
  t.strictSame(planVolumes(withOwn, volumes).mounts, [{ path: '/relative', readOnly: true, volume: host, owner: 'a', takesContent: false }]);
  t.throws(() => planVolumes(appOf({}, { mounts: [{ volume: 'none', path: '/x' }] }), []), { message: 'no volume "none" for the mount of /x' });
});

t.test('files of the network', async (t) => {
  t.equal(resolvConf({ nameservers: ['10.0.2.3'], search: ['a', 'b'], options: ['ndots:1'], domain: 'x' }), 'domain x\nnameserver 10.0.2.3\nsearch a b\noptions ndots:1\n');
  t.match(hostsFile('pod', [{ address: '1.2.3.4', names: ['x', 'y'] }]), /^127\.0\.0\.1 localhost pod\n.*\n1\.2\.3\.4 x y\n$/s);
});

t.test('messages of the host', async (t) => {
  const start = startMessage([{ exec: ['/x'] }]);
  const [app] = start.apps;
  const stdio = { stdout: true, stderr: true, announced: false, ...app!.stdio };
  t.strictSame(parseHostMessage(JSON.parse(JSON.stringify(start))), { ...start, apps: [{ ...app!, stdio }] }, 'as it was, with what is assumed');
  t.throws(() => parseHostMessage({ type: 'nonsense' }), { message: 'type: known message type expected' });
  t.throws(() => parseHostMessage({ ...start, insecure: undefined }), { message: 'insecure: object expected' });
  t.throws(() => parseHostMessage({ type: 'signal', process: 1, signal: 99 }), { message: 'signal: integer from 1 to 64 expected' });
  t.throws(() => parseHostMessage({ type: 'exec', request: 1, app: 'a', argv: [], env: {}, stdio: {} }), { message: 'argv: at least one element expected' });
  t.strictSame(parseStreamHeader({ process: 1, stream: 'tty' }), { process: 1, stream: 'tty' });
  t.throws(() => parseStreamHeader({ process: 1, stream: 'x' }));
});
