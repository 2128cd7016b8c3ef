/** What every stage1 does alike: one table of observations, run with each flavor; and what differs by design. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { encodeFrame, FrameDecoder } from '../src/wire/frame.ts';
import { busyboxImage } from './helpers/busybox.ts';
import { busyboxMembers, makeAci } from './helpers/make-image.ts';
import { eventually, makeHost, processesMentioning, PROGRAM, readyPod } from './helpers/rkt.ts';
import type { Host } from './helpers/rkt.ts';
import { makeHelloImage, makeStubStage1 } from './helpers/stub-stage1.ts';
import { onTerminal } from './helpers/terminal.ts';

interface Flavor {
  name: string;
  flags: string[];
}

const KVM: Flavor = { name: 'kvm', flags: ['--net=none'] };
const FLY: Flavor = { name: 'fly', flags: ['--stage1-name=coreos.com/rkt/stage1-fly'] };
const FLAVORS = [KVM, FLY];
const image = busyboxImage();

t.jobs = 2;

function shell(script: string, ...flags: string[]): string[] {
  return [image, '--name=app', ...flags, '--exec', '/bin/sh', '--', '-c', script];
}

function mountsOf(host: Host): string[] {
  return readFileSync('/proc/self/mounts', 'utf8').split('\n').filter((line) => line.includes(host.dataDir));
}

function savedUuid(host: Host): string {
  return readFileSync(join(host.workDir, 'uuid'), 'utf8').trim();
}

interface RunningPod {
  uuid: string;
  kill(signal: NodeJS.Signals): void;
  ended: ReturnType<Host['rkt']>;
}

async function startPod(host: Host, flavor: Flavor, args: string[]): Promise<RunningPod> {
  const uuidFile = join(host.workDir, 'uuid');
  const { child, ended } = host.start(['run', ...flavor.flags, `--uuid-file-save=${uuidFile}`, ...args]);
  const uuid = await eventually('the pod is ready', async () => {
    const over = await Promise.race([ended, undefined]);
    if (over !== undefined) throw new Error(`it ended: ${over.stderr}`);
    return readyPod(host, uuidFile);
  });
  return { uuid, ended, kill: (signal) => void child.kill(signal) };
}

/** Nothing of the pod is left, in whatever way it ended. */
async function collect(t: Test, host: Host): Promise<void> {
  const gc = await host.rkt(['gc', '--grace-period=0s']);
  t.equal(gc.status, 0, gc.stderr);
  t.strictSame(readdirSync(join(host.dataDir, 'pods')).flatMap((state) => readdirSync(join(host.dataDir, 'pods', state))), [], 'no pod directory');
  t.strictSame(processesMentioning(host.dataDir), [], 'no process');
  t.strictSame(mountsOf(host), [], 'no mount');
}

