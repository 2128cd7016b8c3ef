/** The program `rkt` as a process, with a stage1 of shell scripts: what stage0 hands over, what commands print. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { eventually, makeHost, PROGRAM } from './helpers/rkt.ts';
import type { Host } from './helpers/rkt.ts';
import { makeHelloImage, makeStubStage1 } from './helpers/stub-stage1.ts';
import type { StubOptions } from './helpers/stub-stage1.ts';

const HELLO_ID = /^sha512-[0-9a-f]{64}$/;

interface Stubbed extends Host {
  image: string;
  stage1: string;
}

function stubbed(t: Test, options: StubOptions = {}): Stubbed {
  const host = makeHost('cli');
  t.teardown(host.close);
  return { ...host, image: makeHelloImage(join(host.workDir, 'hello.aci')), stage1: makeStubStage1(join(host.workDir, 'stub.aci'), options) };
}

t.test('run hands over to stage1: arguments, directory, lock, pid, exit status', async (t) => {
  const host = stubbed(t);
  const uuidFile = join(host.workDir, 'uuid');
  const { child, ended } = host.start(
    ['run', `--stage1-path=${host.stage1}`, '--hostname=pod-a', '--net=none', '--accel=tcg', '--mem=512Mi', '--cpus=2', '--timing', '--insecure-options=paths,seccomp', `--uuid-file-save=${uuidFile}`, host.image],
    { env: { STUB_EXIT: '7' } },
  );
  const pid = child.pid;
  const result = await ended;
  t.equal(result.status, 7, result.stderr);
  t.equal(result.stderr, '');
  const uuid = readFileSync(uuidFile, 'utf8');
  const podDir = join(host.dataDir, 'pods/run', uuid);
  t.strictSame(result.stdout.toString().split('\n').filter((line) => !line.startsWith('start: ')), [
    `argv: --net=none --local-config=/etc/rkt --hostname=pod-a --disable-paths --disable-seccomp --dns-conf-mode=resolv=default,hosts=default --accel=tcg --memory-mib=512 --cpus=2 --timing ${uuid}`,
    'argv0: stage1/rootfs/run',
    `lock: ${podDir}`,
    `pid: ${pid}`,
    '',
  ]);
  t.match(result.stdout.toString(), /^start: [1-9]\d+$/m);

  t.equal(readlinkSync(join(podDir, 'stage1/rootfs')).split('/cas/stage1/')[0], '../../../..');
  t.strictSame(JSON.parse(readFileSync(join(podDir, 'stage1-options.json'), 'utf8')), { accelerator: 'tcg', cpus: 2, memoryMib: 512 });
  const disk = JSON.parse(readFileSync(join(podDir, 'appsinfo/hello/disk.json'), 'utf8')) as { path: string; sizeBytes: number };
  t.equal(statSync(join(podDir, disk.path)).size, disk.sizeBytes, 'the path is relative to the pod directory');
  t.equal(statSync(join(podDir, 'pod')).mode & 0o777, 0o640);
  const scratch = statSync(join(podDir, 'scratch.img'));
  t.equal(scratch.mode & 0o777, 0o600);
  t.ok(scratch.blocks * 512 < 1 << 20, 'the writable disk is sparse');
  execFileSync('/sbin/e2fsck', ['-fn', join(podDir, 'scratch.img')], { stdio: 'ignore' });
});

t.test('an old stage1 gets only the flags it knows', async (t) => {
  const host = stubbed(t, { interfaceVersion: null });
  const result = await host.rkt(['run', `--stage1-path=${host.stage1}`, '--hostname=x', '--insecure-options=all-run', host.image]);
  t.match(result.stdout.toString(), /^argv: --net=default --local-config=\/etc\/rkt [0-9a-f-]{36}$/m);
});

t.test('list, status, cat-manifest, image list: golden output', async (t) => {
  const host = stubbed(t);
  const images = [host.image, '--name=a', '--', 'x', '---', host.image, '--name=second-app'];
  const prepared = await host.rkt(['prepare', `--stage1-path=${host.stage1}`, ...images]);
  const uuid = prepared.stdout.toString().trim();
  t.equal(prepared.status, 0, prepared.stderr);
  // The column CREATED is one or two tabs wide: "now" or "1 second ago".
  t.match((await host.rkt(['list'])).stdout.toString(), new RegExp([
    '^UUID\t\tAPP\t\tIMAGE NAME\t\tSTATE\t\tCREATED\t{1,2}STARTED\tNETWORKS',
    `${uuid.slice(0, 8)}\ta\t\texample.com/hello:1.0.0\tprepared\t(now|\\d+ seconds? ago)\t{2,3}`,
    '\t\tsecond-app\texample.com/hello:1.0.0\t{5,6}',
    '$',
  ].join('\n')));
  t.match((await host.rkt(['list', '--full', '--no-legend'])).stdout.toString(), new RegExp(`^${uuid}\\ta\\t+example.com/hello:1.0.0\\tsha512-[0-9a-f]{12}\\tprepared\\t\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d(\\.\\d{1,3})? [+-]\\d{4} \\S+\\t`));
  t.match((await host.rkt(['status', uuid.slice(0, 6)])).stdout.toString(), /^state=prepared\ncreated=\d{4}-.* [+-]\d{4} \S+\n$/);

  const manifest = await host.rkt(['cat-manifest', uuid]);
  t.match(manifest.stdout.toString(), /^\{\n\t"acVersion": "0.8.11",\n\t"acKind": "PodManifest",\n\t"apps": \[\n\t\t\{\n\t\t\t"name": "a",/);
  t.equal((await host.rkt(['cat-manifest', '--pretty-print=false', uuid])).stdout.toString().trim().split('\n').length, 1);

  const [pod] = JSON.parse((await host.rkt(['list', '--format=json'])).stdout.toString()) as Record<string, unknown>[];
  t.match(pod, { name: uuid, state: 'prepared', app_names: ['a', 'second-app'], apps: [{ name: 'a', state: 'created', image_id: HELLO_ID }, { name: 'second-app' }], created_at: Number });
  t.notOk(pod !== undefined && 'started_at' in pod);

  t.match((await host.rkt(['image', 'list'])).stdout.toString(), /^ID\t\t\tNAME\t\t\tSIZE\tIMPORT TIME\tLAST USED\nsha512-[0-9a-f]{12}\texample.com\/hello:1.0.0\t[\d.]+KiB\t(now|\d+ seconds? ago)\t+(now|\d+ seconds? ago)\t\n$/);
  t.match((await host.rkt(['image', 'list', '--fields=name,id', '--no-legend', '--full'])).stdout.toString(), /^example.com\/hello:1.0.0\tsha512-[0-9a-f]{64}\t\n$/);
});

t.test('run-prepared, enter, stop, status --wait, rm', async (t) => {
  const host = stubbed(t);
  const uuid = (await host.rkt(['prepare', `--stage1-path=${host.stage1}`, '--cpus=3', host.image])).stdout.toString().trim();
  const early = await host.rkt(['enter', uuid, '/bin/ls']);
  t.equal(early.status, 254);
  t.equal(early.stderr, `enter: pod "${uuid}" isn't currently running\n`);

  const { ended } = host.start(['run-prepared', uuid], { env: { STUB_WAIT: '1' } });
  const podDir = join(host.dataDir, 'pods/run', uuid);
  await eventually('stage1 runs', () => existsSync(join(podDir, 'pid')));
  t.equal((await host.rkt(['status', '--wait-ready', uuid])).stdout.toString().split('\n')[0], 'state=running');
  const status = (await host.rkt(['status', uuid])).stdout.toString();
  t.match(status, /^state=running\ncreated=.*\nstarted=.*\nnetworks=\npid=\d+\nexited=false\n$/);

  const second = await host.rkt(['run-prepared', uuid]);
  t.equal(second.status, 254);
  t.equal(second.stderr, `run-prepared: pod "${uuid}" is not prepared\n`);
  const refused = await host.rkt(['rm', uuid]);
  t.equal(refused.status, 254);
  t.equal(refused.stderr, `rm: pod "${uuid}" is currently running\nrm: failed to remove one or more pods\n`);

  const entered = await host.rkt(['enter', '--app=hello', uuid.slice(0, 8), 'ls', '-l', '--color']);
  t.equal(entered.status, 5, 'the status of the command');
  t.equal(entered.stdout.toString(), `enter: --pid=${/pid=(\d+)/.exec(status)?.[1]} --appname=hello -- ls -l --color\ncwd: ${podDir}\n`);
  t.equal((await host.rkt(['enter', uuid])).stderr, 'enter: no command specified, assuming "/bin/bash"\n');
  t.match((await host.rkt(['enter', '--app=other', uuid, 'x'])).stderr, 'enter: app "other" is not in the pod: it has hello');

  const waiting = host.rkt(['status', '--wait', uuid]);
  const stopped = await host.rkt(['stop', '--force', uuid]);
  t.equal(stopped.stdout.toString(), `"${uuid}"\n`);
  t.equal(stopped.stderr, `stop: --force ${uuid}\n`);
  const run = await ended;
  t.equal(run.status, 0);
  t.match(run.stdout.toString(), / --cpus=3 /, 'what prepare was told');
  t.match((await waiting).stdout.toString(), /^state=exited\n[^]*\nexited=true\napp-hello=0\n$/);

  const again = await host.rkt(['stop', uuid]);
  t.equal(again.stderr, `stop: pod "${uuid}" is already stopped\n`);
  const removed = await host.rkt(['rm', uuid]);
  t.equal(removed.stdout.toString(), `"${uuid}"\n`);
  t.equal(removed.stderr, `gc: --local-config=/etc/rkt ${uuid}\n`, 'stage1 cleans up');
  t.equal((await host.rkt(['rm', uuid])).stderr, `rm: cannot get pod: no matches found for "${uuid}"\nrm: failed to remove one or more pods\n`);
});

t.test('several apps: enter needs to know which', async (t) => {
  const host = stubbed(t);
  const { ended } = host.start(['run', `--stage1-path=${host.stage1}`, host.image, '--name=a', host.image, '--name=b'], { env: { STUB_WAIT: '1' } });
  const uuid = await eventually('the pod runs', () => (existsSync(join(host.dataDir, 'pods/run')) ? readdirSync(join(host.dataDir, 'pods/run'))[0] : undefined));
  await eventually('stage1 runs', () => existsSync(join(host.dataDir, 'pods/run', uuid, 'pid')));
  const entered = await host.rkt(['enter', uuid, 'x']);
  t.equal(entered.status, 254);
  t.equal(entered.stderr, 'enter: pod contains multiple apps:\nenter: \ta\nenter: \tb\nenter: specify app using "rkt enter --app= ..."\n');
  t.equal((await host.rkt(['stop', uuid])).status, 0);
  await ended;
});

t.test('fetch and image rm', async (t) => {
  const host = stubbed(t);
  const id = (await host.rkt(['fetch', '--full', host.image])).stdout.toString().trim();
  t.match(id, HELLO_ID);
  t.equal((await host.rkt(['fetch', host.image])).stdout.toString().trim(), id.slice(0, 39));
  const uuid = (await host.rkt(['prepare', `--stage1-path=${host.stage1}`, id.slice(0, 30)])).stdout.toString().trim();
  t.equal(JSON.parse((await host.rkt(['image', 'cat-manifest', 'example.com/hello'])).stdout.toString()).name, 'example.com/hello');

  const removed = await host.rkt(['image', 'rm', id, 'example.com/hello', 'sha512-ffffff']);
  t.equal(removed.status, 254);
  t.equal(removed.stdout.toString(), `successfully removed aci for image: "${id}"\n`);
  t.match(removed.stderr, /^rm: no image IDs found.*\n(.*\n)*rm: 1 image\(s\) successfully removed\nrm: 1 image\(s\) cannot be removed\n$/);
  t.equal(readdirSync(join(host.dataDir, 'cas/tree')).length, 1, 'the prepared pod still has its disk');
  t.equal((await host.rkt(['run-prepared', uuid])).status, 0);
  t.equal((await host.rkt(['gc', '--grace-period=0s'])).status, 0);
  t.strictSame(readdirSync(join(host.dataDir, 'cas/tree')), [], 'nobody needs it any more');
});

t.test('a pod manifest from a file', async (t) => {
  const host = stubbed(t);
  const id = (await host.rkt(['fetch', '--full', host.image])).stdout.toString().trim();
  const file = join(host.workDir, 'pod.json');
  const write = (pod: object): void => writeFileSync(file, JSON.stringify({ acKind: 'PodManifest', acVersion: '0.8.11', ...pod }));
  write({ apps: [{ name: 'mine', image: { id } }], annotations: [{ name: 'a', value: 'b' }] });
  const uuid = (await host.rkt(['prepare', `--stage1-path=${host.stage1}`, `--pod-manifest=${file}`])).stdout.toString().trim();
  t.match(JSON.parse((await host.rkt(['cat-manifest', uuid])).stdout.toString()), { annotations: [{ name: 'a', value: 'b' }], apps: [{ name: 'mine', image: { id, name: 'example.com/hello' }, app: { exec: ['/bin/hello'] } }] });
  write({ apps: [] });
  t.match((await host.rkt(['prepare', `--stage1-path=${host.stage1}`, `--pod-manifest=${file}`])).stderr, 'prepare: pod must contain at least one application');
  write({ apps: [{ name: 'Bad Name', image: { id } }] });
  t.match((await host.rkt(['prepare', `--stage1-path=${host.stage1}`, `--pod-manifest=${file}`])).stderr, /^prepare: \S+pod\.json: apps\[0\]\.name: /);
});

t.test('environment: files, flags, inheritance', async (t) => {
  const host = stubbed(t);
  const file = join(host.workDir, 'env');
  writeFileSync(file, '# comment\n; another\n\nA=file\nB=file=with=equals\n');
  const uuid = (await host.rkt(['prepare', `--stage1-path=${host.stage1}`, '--inherit-env', `--set-env-file=${file}`, '--set-env=A=flag', host.image, '--environment=C=app'], { env: { INHERITED: 'yes', C: 'inherited' } })).stdout.toString().trim();
  const { apps } = JSON.parse((await host.rkt(['cat-manifest', uuid])).stdout.toString()) as { apps: { app: { environment: { name: string; value: string }[] } }[] };
  const environment = Object.fromEntries((apps[0]?.app.environment ?? []).map(({ name, value }) => [name, value]));
  t.match(environment, { A: 'flag', B: 'file=with=equals', C: 'app', INHERITED: 'yes' });
  writeFileSync(file, 'oops\n');
  t.match((await host.rkt(['prepare', `--stage1-path=${host.stage1}`, `--set-env-file=${file}`, host.image])).stderr, `prepare: ${file}: line 1: environment variable must be specified as name=value\n`);
  t.match((await host.rkt(['prepare', '--set-env=A=1', '--set-env=A=2', `--stage1-path=${host.stage1}`, host.image])).stderr, 'prepare: key "A" already set\n');
});

t.test('what fails leaves nothing behind', async (t) => {
  const host = stubbed(t);
  // The first run makes what every later one finds; the second remembers files that were too new for the first.
  for (let times = 0; times < 2; times++) t.equal((await host.rkt(['prepare', `--stage1-path=${host.stage1}`, host.image])).status, 0);
  const before = host.listing();
  const cases: [string[], RegExp][] = [
    [[`--stage1-path=${host.stage1}`, host.image, host.image], /^run: error: multiple apps with name hello\n/],
    [[`--stage1-path=${host.stage1}`, host.image, '--mount=volume=v,target=/x'], /^run: app "hello": there is no volume "v" to mount on \/x\n/],
    [[`--stage1-path=${host.stage1}`, host.image, '--working-dir=relative'], /workingDirectory must be an absolute path/],
    [[`--stage1-path=${host.stage1}`, '--volume=v,kind=host,source=/nonexistent/x', host.image], /^run: volume "v": source \/nonexistent\/x does not exist\n/],
    [[`--stage1-path=${host.stage1}`, '--volume=v,kind=host,source=/dev/null', host.image], /^run: volume "v": source \/dev\/null is a character device: only directories and regular files can be shared/],
    [['--stage1-path=/nonexistent.aci', host.image], /^run: stage1 image \/nonexistent.aci does not exist\n/],
    [[`--stage1-path=${host.stage1}`, '--uuid-file-save=/nonexistent/uuid', host.image], /^run: error saving pod UUID to file: open \/nonexistent\/uuid: no such file or directory\n/],
    [[`--stage1-path=${host.stage1}`, 'docker-daemon:busybox'], /not supported/],
  ];
  for (const [args, says] of cases) {
    const result = await host.rkt(['run', ...args]);
    t.equal(result.status, 254, args.join(' '));
    t.match(result.stderr, says);
    t.strictSame(host.listing(), before, args.join(' '));
  }
});

t.test('--debug shows the tree of causes', async (t) => {
  const host = stubbed(t);
  const { stderr } = await host.rkt(['--debug', 'run', `--stage1-path=${host.stage1}`, '--uuid-file-save=/nonexistent/uuid', host.image]);
  t.match(stderr, /^run: error saving pod UUID to file\n {2}└─open \/nonexistent\/uuid: no such file or directory$/m);
});

t.test('the launcher works through symbolic links and from any directory', async (t) => {
  const host = makeHost('launcher');
  t.teardown(host.close);
  mkdirSync(join(host.workDir, 'bin'));
  symlinkSync(PROGRAM, join(host.workDir, 'first'));
  symlinkSync('../first', join(host.workDir, 'bin/rkt'));
  const output = execFileSync(join(host.workDir, 'bin/rkt'), ['version'], { cwd: '/', encoding: 'utf8', env: { PATH: process.env.PATH, NODE_OPTIONS: '--nonsense' } });
  t.match(output, /^rkt Version: /);
});
