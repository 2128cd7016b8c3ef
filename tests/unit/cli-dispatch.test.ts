/** From a command line to output and exit status, for what needs neither root nor a pod. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { COMMANDS } from '../../src/cli/command-table.ts';
import { dispatch } from '../../src/cli/dispatch.ts';
import { APPC_VERSION, RKT_VERSION } from '../../src/cli/version.ts';
import { APPC_VERSION as SCHEMA_APPC_VERSION } from '../../src/schema/index.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';

interface Ended {
  status: number;
  stdout: string;
  stderr: string;
}

async function rkt(argv: string[], options: { uid?: number; installDir?: string; cwd?: string } = {}): Promise<Ended> {
  const ended: Ended = { status: -1, stdout: '', stderr: '' };
  ended.status = await dispatch(argv, {
    cwd: options.cwd ?? '/',
    installDir: options.installDir ?? '/nonexistent',
    startNs: 0n,
    uid: options.uid ?? 0,
    write: (fd, text) => {
      if (fd === 1) ended.stdout += text;
      else ended.stderr += text;
    },
  });
  return ended;
}

t.test('no command', async (t) => {
  const { status, stdout, stderr } = await rkt([]);
  t.equal(status, 2);
  t.equal(stderr, 'rkt: missing command\n');
  t.match(stdout, /run-prepared +Run a prepared pod/);
  const group = await rkt(['image']);
  t.equal(group.status, 2);
  t.equal(group.stderr, 'image: missing command\n');
});

t.test('the beginning of a command is enough when no other begins so', async (t) => {
  t.match((await rkt(['vers'])).stdout, /^rkt Version: /);
  const unclear = await rkt(['ru']);
  t.equal(unclear.status, 254);
  t.equal(unclear.stderr, 'rkt: unknown command "ru" for "rkt"\n  hint: it may mean: run, run-prepared\n');
  t.match((await rkt(['run'], { uid: 1 })).stderr, /^run: /, 'a whole name wins over longer ones');
  const unknown = await rkt(['image', 'frobnicate']);
  t.equal(unknown.status, 254);
  t.match(unknown.stderr, 'unknown command "frobnicate" for "rkt image"');
  t.match((await rkt(['im', 'li', '--dir=/nonexistent'])).stdout, /^ID\t/);
});

t.test('commands that need root', async (t) => {
  for (const command of ['enter', 'gc', 'prepare', 'rm', 'run', 'run-prepared']) {
    const { status, stderr, stdout } = await rkt([command, '--dir=/nonexistent'], { uid: 1000 });
    t.strictSame({ status, stdout, stderr }, { status: 254, stdout: '', stderr: `${command}: cannot run as unprivileged user\n` });
  }
  t.equal((await rkt(['list', '--dir=/nonexistent'], { uid: 1000 })).status, 0);
});

t.test('mistakes', async (t) => {
  const cases: [string[], string][] = [
    [['list', '--nonsense'], 'list: unknown flag: --nonsense\n'],
    [['--nonsense', 'list'], 'rkt: unknown flag: --nonsense\n'],
    [['status'], 'status: expected one UUID, or --uuid-file\n'],
    [['status', '--dir=/nonexistent', 'abc'], 'status: no matches found for "abc"\n'],
    [['status', '--dir=/nonexistent', ''], 'status: UUID cannot be empty\n'],
    [['run'], 'run: must provide at least one image or specify the pod manifest\n'],
    [['run', '--', 'x'], 'run: error parsing app image arguments: an image is required before any app arguments\n'],
    [['run', '--interactive', 'a', 'b'], 'run: interactive option only supports one image\n'],
    [['run', '--pod-manifest=x', 'a'], 'run: conflicting flags set with --pod-manifest (see --help)\n'],
    [['run', '--pod-manifest=x', '--set-env=A=b'], 'run: conflicting flags set with --pod-manifest (see --help)\n'],
    [['run', '--net=host', 'a'], 'run: flavor kvm requires private network configuration (try --net)\n'],
    [['run', '--net=default', '--net=default', 'a'], 'run: found duplicate netname "default"\n'],
    [['run', '--ipc=parent', 'a'], 'run: flavor kvm requires private IPC namespace (try to remove --ipc)\n'],
    [['run', '--dir=/nonexistent', '--stage1-name=a', '--stage1-path=b', 'a'], 'run: flags --stage1-path and --stage1-name are mutually exclusive\n'],
    [['run', '--dir=/nonexistent', '--stage1-path=a', '--stage1-path=b', 'a'], 'run: --stage1-path already used\n'],
    [['prepare', '--store-only', '--no-store', 'a'], 'prepare: both --store-only and --no-store specified\n'],
    [['fetch', '--dir=/nonexistent', 'a.aci', '--', 'x'], 'fetch: error parsing app image arguments: app arguments unsupported\n'],
    [['image', 'rm'], 'rm: must provide at least one image ID\n'],
    [['image', 'rm', '--dir=/nonexistent', 'sha512-a'], 'rm: image ID too short: "sha512-a"\n'],
  ];
  for (const [argv, expected] of cases) {
    const { status, stdout, stderr } = await rkt(argv);
    t.equal(status, 254, argv.join(' '));
    t.ok(stderr.startsWith(expected), `${argv.join(' ')}: ${stderr}`);
    t.equal(stdout, '');
  }
});

t.test('stage1 that was not built', async (t) => {
  const { status, stderr } = await rkt(['run', '--dir=/nonexistent', 'a'], { installDir: '/opt/rkt' });
  t.equal(status, 254);
  t.match(stderr, /^run: stage1 image \/opt\/rkt\/dist\/stage1-kvm.aci does not exist\n {2}hint: run `npm run build`/);
});

t.test('version', async (t) => {
  const installDir = scratchDir(t, 'version');
  t.match((await rkt(['version'], { installDir })).stdout, /\nGuest Kernel: none \(stage1 is not built\)\n$/);
  mkdirSync(join(installDir, 'dist/stage1-kvm'), { recursive: true });
  const annotations = [{ name: 'rkt/kernel-source', value: 'debian' }, { name: 'rkt/kernel-release', value: '6.1.0-56-cloud-amd64' }];
  writeFileSync(join(installDir, 'dist/stage1-kvm/manifest'), JSON.stringify({ name: 'coreos.com/rkt/stage1-kvm', labels: [{ name: 'version', value: '2.0.0' }], annotations }));
  const lines = (await rkt(['version'], { installDir })).stdout.split('\n');
  t.strictSame(lines.slice(0, 2), [`rkt Version: ${RKT_VERSION}`, `appc Version: ${APPC_VERSION}`]);
  t.equal(lines.at(-2), 'Guest Kernel: debian 6.1.0-56-cloud-amd64');

  // `config` asks the stage1 program itself; this one answers as it would.
  writeFileSync(join(installDir, 'dist/stage1-kvm/init'), '#!/bin/sh\n[ "$1" = accel-report ] && echo \'{"chosen":"tcg","reason":"no /dev/kvm"}\'\n', { mode: 0o755 });
  const config = JSON.parse((await rkt(['config', '--dir=/nonexistent'], { installDir })).stdout) as { stage0: unknown[]; stage1: unknown };
  t.match(config.stage1, { built: true, kernel: { source: 'debian', release: '6.1.0-56-cloud-amd64' }, accelerator: { chosen: 'tcg', reason: 'no /dev/kvm' } });
  t.strictSame(config.stage0.at(-1), { rktVersion: 'v1', rktKind: 'store', keepLayers: false });
  t.match(config.stage0.at(-2), { rktKind: 'stage1', name: 'coreos.com/rkt/stage1-kvm', version: '2.0.0', location: join(installDir, 'dist/stage1-kvm.aci') });
});

t.test('constants that are written twice', async (t) => {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };
  t.equal(RKT_VERSION, version);
  t.equal(APPC_VERSION, SCHEMA_APPC_VERSION);
});

t.test('help of every command names its flags', async (t) => {
  for (const spec of COMMANDS) {
    const { status, stdout } = await rkt(['help', ...spec.name.split(' ')]);
    t.equal(status, 0);
    t.ok(stdout.startsWith(`Usage: rkt ${spec.name} `), stdout.slice(0, 60));
    for (const flag of spec.flags) t.equal(new RegExp(`^ +(-\\w, )?--${flag.name}\\b`, 'm').test(stdout), flag.hidden !== true, `${spec.name}: --${flag.name}`);
    t.equal((await rkt([...spec.name.split(' '), '--help'])).stdout, stdout);
  }
});

t.test('configuration: layers, merging, mistakes', async (t) => {
  const root = scratchDir(t, 'config');
  const put = (file: string, content: unknown): void => {
    mkdirSync(join(root, file, '..'), { recursive: true });
    writeFileSync(join(root, file), typeof content === 'string' ? content : JSON.stringify(content));
  };
  const config = async (): Promise<Ended> => await rkt([`--system-config=${root}/usr`, `--local-config=${root}/etc`, `--user-config=${root}/user`, 'config']);
  const auth = { rktKind: 'auth', rktVersion: 'v1', type: 'basic', credentials: { user: 'system', password: 'p' } };
  put('usr/auth.d/a.json', { ...auth, domains: ['foo.com', 'bar.com'] });
  put('etc/auth.d/a.json', { ...auth, domains: ['foo.com'], credentials: { user: 'local', password: 'q' } });
  put('usr/paths.d/p.json', { rktKind: 'paths', rktVersion: 'v1', data: '/system/data', 'stage1-images': '/system/images' });
  put('user/paths.d/p.json', { rktKind: 'paths', rktVersion: 'v1', data: '/user/data' });
  put('etc/stage1.d/s.json', { rktKind: 'stage1', rktVersion: 'v1', name: 'example.com/s', version: '1', location: '/x.aci' });
  put('etc/store.d/k.json', { rktKind: 'store', rktVersion: 'v1', keepLayers: true });
  const { stage0 } = JSON.parse((await config()).stdout) as { stage0: unknown[] };
  t.strictSame(stage0, [
    { rktVersion: 'v1', rktKind: 'auth', domains: ['bar.com'], type: 'basic', credentials: { user: 'system', password: 'p' } },
    { rktVersion: 'v1', rktKind: 'auth', domains: ['foo.com'], type: 'basic', credentials: { user: 'local', password: 'q' } },
    { rktVersion: 'v1', rktKind: 'paths', data: '/user/data', 'stage1-images': '/system/images' },
    { rktVersion: 'v1', rktKind: 'stage1', location: '/x.aci', name: 'example.com/s', version: '1' },
    { rktVersion: 'v1', rktKind: 'store', keepLayers: true },
  ]);

  const mistakes: [string, unknown, string][] = [
    ['etc/paths.d/q.json', { rktVersion: 'v1' }, `no rktKind specified in "${root}/etc/paths.d/q.json"`],
    ['etc/paths.d/q.json', { rktKind: 'paths' }, 'no rktVersion specified in'],
    ['etc/paths.d/q.json', { rktKind: 'paths', rktVersion: 'v2' }, 'no parser available for configuration of kind "paths" and version "v2"'],
    ['etc/paths.d/q.json', { rktKind: 'paths', rktVersion: 'v1', data: 'relative' }, 'data: expected an absolute path'],
    ['etc/paths.d/q.json', '{', `cannot read the configuration file ${root}/etc/paths.d/q.json`],
    ['usr/paths.d/q.json', { rktKind: 'paths', rktVersion: 'v1', data: '/twice' }, `data is already set in ${root}/usr/paths.d/p.json`],
  ];
  for (const [file, content, expected] of mistakes) {
    put(file, content);
    const { status, stderr } = await config();
    t.equal(status, 254);
    t.match(stderr, expected);
    put(file, { rktKind: 'paths', rktVersion: 'v1' });
  }
});