for (const flavor of FLAVORS) {
  t.test(`${flavor.name}: what an app is given, its handlers, its status`, async (t) => {
    const host = makeHost(`flavor-${flavor.name}`);
    t.teardown(host.close);
    const aci = makeAci(join(host.workDir, 'app.aci'), {
      layers: [[...busyboxMembers(), { path: 'data/', type: 'directory' }]],
      manifest: {
        name: 'example.com/app',
        app: {
          exec: ['/bin/sh', '-c', 'env | sort; id; pwd; cat /data/from-handler; stat -c "%a %u" /data; [ -t 0 ] || echo no terminal; echo oops >&2; exit 7'],
          user: 'user', group: 'staff', supplementaryGIDs: [12], workingDirectory: '/home/user',
          environment: [{ name: 'COLOR', value: 'blue' }, { name: 'HOME', value: '/elsewhere' }],
          mountPoints: [{ name: 'data', path: '/data' }],
          eventHandlers: [
            { name: 'pre-start', exec: ['/bin/sh', '-c', 'id -u > /data/from-handler; echo before'] },
            { name: 'post-stop', exec: ['/bin/sh', '-c', 'echo after'] },
          ],
        },
      },
    });
    const result = await host.rkt(['run', ...flavor.flags, '--insecure-options=image', `--uuid-file-save=${join(host.workDir, 'uuid')}`, '--volume=data,kind=empty,mode=0770,uid=1000', '--set-env=SHAPE=round', aci, '--environment=COLOR=red']);
    t.equal(result.status, 7, result.stderr);
    t.equal(result.stderr, 'oops\n');
    t.strictSame(result.stdout.toString().split('\n'), [
      'before',
      'AC_APP_NAME=app', 'COLOR=red', 'HOME=/elsewhere', 'LOGNAME=user', 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'PWD=/home/user',
      'SHAPE=round', 'SHELL=/bin/sh', 'SHLVL=1', 'USER=user',
      'uid=1000(user) gid=50(staff) groups=12', '/home/user', '0', '770 1000', 'no terminal',
      'after', '',
    ]);
    const uuid = savedUuid(host);
    t.match((await host.rkt(['list', '--full', '--no-legend'])).stdout.toString(), new RegExp(`^${uuid}\\tapp\\texample.com/app:1.0.0\\t\\S+\\texited\\t`));
    t.match((await host.rkt(['status', uuid])).stdout.toString(), /^state=exited\n[^]*\nexited=true\napp-app=7\n$/);
    await collect(t, host);
  });

  t.test(`${flavor.name}: enter, status, cp, stop, export`, async (t) => {
    const host = makeHost(`flavor-enter-${flavor.name}`);
    t.teardown(host.close);
    const pod = await startPod(host, flavor, shell('trap "echo bye; exit 3" TERM; echo up > /tmp/mark; while :; do sleep 0.1; done', '--user=1000', '--group=1000'));
    t.match((await host.rkt(['status', pod.uuid])).stdout.toString(), /^state=running\n[^]*\npid=\d+\nexited=false\n$/);
    const entered = await host.rkt(['enter', pod.uuid, '/bin/sh', '-c', 'id -u; cat /tmp/mark; echo $AC_APP_NAME; grep NoNewPrivs /proc/self/status >/dev/null && cat; exit 9'], { input: 'through\n' });
    t.equal(entered.stdout.toString(), '1000\nup\napp\nthrough\n');
    t.equal(entered.status, 9, entered.stderr);
    const missing = await host.rkt(['enter', pod.uuid, '/bin/nothing']);
    t.equal(missing.stderr, 'stage1: exec: Unable to open "/bin/nothing": No such file or directory\n');
    t.equal(missing.status, 203);
    const copied = join(host.workDir, 'copied');
    writeFileSync(copied, 'by cp\n');
    t.equal((await host.rkt(['cp', copied, `${pod.uuid}:/etc/copied`])).stderr, '');
    t.equal((await host.rkt(['cp', `${pod.uuid}:/tmp/mark`, copied])).stderr, '');
    t.equal(readFileSync(copied, 'utf8'), 'up\n');
    t.equal((await host.rkt(['stop', pod.uuid])).stdout.toString(), `"${pod.uuid}"\n`);
    const result = await pod.ended;
    t.equal(result.stdout.toString(), 'bye\n');
    t.equal(result.status, 3, result.stderr);
    t.match((await host.rkt(['enter', pod.uuid, '/bin/true'])).stderr, /isn't currently running/);
    const aci = join(host.workDir, 'left.aci');
    t.equal((await host.rkt(['export', pod.uuid, aci])).stderr, '');
    t.equal(execFileSync('tar', ['-xzOf', aci, 'rootfs/etc/copied'], { encoding: 'utf8' }), 'by cp\n');
    t.match(execFileSync('tar', ['-tzf', aci], { encoding: 'utf8' }), /^rootfs\/bin\/busybox$/m);
    await collect(t, host);
  });

  t.test(`${flavor.name}: clients of enter are kept apart`, async (t) => {
    const host = makeHost(`flavor-clients-${flavor.name}`);
    t.teardown(host.close);
    const pod = await startPod(host, flavor, shell('echo up > /tmp/mark; exec sleep 600'));
    const enter = (script: string): ReturnType<typeof host.start> => host.start(['enter', pod.uuid, '/bin/sh', '-c', script]);
    const many = await Promise.all(Array.from({ length: 8 }, (_, n) => enter(`echo ${n}; echo not ${n} >&2; exit ${n}`).ended));
    t.strictSame(many.map(({ status, stdout, stderr }) => [status, stdout.toString(), stderr]), many.map((_, n) => [n, `${n}\n`, `not ${n}\n`]));

    const hung = enter('trap "echo hung > /tmp/hung; exit" HUP; echo up > /tmp/waiting; while :; do sleep 0.1; done');
    await eventually('it waits', async () => (await enter('cat /tmp/waiting').ended).stdout.toString() === 'up\n');
    hung.child.kill('SIGKILL');
    await eventually('its command is told', async () => (await enter('cat /tmp/hung').ended).stdout.toString() === 'hung\n');

    const socket = join(host.dataDir, 'pods/run', pod.uuid, 'enter.sock');
    t.equal(statSync(socket).mode & 0o777, 0o600);
    const answerTo = async (sent: Buffer): Promise<object[]> => {
      const client = connect(socket);
      client.on('error', () => undefined);
      const decoder = new FrameDecoder();
      const messages: object[] = [];
      client.on('data', (chunk: Buffer) => messages.push(...decoder.push(chunk)));
      client.write(sent);
      await new Promise<void>((resolve) => client.on('close', () => resolve()));
      return messages;
    };
    const exec = Buffer.from(encodeFrame({ type: 'exec', request: 1, app: 'app', argv: ['/bin/sleep', '60017'], env: {}, stdio: { kind: 'streams', stdin: false } }));
    t.strictSame(await answerTo(Buffer.concat([exec, exec])), [], 'one command for each');
    t.strictSame(await answerTo(Buffer.from(encodeFrame({ type: 'shutdown', graceMs: 0 }))), [], 'and nothing else');
    t.strictSame(await answerTo(Buffer.from('GET / HTTP/1.1\r\n\r\n')), []);
    await eventually('what they started has ended', async () => (await enter('ps -o args | grep "[s]leep 60017"').ended).status === 1);
    t.equal((await enter('cat /tmp/mark').ended).stdout.toString(), 'up\n', 'the pod goes on');
    t.equal((await host.rkt(['stop', pod.uuid])).status, 0);
    await pod.ended;
  });

  t.test(`${flavor.name}: what cannot run`, async (t) => {
    const host = makeHost(`flavor-bad-${flavor.name}`);
    t.teardown(host.close);
    const run = (...args: string[]): ReturnType<Host['rkt']> => host.rkt(['run', ...flavor.flags, `--uuid-file-save=${join(host.workDir, 'uuid')}`, ...args]);
    const noProgram = await run(image, '--name=app', '--exec=/bin/nothing');
    t.equal(noProgram.stderr, 'stage1: app "app": exec: Unable to open "/bin/nothing": No such file or directory\n');
    t.equal(noProgram.status, 254);
    t.match((await host.rkt(['status', savedUuid(host)])).stdout.toString(), /\napp-app=203\n$/);
    const noUser = await run(...shell('true', '--user=nobody-here'));
    t.match(noUser.stderr, /^stage1: app "app": user: unknown user "nobody-here"\n/);
    t.equal(noUser.status, 254);
    t.match((await run(image, '--name=app', '--mount=volume=none,target=/x')).stderr, /^run: app "app": there is no volume "none" to mount on \/x\n/);
    await collect(t, host);
  });
}

t.test('kvm has a network and IPC objects of its own', async (t) => {
  const host = makeHost('flavor-own');
  t.teardown(host.close);
  t.equal((await host.rkt(['run', '--net=host', image])).stderr, 'run: flavor kvm requires private network configuration (try --net)\n');
  t.equal((await host.rkt(['run', '--net=none', '--ipc=parent', image])).stderr, 'run: flavor kvm requires private IPC namespace (try to remove --ipc)\n');
});

t.test('fly: volumes of this host, its network, its devices', async (t) => {
  const host = makeHost('fly-volumes');
  t.teardown(host.close);
  const shared = join(host.workDir, 'shared');
  mkdirSync(join(shared, 'below'), { recursive: true });
  writeFileSync(join(shared, 'file'), 'content\n');
  const socketPath = join(host.workDir, 'host.sock');
  const server = createServer((socket) => socket.end()).listen(socketPath);
  t.teardown(() => server.close());
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', join(shared, 'below')]);
  t.teardown(() => execFileSync('umount', [join(shared, 'below')]));
  writeFileSync(join(shared, 'below', 'inner'), 'inner\n');
  const script = [
    'cat /shared/file; echo new > /shared/new', 'ls /shared/below', 'ls /all/below', '(echo x > /all/x) 2>/dev/null || echo read-only', '(echo x > /all/below/x) 2>/dev/null || echo read-only below',
    'cat /one; stat -c "%F %i" /run/host.sock', 'readlink /proc/self/ns/net; readlink /proc/self/ns/pid', 'test -c /dev/null && test -d /dev/pts && echo devices', 'stat -c %a /tmp', 'cat /etc/hosts',
  ].join('; ');
  const result = await host.rkt([
    'run', ...FLY.flags, '--net=host', '--hosts-entry=10.1.2.3=db',
    `--volume=shared,kind=host,source=${shared}`, `--volume=all,kind=host,source=${shared},readOnly=true,recursive=true`,
    `--volume=one,kind=host,source=${join(shared, 'file')}`, `--volume=sock,kind=host,source=${socketPath}`,
    ...['shared:/shared', 'all:/all', 'one:/one', 'sock:/run/host.sock'].map((text) => `--mount=volume=${text.replace(':', ',target=')}`),
    ...shell(script),
  ]);
  t.equal(result.status, 0, result.stderr);
  t.equal(result.stdout.toString(), [
    'content', 'inner', 'read-only', 'read-only below', 'content', `socket ${statSync(socketPath).ino}`, readlinkSync('/proc/self/ns/net'), readlinkSync('/proc/self/ns/pid'), 'devices', '1777', '10.1.2.3 db', '',
  ].join('\n'));
  t.equal(readFileSync(join(shared, 'new'), 'utf8'), 'new\n');
  await collect(t, host);
  t.equal(readFileSync(join(shared, 'file'), 'utf8'), 'content\n', 'what is removed is the pod, not what it had mounted');
});

t.test('fly: pods of one image share its files and not their changes', async (t) => {
  const host = makeHost('fly-layers');
  t.teardown(host.close);
  const change = 'cat /etc/group | head -n1; echo changed > /etc/group; touch /new; ls /';
  for (const flags of [[], [], ['--no-overlay'], ['--no-overlay']]) {
    const result = await host.rkt(['run', ...FLY.flags, ...flags, ...shell(change)]);
    t.match(result.stdout.toString(), /^root:x:0:\n[^]*\nnew\n/, result.stderr);
    const uuid = (await host.rkt(['prepare', ...FLY.flags, ...flags, ...shell(change)])).stdout.toString().trim();
    t.match((await host.rkt(['run-prepared', '--net=host', uuid])).stdout.toString(), /^root:x:0:\n[^]*\nnew\n/);
  }
  t.notOk(host.listing().some((path) => /^cas\/tree\/.*\/rootfs\/new/.test(path)));
  t.equal(readdirSync(join(host.dataDir, 'cas/tree')).length, 1);
  const locked = await host.rkt(['run', ...FLY.flags, ...shell('touch /x 2>/dev/null || echo read-only; touch /tmp/x && echo writable', '--readonly-rootfs')]);
  t.equal(locked.stdout.toString(), 'read-only\nwritable\n', locked.stderr);
  await collect(t, host);
  const id = (await host.rkt(['image', 'list', '--fields=id', '--full', '--no-legend'])).stdout.toString().trim();
  await host.rkt(['image', 'rm', id]);
  await host.rkt(['gc', '--grace-period=0s']);
  t.strictSame(readdirSync(join(host.dataDir, 'cas/tree')), [], 'the unpacked image goes with the image');
});

t.test('fly: an app is confined as far as its manifest says', async (t) => {
  const host = makeHost('fly-confined');
  t.teardown(host.close);
  const look = 'grep -E "^(CapBnd|NoNewPrivs|Seccomp):" /proc/self/status; cat /proc/self/oom_score_adj';
  const of = async (...flags: string[]): Promise<string[]> => (await host.rkt(['run', ...FLY.flags, ...flags.filter((flag) => flag.startsWith('--insecure')), ...shell(look, ...flags.filter((flag) => !flag.startsWith('--insecure')))])).stdout.toString().trim().split('\n').map((line) => line.split('\t').at(-1) ?? '');
  const ownBound = /^CapBnd:\t(.*)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  t.strictSame(await of(), [ownBound, '0', '0', readFileSync('/proc/self/oom_score_adj', 'utf8').trim()]);
  t.strictSame(await of('--caps-retain=CAP_CHOWN', '--seccomp=mode=retain,@rkt/default-whitelist', '--oom-score-adj=500'), ['0000000000000001', '0', '2', '500']);
  t.strictSame((await of('--insecure-options=all-run', '--caps-retain=CAP_CHOWN', '--seccomp=mode=retain,@rkt/default-whitelist')).slice(0, 3), [ownBound, '0', '0']);
  const limited = await host.rkt(['run', ...FLY.flags, ...shell('echo runs', '--memory=64M')]);
  t.equal(limited.stdout.toString(), 'runs\n');
  t.equal(limited.stderr, 'stage1: warning: app: isolator resource/memory has no effect in a pod without a virtual machine\n');
  const tuned = await host.rkt(['run', ...FLY.flags, ...shell('true', '--sysctl=net.ipv4.ip_forward=1')]);
  t.match(tuned.stderr, /^stage1: app "app": prepare: os\/unix\/sysctl: .* this host's is not changed/);
  t.equal(tuned.status, 254);
  const few = await host.rkt(['run', ...FLY.flags, ...shell('ulimit -n', '--ulimit=nofile=77:88')]);
  t.equal(few.stdout.toString(), '77\n', few.stderr);
});

t.test('fly: what it cannot be asked for', async (t) => {
  const host = makeHost('fly-refused');
  t.teardown(host.close);
  const stage1 = 'coreos.com/rkt/stage1-fly';
  const cases: [string[], string][] = [
    [['--sealed'], `--sealed: stage1 image ${stage1} runs no virtual machine`],
    [['--tpm=on'], `--tpm: stage1 image ${stage1} runs no virtual machine`],
    [['--mem=1G'], `--mem: stage1 image ${stage1} runs no virtual machine`],
    [['--net=none'], `--net=none: stage1 image ${stage1} shares the network of this host (try --net=host)`],
  ];
  for (const [flags, message] of cases) {
    const { status, stderr } = await host.rkt(['run', ...FLY.flags, ...flags, ...shell('true')]);
    t.equal(stderr, `run: ${message}\n`);
    t.equal(status, 254);
  }
  t.match((await host.rkt(['attest', 'predict', ...FLY.flags, ...shell('true')])).stderr, /stage1-fly runs no virtual machine: nothing of its pods is measured\n/);
  t.strictSame(host.listing().filter((path) => path.startsWith('pods/')), [], 'nothing was made');

  const two = await host.rkt(['run', ...FLY.flags, image, '--name=a', '--exec=/bin/true', image, '--name=b', '--exec=/bin/true']);
  t.equal(two.stderr, 'stage1: flavor "fly" only supports 1 application per Pod for now\n');
  t.equal(two.status, 254);
  const pod = await startPod(host, FLY, ['--tpm=off', ...shell('exec sleep 600')]);
  t.match((await host.rkt(['attest', 'log', pod.uuid])).stderr, /has no TPM: its stage1 runs no virtual machine\n/);
  pod.kill('SIGTERM');
  t.equal((await pod.ended).status, 128 + 15);
  await collect(t, host);
});

t.test('fly: whatever ends the pod, nothing the app has started goes on', async (t) => {
  const host = makeHost('fly-ends');
  t.teardown(host.close);
  const daemon = join(host.workDir, 'daemon');
  mkdirSync(daemon);
  const script = `setsid sh -c 'echo $$ > /out/pid; exec sleep 601' & while [ ! -s /out/pid ]; do sleep 0.05; done;`;
  const args = (rest: string): string[] => [`--volume=out,kind=host,source=${daemon}`, '--mount=volume=out,target=/out', ...shell(script + rest)];
  const daemonRuns = (): boolean => {
    const path = `/proc/${readFileSync(join(daemon, 'pid'), 'utf8').trim()}/cmdline`;
    return existsSync(path) && readFileSync(path, 'utf8').includes('601');
  };
  const forget = (): void => writeFileSync(join(daemon, 'pid'), '');

  t.equal((await host.rkt(['run', ...FLY.flags, ...args('exit 4')])).status, 4);
  t.notOk(daemonRuns(), 'the app has ended');

  const waits = 'exec sleep 602';
  forget();
  const forced = await startPod(host, FLY, args(waits));
  await eventually('the daemon runs', () => readFileSync(join(daemon, 'pid'), 'utf8') !== '' && daemonRuns());
  t.equal((await host.rkt(['stop', '--force', forced.uuid])).status, 0);
  await forced.ended;
  await eventually('it was stopped by force', () => !daemonRuns(), 10_000);

  forget();
  const killed = await startPod(host, FLY, args(waits));
  await eventually('the daemon runs', () => readFileSync(join(daemon, 'pid'), 'utf8') !== '' && daemonRuns());
  const inApp = join(daemon, 'pid');
  killed.kill('SIGKILL');
  t.equal((await killed.ended).signal, 'SIGKILL');
  t.match((await host.rkt(['status', killed.uuid])).stdout.toString(), /^state=exited\n/);
  await collect(t, host);
  t.notOk(daemonRuns(), 'gc has ended what the monitor could not');
  t.ok(existsSync(inApp), 'and left the directory of this host alone');
});

t.test('fly: an app says that it is ready, in a directory of its own', async (t) => {
  const host = makeHost('fly-notify');
  t.teardown(host.close);
  const pod = await startPod(host, FLY, shell('echo $NOTIFY_SOCKET; stat -c %F $NOTIFY_SOCKET; exec sleep 600'));
  t.equal((await host.rkt(['stop', '--grace-period=0s', pod.uuid])).status, 0);
  t.match((await pod.ended).stdout.toString(), /^\n/, 'nobody asked for it');
  const told = host.start(['run', ...FLY.flags, image, '--name=app', '--annotation=appc.io/executor/supports-systemd-notify=true', '--exec=/bin/sh', '--', '-c', 'stat -c %F $NOTIFY_SOCKET; ls -a /tmp; exit 5']);
  const { stdout, status, stderr } = await told.ended;
  t.match(stdout.toString(), /^socket\n[^]*\.rkt-[0-9a-f-]{36}-notify\n/, stderr);
  t.equal(status, 5);
  t.notOk(existsSync('/dev/notify'), "not in this host's /dev");
  await collect(t, host);
});

t.test('what a stage1 has left mounted is unmounted, not removed', async (t) => {
  const host = makeHost('flavor-mounts');
  t.teardown(host.close);
  const precious = join(host.workDir, 'precious');
  mkdirSync(precious);
  writeFileSync(join(precious, 'file'), 'kept');
  const stage1 = makeStubStage1(join(host.workDir, 'stub.aci'), { scripts: { run: `mkdir status left; mount --bind ${precious} left; echo $$ > pid` } });
  const hello = makeHelloImage(join(host.workDir, 'hello.aci'));
  t.equal((await host.rkt(['run', '--net=none', `--stage1-path=${stage1}`, hello])).status, 0);
  t.equal(mountsOf(host).length, 1);
  await collect(t, host);
  t.equal(readFileSync(join(precious, 'file'), 'utf8'), 'kept');
});

t.test("fly: input, a terminal's and a pipe's", async (t) => {
  const host = makeHost('fly-input');
  t.teardown(host.close);
  const piped = await host.rkt(['run', ...FLY.flags, '--interactive', image, '--exec', '/bin/cat'], { input: 'words\n' });
  t.equal(piped.stdout.toString(), 'words\n', piped.stderr);
  const closed = await host.rkt(['run', ...FLY.flags, ...shell('cat; echo end')], { input: 'words\n' });
  t.equal(closed.stdout.toString(), 'end\n', closed.stderr);
  const command = [PROGRAM, `--dir=${host.dataDir}`, 'run', ...FLY.flags, '--interactive', image, '--exec', '/bin/sh'];
  const { status, screen } = await onTerminal(command, [['/ # ', 'tty; echo $((40 + 2)) here\n'], ['42 here', 'exit 6\n']]);
  t.match(screen, /^\/dev\/pts\/\d+$/m);
  t.equal(status, 6, screen);
  const megabytes = 20;
  const large = await host.rkt(['run', ...FLY.flags, '--interactive', image, '--exec', '/bin/cat'], { input: Buffer.alloc(megabytes << 20, 'x') });
  t.equal(large.stdout.length, megabytes << 20);
});

t.test('a stage1 is found by name, version, file, hash and configuration', async (t) => {
  const host = makeHost('flavor-found');
  t.teardown(host.close);
  const name = 'coreos.com/rkt/stage1-fly';
  const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '../package.json'), 'utf8')) as { version: string };
  const config = join(host.workDir, 'config');
  mkdirSync(join(config, 'stage1.d'), { recursive: true });
  const configure = (fields: object): void => writeFileSync(join(config, 'stage1.d/fly.json'), JSON.stringify({ rktKind: 'stage1', rktVersion: 'v1', ...fields }));
  const prepared = async (...flags: string[]): Promise<string> => {
    const { stdout, stderr } = await host.rkt(['prepare', '--quiet', ...flags, image]);
    const uuid = stdout.toString().trim();
    if (uuid === '') return stderr;
    return (JSON.parse(readFileSync(join(host.dataDir, 'pods/prepared', uuid, 'stage1/manifest'), 'utf8')) as { name: string }).name;
  };
  for (const text of ['fly', name, `${name}:${version}`]) t.equal(await prepared(`--stage1-name=${text}`), name, text);
  t.match(await prepared(`--stage1-name=${name}:0.0.1`), `prepare: stage1 image "${name}:0.0.1" is not in the store\n`);
  t.equal(await prepared('--stage1-from-dir=stage1-fly.aci'), name);
  t.equal(await prepared(`--stage1-hash=${readdirSync(join(host.dataDir, 'cas/stage1'))[0]}`), name);
  configure({ name, version });
  t.equal(await prepared(`--system-config=${config}`), name, 'name and version of the configuration');
  configure({ location: '/moved/away/stage1-fly.aci' });
  t.equal(await prepared(`--system-config=${config}`), name, 'a file that is only where rkt is installed');
  t.equal(await prepared('--stage1-name=kvm', `--system-config=${config}`), 'coreos.com/rkt/stage1-kvm', 'a flag wins');
});

