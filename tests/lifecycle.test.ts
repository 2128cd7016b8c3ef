/** From the first start of an app to the orderly end of its pod: stop, stop signals, restarts, readiness. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { busyboxImage } from './helpers/busybox.ts';
import { hostProgramMembers } from './helpers/host-program.ts';
import { busyboxMembers, makeOciLayout } from './helpers/make-image.ts';
import { eventually, makeHost, readyPod } from './helpers/rkt.ts';
import type { Host, RunResult } from './helpers/rkt.ts';

t.jobs = 2;
const image = busyboxImage();

interface StartedPod {
  uuid: string;
  output(): string;
  ended: Promise<RunResult>;
}

async function startPod(host: Host, name: string, args: readonly string[]): Promise<StartedPod> {
  const uuidFile = join(host.workDir, `uuid-${name}`);
  const { child, ended } = host.start(['run', '--net=none', `--uuid-file-save=${uuidFile}`, ...args]);
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const early = ended.then(({ status, stderr }) => {
    throw new Error(`the pod ended before it was ready: ${status}: ${stderr}`);
  });
  const uuid = await Promise.race([eventually(`pod ${name} is ready`, () => readyPod(host, uuidFile)), early]);
  early.catch(() => undefined);
  return { uuid, output: () => output, ended };
}

const shell = (script: string): string[] => ['--exec', '/bin/sh', '--', '-c', script];
const statusOf = async (host: Host, uuid: string): Promise<string> => (await host.rkt(['status', uuid])).stdout.toString();

t.test('stop: several pods at a time, each app by its own signal, and the pod is over when stop returns', async (t) => {
  const host = makeHost('stop');
  t.teardown(host.close);
  const polite = join(host.workDir, 'polite');
  makeOciLayout(polite, { stopSignal: 'SIGUSR1' });
  // What the signal must not reach: the app's own children.
  const script = (end: string): string => `trap "echo usr1; ${end}" USR1; trap "echo term; ${end}" TERM; trap "echo winch; ${end}" WINCH; echo up; sleep 1000 & while :; do wait; done`;
  const first = await startPod(host, 'first', [polite, ...shell(script('sleep 0.2; sync; exit 3'))]);
  const second = await startPod(host, 'second', [polite, '--stop-signal=winch', ...shell(script('exit 0'))]);
  await eventually('both apps wait for their signals', () => [first, second].every((pod) => pod.output().includes('up')));

  const stopped = await host.rkt(['stop', first.uuid, second.uuid]);
  t.equal(stopped.status, 0, stopped.stderr);
  t.strictSame(stopped.stdout.toString().trim().split('\n').sort(), [`"${first.uuid}"`, `"${second.uuid}"`].sort());
  t.match(await statusOf(host, first.uuid), /^state=exited\n/, 'at once, without waiting for it');
  const [firstEnd, secondEnd] = [await first.ended, await second.ended];
  t.equal(firstEnd.stdout.toString(), 'up\nusr1\n', "the image's signal");
  t.equal(firstEnd.status, 3);
  t.equal(secondEnd.stdout.toString(), 'up\nwinch\n', "the flag's signal");
  t.equal(secondEnd.status, 0, secondEnd.stderr);
  t.match(await statusOf(host, first.uuid), /\napp-polite=3\n$/);
  const manifest = JSON.parse((await host.rkt(['cat-manifest', first.uuid])).stdout.toString()) as { apps: { annotations: { name: string; value: string }[] }[] };
  t.match(manifest.apps[0]?.annotations.find(({ name }) => name === 'coreos.com/rkt/stage2/stop-signal'), { value: 'SIGUSR1' });

  const again = await host.rkt(['stop', first.uuid]);
  t.equal(again.status, 0);
  t.match(again.stderr + again.stdout.toString(), new RegExp(`pod "${first.uuid}" is already stopped`));
});

t.test('stop: the grace period ends with KILL, --force needs none', async (t) => {
  const host = makeHost('stop-grace');
  t.teardown(host.close);
  const stubborn = ['--name=stubborn', ...shell('trap "" TERM; echo up; while :; do sleep 0.1; done')];
  const pod = await startPod(host, 'stubborn', [image, ...stubborn]);
  await eventually('the app has begun', () => pod.output().includes('up'));
  const patient = host.rkt(['stop', '--grace-period=10m', pod.uuid]);
  const begin = performance.now();
  const stopped = await host.rkt(['stop', '--grace-period=500ms', pod.uuid]);
  const tookMs = performance.now() - begin;
  t.equal(stopped.status, 0, stopped.stderr);
  t.ok(tookMs >= 500, `not before the grace period is over: ${tookMs}`);
  t.equal((await pod.ended).status, 128 + 9);
  t.equal((await patient).status, 0, 'someone who has more patience does not have to have it');
  t.match(await statusOf(host, pod.uuid), /\napp-stubborn=137\n$/);

  const forced = await startPod(host, 'forced', [image, ...stubborn]);
  const killed = await host.rkt(['stop', '--force', forced.uuid]);
  t.equal(killed.status, 0, killed.stderr);
  t.match(await statusOf(host, forced.uuid), /^state=exited\n[^]*\nexited=true\n$/, 'nothing is claimed of an app that was not seen to end');
  t.equal((await forced.ended).signal, 'SIGKILL');

  for (const [args, message] of [
    [['stop', '--grace-period=-1s', forced.uuid], /expected a duration from 0s to 24h/],
    [['run', '--net=none', image, '--stop-signal=SIGFOO'], /invalid argument "SIGFOO" for "--stop-signal" flag: expected a signal such as SIGTERM, SIGRTMIN\+3 or 15/],
    [['run', '--net=none', image, '--restart=sometimes'], /expected no, on-failure, on-failure:N .* or always, found "sometimes"/],
    [['run', '--net=none', image, '--annotation=coreos.com/rkt/stage2/restart=on-failure:0'], /app "busybox": annotation coreos.com\/rkt\/stage2\/restart: expected no/],
  ] as const) {
    const refused = await host.rkt(args);
    t.equal(refused.status, 254);
    t.match(refused.stderr, message);
  }
});

t.test('two signals while the pod is still starting: it ends by the first', async (t) => {
  const host = makeHost('stop-early');
  t.teardown(host.close);
  const uuidFile = join(host.workDir, 'uuid');
  const { child, ended } = host.start(['run', '--net=none', `--uuid-file-save=${uuidFile}`, image, ...shell('sleep 1000')]);
  await eventually('the monitor runs', () => existsSync(uuidFile) && existsSync(join(host.dataDir, 'pods/run', readFileSync(uuidFile, 'utf8').trim(), 'pid')));
  child.kill('SIGINT');
  child.kill('SIGTERM');
  const { status, stderr } = await ended;
  t.ok(status === 128 + 2 || status === 128 + 15, `${status}: ${stderr}`);
});

t.test('restarts: by policy, with handlers, without losing output, seen in status', async (t) => {
  const host = makeHost('restart');
  t.teardown(host.close);
  // An app that counts its runs in its file system, which stays.
  const count = 'n=$(cat /n 2>/dev/null || echo 0); n=$((n+1)); echo $n > /n; echo "run $n"';
  const result = await host.rkt([
    'run', '--net=none', `--uuid-file-save=${join(host.workDir, 'uuid')}`,
    image, '--name=fails', '--restart=on-failure:4', ...shell(`${count}; exit $((20 + n))`), '---',
    image, '--name=third-time', '--restart=on-failure', ...shell(`${count}; [ $n = 3 ]`), '---',
    image, '--name=witness', ...shell('trap "echo told; exit 0" TERM; while :; do sleep 0.1; done'),
  ]);
  const output = result.stdout.toString();
  const lines = (app: string): string[] => [...output.matchAll(new RegExp(`${app}\\[\\d+\\]: (.*)`, 'g'))].map(([, line]) => line ?? '');
  t.strictSame(lines('fails'), ['run 1', 'run 2', 'run 3', 'run 4', 'run 5'], 'one run and four restarts');
  t.strictSame(lines('third-time'), ['run 1', 'run 2', 'run 3'], 'until it succeeds');
  t.strictSame(lines('witness'), ['told'], 'the failure that is not followed by a restart ends the pod');
  t.equal(result.status, 25, 'with the status of the last run');
  const uuid = readFileSync(join(host.workDir, 'uuid'), 'utf8').trim();
  t.match(await statusOf(host, uuid), /\napp-fails=25\napp-third-time=0\napp-witness=0\nrestarts-fails=4\nrestarts-third-time=2\n$/);
  const json = JSON.parse((await host.rkt(['status', '--format=json', uuid])).stdout.toString()) as { apps: { name: string; restart_count?: number }[] };
  t.strictSame(json.apps.map(({ restart_count: n }) => n), [4, 2, undefined]);
});

t.test('restarts: always means always, until somebody stops the pod; handlers run each time', async (t) => {
  const host = makeHost('restart-always');
  t.teardown(host.close);
  const imageId = (await host.rkt(['fetch', '--full', image])).stdout.toString().trim();
  const manifestFile = join(host.workDir, 'pod.json');
  const sh = (script: string): string[] => ['/bin/sh', '-c', script];
  writeFileSync(manifestFile, JSON.stringify({
    acVersion: '0.8.11', acKind: 'PodManifest',
    apps: [{
      name: 'again', image: { id: imageId }, annotations: [{ name: 'coreos.com/rkt/stage2/restart', value: 'always' }],
      app: { exec: sh('echo main'), user: '0', group: '0', eventHandlers: [{ name: 'pre-start', exec: sh('echo before') }, { name: 'post-stop', exec: sh('echo after') }] },
    }],
  }));
  const pod = await startPod(host, 'always', ['--pod-manifest', manifestFile]);
  const seen = await eventually('the third run', () => (pod.output().split('main\n').length > 3 ? pod.output() : undefined));
  t.match(seen, /^before\nmain\nafter\nbefore\nmain\nafter\nbefore\nmain\n/);
  await eventually('status tells of restarts', async () => /\nexited=false\nrestarts-again=\d+\n$/.test(await statusOf(host, pod.uuid)));
  t.match((await host.rkt(['list', '--full', '--no-legend'])).stdout.toString(), new RegExp(`^${pod.uuid}\\tagain\\t.*\\trunning\\t`));
  const stopped = await host.rkt(['stop', '--grace-period=5s', pod.uuid]);
  t.equal(stopped.status, 0, stopped.stderr);
  t.equal((await pod.ended).status, 0, 'the status of the last run');
});

t.test('readiness: the pod is ready when every app that tells of it is; what it says reaches the supervisor', async (t) => {
  const host = makeHost('ready');
  t.teardown(host.close);
  const supervisor = await fakeSupervisor(join(host.workDir, 'notify'));
  t.teardown(supervisor.close);
  const teller = join(host.workDir, 'teller');
  makeOciLayout(teller, { layers: [busyboxMembers(), hostProgramMembers('/bin/systemd-notify')] });
  const uuidFile = join(host.workDir, 'uuid');
  const script = 'echo $NOTIFY_SOCKET; while ! [ -e /tmp/go ]; do sleep 0.1; done; systemd-notify --status="one\ttwo" && systemd-notify --ready --status="at work" && echo told; exec sleep 1000';
  const { child, ended } = host.start(
    ['run', '--net=none', `--uuid-file-save=${uuidFile}`, image, '--name=plain', ...shell('exec sleep 1000'), '---',
      teller, '--name=slow', '--notify', '--user=1000', '--group=1000', ...shell(script)],
    { env: { NOTIFY_SOCKET: supervisor.path } });
  t.teardown(() => child.kill('SIGKILL'));
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  await eventually('the app runs', () => output.includes('/dev/notify'));
  const uuid = readFileSync(uuidFile, 'utf8').trim();
  const early = await host.rkt(['status', '--wait-ready=300ms', uuid]);
  t.match(early.stdout.toString(), /^state=running\n/);
  t.equal(readyPod(host, uuidFile), undefined, 'not ready when its apps have only been started');
  const other = await host.rkt(['enter', '--app=plain', uuid, '/bin/ls', '/dev/notify']);
  t.not(other.status, 0, 'an app that does not tell has no socket, and none sees that of another');
  const waiting = host.rkt(['status', '--wait-ready', uuid]);
  const entered = await host.rkt(['enter', '--app=slow', uuid, '/bin/sh', '-c', 'stat -c "%F %u %a" /dev/notify; touch /tmp/go']);
  t.equal(entered.stdout.toString(), 'socket 1000 600\n', entered.stderr);
  t.match((await waiting).stdout.toString(), /^state=running\n/);
  t.equal(readyPod(host, uuidFile), uuid);
  await eventually("systemd's own program is content", () => output.includes(': told'));
  await eventually('the supervisor has heard', () => supervisor.received.includes('STATUS=at work'));
  await host.rkt(['stop', '--grace-period=1s', uuid]);
  await ended;
  const heard = supervisor.received.filter((line) => line !== 'bound');
  t.strictSame(heard.filter((line) => !line.startsWith('STATUS=')), ['READY=1', 'STOPPING=1']);
  t.notMatch(heard.join('\n'), /\t/, 'one harmless line');
});

/** A datagram socket in the place of systemd's. Node has no unix datagrams, Python does. */
async function fakeSupervisor(path: string): Promise<{ path: string; received: string[]; close(): void }> {
  const program = 'import socket, sys\ns = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\ns.bind(sys.argv[1])\nprint("bound", flush=True)\nwhile True:\n  print(s.recv(65536).decode().replace(chr(10), " "), flush=True)\n';
  const child = spawn('python3', ['-c', program, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  const received: string[] = [];
  let pending = '';
  child.stdout.on('data', (chunk: Buffer) => {
    pending += chunk.toString();
    const lines = pending.split('\n');
    pending = lines.pop() ?? '';
    received.push(...lines);
  });
  await eventually('the supervisor listens', () => existsSync(path) && received.includes('bound'));
  return { path, received, close: () => void child.kill() };
}
