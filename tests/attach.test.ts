/** `rkt attach`: several at once, input that is measured first, terminals, and clients that do not behave. */
import { readFileSync, statSync, symlinkSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { busyboxImage } from './helpers/busybox.ts';
import { eventually, makeHost, PROGRAM, readyPod, type Host, type RunResult } from './helpers/rkt.ts';
import { onTerminal } from './helpers/terminal.ts';

const image = busyboxImage();

async function startPod(host: Host, args: readonly string[]): Promise<{ uuid: string; directory: string; ended: Promise<RunResult> }> {
  // By a link: paths of sockets are short.
  const directory = join(host.workDir, 'pod');
  const uuidFile = join(host.workDir, 'uuid');
  const { ended } = host.start(['run', '--net=none', `--uuid-file-save=${uuidFile}`, ...args], { timeoutMs: 300_000 });
  const uuid = await eventually('the pod is ready', () => readyPod(host, uuidFile));
  symlinkSync(join(host.dataDir, 'pods/run', uuid), directory);
  return { uuid, directory, ended };
}

/** A client that speaks to an endpoint without rkt. */
function rawClient(directory: string, endpoint: string): { socket: Socket; text(): string; closed: Promise<void> } {
  const socket = connect(join(directory, 'iottymux/busybox', `sock-${endpoint}`));
  let text = '';
  socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
  socket.on('error', () => undefined);
  const closed = new Promise<void>((resolve) => socket.on('close', () => resolve()));
  return { socket, text: () => text, closed };
}

t.test('streams of an app, by several at once', async (t) => {
  const host = makeHost('attach');
  t.teardown(host.close);
  // On "flood" it writes more than any client may be behind.
  const script = 'while read -r line; do case $line in flood) yes flooding | head -c 3000000;; end) exit 5;; *) echo "got $line"; echo "heard $line" >&2;; esac; done';
  const pod = await startPod(host, [image, '--stdin=stream', '--stdout=stream', '--exec=/bin/sh', '--', '-c', script]);

  t.same((await host.rkt(['attach', '--mode=list', pod.uuid])).stdout.toString(), 'stdin\nstdout\nstderr\n');
  const described = JSON.parse(readFileSync(join(pod.directory, 'iottymux/busybox/endpoints'), 'utf8')) as unknown;
  t.same(described, {
    version: 1,
    targets: ['stdin', 'stdout', 'stderr'].map((name) => ({ name, domain: 'unix', address: `iottymux/busybox/sock-${name}` })),
    process: 1,
  });
  for (const name of ['stdin', 'stdout', 'stderr']) t.equal(statSync(join(pod.directory, 'iottymux/busybox', `sock-${name}`)).mode & 0o777, 0o600);

  for (const [mode, message] of [
    ['stdin,tty', /incompatible endpoints "stdin,tty", cannot simultaneously attach TTY and streams/], ['stdfoo', /unknown endpoint "stdfoo"/], ['tty', /has no endpoint "tty-in": it has stdin, stdout, stderr/],
  ] as const) t.match(await host.rkt(['attach', `--mode=${mode}`, pod.uuid]), { status: 254, stderr: message });

  const watcher = rawClient(pod.directory, 'stdout');
  const rude = connect(join(pod.directory, 'iottymux/busybox/sock-stdout'));
  rude.pause();
  const attached = host.start(['attach', pod.uuid], { input: 'one\n' });
  await eventually('the app has answered', () => watcher.text().includes('got one\n'));
  t.equal((await host.rkt(['attach', '--mode=stdin', pod.uuid], { input: 'two\n' })).status, 0, 'ends when the app has got everything');
  await eventually('the app has answered another client', () => watcher.text().includes('got two\n'));

  const { stdout: log } = await host.rkt(['attest', 'log', pod.uuid]);
  t.equal(log.toString().match(/the host attached to "stdin" of app "busybox"/g)?.length, 2, 'each client that may write is measured, and no other');

  // Nothing is lost for who reads; who does not is cut off, and the app goes on.
  t.equal((await host.rkt(['attach', '--mode=stdin', pod.uuid], { input: 'flood\nthree\n' })).status, 0);
  await eventually('the app goes on', () => watcher.text().includes('got three\n'));
  t.ok(watcher.text().length > 3_000_000, 'the one who reads has got everything');
  let rudeText = '';
  rude.on('data', (chunk: Buffer) => (rudeText += chunk.toString()));
  const rudeEnd = new Promise<void>((resolve) => rude.on('close', () => resolve()));
  rude.resume();
  await rudeEnd;
  t.match(rudeText.slice(-60), /\n\[rkt: cut off: the output was not read\]\n$/);
  t.ok(rudeText.length < 1_500_000, `${rudeText.length} bytes were kept for it`);

  t.equal((await host.rkt(['attach', '--mode=stdin', pod.uuid], { input: 'end\n' })).status, 0);
  const ended = await pod.ended;
  t.equal(ended.status, 5);
  t.equal(ended.stdout.toString(), '', 'rkt itself shows nothing of it');
  t.match(ended.stderr, /heard three/, 'the other stream is where it was');
  await watcher.closed;
  const result = await attached.ended;
  t.equal(result.status, 0, 'attach ends with the app');
  t.match(result.stdout.toString(), /^got one\ngot two\n/);
  t.match(result.stderr, /^heard one\nheard two\n/);
  t.match((await host.rkt(['logs', pod.uuid])).stdout.toString(), /^got one\ngot two\nflooding\n/, 'it is in the log');
  t.match(await host.rkt(['attach', pod.uuid]), { status: 254, stderr: `attach: pod "${pod.uuid}" isn't currently running\n` });
});

t.test('a terminal that is left and found again', async (t) => {
  const host = makeHost('attach-tty');
  t.teardown(host.close);
  const pod = await startPod(host, [image, '--stdin=tty', '--exec=/bin/sh']);
  t.equal((await host.rkt(['attach', '--mode=list', pod.uuid])).stdout.toString(), 'tty-in\ntty-out\n');
  const attach = (flags: string, answers: readonly (readonly [string, string])[]): ReturnType<typeof onTerminal> =>
    onTerminal(['sh', '-c', `stty rows 33 cols 99; echo here; ${PROGRAM} --dir=${host.dataDir} attach ${flags} ${pod.uuid}; echo "status $?"; stty -a`], answers);

  const observer = rawClient(pod.directory, 'tty-out');
  // The prompt has gone by before anybody was attached. What is typed while a line runs, and an interrupt before one does, are not what they would be a moment later.
  const first = await attach('', [['here', '\n'], ['/ # ', 'stty size; name=left\n'], ['33 99', ''], ['/ # ', 'echo $((5*5))-runs; sleep 500\n'], ['25-runs', '\x03'], ['/ # ', 'echo $((40+2))\n'], ['42\r', '\x10\x11']]);
  t.match(first.screen, /33 99\n/, 'its size is that of the terminal that looks at it');
  t.match(first.screen, /42\n/, 'an interrupt ended what was running in it');
  t.match(first.screen, /status 0\n/, 'the keys have left it');
  t.match(first.screen, /^isig icanon iexten /m, 'the terminal is as it was');
  t.match(observer.text(), /33 99/, 'who only looks sees the same');

  const second = await attach('--detach-keys=ctrl-a,x', [['here', '\n'], ['/ # ', 'echo "$name behind"\n'], ['left behind', '\x01x']]);
  t.match(second.screen, /left behind\n/, 'the shell is the same');
  t.match(second.screen, /status 0\n/, 'other keys');

  const third = await attach('', [['here', '\n'], ['/ # ', 'exit 4\n']]);
  t.match(third.screen, /status 0\n/);
  t.match(third.screen, /^isig icanon iexten /m, 'the terminal is as it was when the app ends');
  t.equal((await pod.ended).status, 4);
  t.match((await host.rkt(['logs', pod.uuid])).stdout.toString(), /left behind\r\n/, 'what was on the terminal is in the log');
  t.equal((await host.rkt(['attest', 'log', pod.uuid])).stdout.toString().match(/attached to "tty-in"/g)?.length, 3);
});

t.test('a sealed pod takes no input', async (t) => {
  const host = makeHost('attach-sealed');
  t.teardown(host.close);
  const pod = await startPod(host, ['--sealed', image, '--stdin=stream', '--exec=/bin/sh', '--', '-c', 'cat; sleep 600']);
  t.match(await host.rkt(['attach', '--mode=stdin', pod.uuid], { input: 'x\n' }), { status: 254, stderr: 'stage1: the pod is sealed: it takes no input\n' });
  const observer = rawClient(pod.directory, 'stdout');
  const intruder = rawClient(pod.directory, 'stdin');
  await intruder.closed;
  t.match(intruder.text(), /sealed/);
  // On its own: Node drops what it has not read yet when a write fails.
  const writer = rawClient(pod.directory, 'stdin');
  writer.socket.write('let me in\n');
  await writer.closed;
  t.equal(observer.text(), '');
  t.notMatch((await host.rkt(['attest', 'log', pod.uuid])).stdout.toString(), /attached/, 'what was refused did not happen');
  t.equal((await host.rkt(['stop', pod.uuid])).status, 0);
  t.equal((await pod.ended).status, 143);
});