t.test("a stage1 of somebody else's gets directories and the files of rkt's interface", async (t) => {
  const host = makeHost('third-party');
  t.teardown(host.close);
  const hello = makeHelloImage(join(host.workDir, 'hello.aci'));
  const run = `
echo "argv: $*"
ls stage1/rootfs/opt/stage2/hello; ls stage1/rootfs/opt/stage2/hello/rootfs
cat stage1/rootfs/etc/rkt-resolv.conf
touch stage1/rootfs/opt/stage2/hello/rootfs/changed stage1/rootfs/changed
mkdir status
(while [ ! -e stop-now ]; do sleep 0.02; done) &
echo $$ > ppid
ln -s ready supervisor-status
wait`;
  const stage1 = makeStubStage1(join(host.workDir, 'stub.aci'), { rootfs: 'directory', interfaceVersion: '5', scripts: { run, enter: 'echo "enter: $*"; grep PPid: /proc/${1#--pid=}/status; echo "$0"' } });
  const uuidFile = join(host.workDir, 'uuid');
  const { ended } = host.start(['run', `--stage1-path=${stage1}`, '--ipc=private', '--dns=10.0.0.1', `--uuid-file-save=${uuidFile}`, hello]);
  const uuid = await eventually('it is ready', () => readyPod(host, uuidFile));
  const status = (await host.rkt(['status', uuid])).stdout.toString();
  t.match(status, /^state=running\ncreated=.*\nstarted=.*\nnetworks=\npid=\d+\nexited=false\n$/, 'from ppid');
  const entered = await host.rkt(['enter', uuid, 'ls', '-l']);
  const parent = /pid=(\d+)/.exec(status)?.[1] ?? '';
  t.match(entered.stdout.toString(), `\nPPid:\t${parent}\n`, 'the only child of ppid');
  t.match(entered.stdout.toString(), /^enter: --pid=\d+ --appname=hello -- ls -l\nPPid:\t\d+\n\.\.\/\.\.\/\.\.\/cas\/stage1\/\S+\/rootfs\/enter\n$/);
  t.equal((await host.rkt(['stop', uuid])).status, 0);
  const result = await ended;
  t.match(result.stdout.toString(), /^argv: --net=default --local-config=\/etc\/rkt --dns-conf-mode=resolv=stage0,hosts=default \S+\nmanifest\nrootfs\nhello\n# Generated by rkt\nnameserver 10.0.0.1\n$/);
  t.equal(result.stderr, 'run: warning: --ipc option is not supported by stage1\n');
  t.ok(host.listing().some((path) => /^pods\/run\/[^/]+\/overlay\/deps-[^/]+\/upper\/hello\/changed /.test(path)), 'what it changed is in the pod');
  t.notOk(host.listing().some((path) => path.startsWith('cas/') && path.includes('/changed ')));
  await collect(t, host);
});
