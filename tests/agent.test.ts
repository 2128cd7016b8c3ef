/** The agent as an ordinary process: streams, terminals, processes, the protocol. What needs a virtual machine is in run.test.ts. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { encodeFrame } from '../src/wire/frame.ts';
import { AgentClient, readAll, startMessage } from './helpers/agent-client.ts';
import { startNativeAgent, type NativeAgent } from './helpers/native-agent.ts';
import { eventually } from './helpers/rkt.ts';
import { seededRandom } from './helpers/random.ts';

const SLEEPER = ['/bin/sleep', '1000'];

/** An agent whose first app waits, so that the rest can be tried with exec. */
async function withSleeper(test: { teardown(work: () => Promise<void>): void }): Promise<NativeAgent> {
  const agent = await startNativeAgent();
  test.teardown(() => agent.stop());
  agent.client.send(startMessage([{ name: 'main', exec: SLEEPER }]));
  await agent.client.next('ready');
  return agent;
}

t.test('exit status, streams apart, and the end of the pod', async (t) => {
  const agent = await startNativeAgent();
  t.teardown(() => agent.stop());
  const { client } = agent;
  client.send(startMessage([{ exec: ['/bin/sh', '-c', 'echo out; echo err >&2; exit 7'] }]));
  const [stdout, stderr] = await Promise.all(['stdout', 'stderr'].map((name) => client.stream(1, name as 'stdout').then(readAll)));
  t.equal(stdout?.toString(), 'out\n');
  t.equal(stderr?.toString(), 'err\n');
  t.match(await client.next('exited'), { process: 1, app: 'app-1', status: { kind: 'code', code: 7 }, oomKilled: false });
  await client.next('halted');
  client.socket.end();
  t.strictSame(await agent.ended, { code: 0, signal: null });
  const order = client.messages.map((message) => message.type);
  t.strictSame(order, ['hello', 'started', 'ready', 'exited', 'halted']);
});

t.test('a stream that is connected after the process has ended still has its output', async (t) => {
  const agent = await startNativeAgent();
  t.teardown(() => agent.stop());
  agent.client.send(startMessage([{ exec: ['/bin/echo', 'late'] }]));
  await agent.client.next('exited');
  await sleep(100);
  t.equal((await agent.client.stream(1, 'stdout').then(readAll)).toString(), 'late\n');
  await agent.client.stream(1, 'stderr').then(readAll);
  await agent.client.next('halted');
});

t.test('the first app that fails ends the pod; the others are asked first', async (t) => {
  const agent = await startNativeAgent();
  t.teardown(() => agent.stop());
  const { client } = agent;
  client.send(startMessage([
    { name: 'polite', exec: ['/bin/sh', '-c', 'trap "echo asked; exit 0" TERM; echo ready; while :; do sleep 0.05; done'] },
    { name: 'failing', exec: ['/bin/sh', '-c', 'read _; exit 3'], stdio: { kind: 'streams', stdin: true } },
  ]));
  const polite = await client.stream(1, 'stdout');
  polite.once('data', () => void client.stream(2, 'stdin').then((stdin) => stdin.end()));
  t.match((await readAll(polite)).toString(), /asked\n$/);
  await Promise.all([client.stream(1, 'stderr'), client.stream(2, 'stdout'), client.stream(2, 'stderr')].map((stream) => stream.then(readAll)));
  await client.next('halted');
  t.match(await client.next('exited', (message) => message.app === 'failing'), { status: { kind: 'code', code: 3 } });
  t.match(await client.next('exited', (message) => message.app === 'polite'), { status: { kind: 'code', code: 0 } });
});

t.test('shutdown: TERM, and KILL for those that do not listen', async (t) => {
  const agent = await startNativeAgent();
  t.teardown(() => agent.stop());
  const { client } = agent;
  client.send(startMessage([{ exec: ['/bin/sh', '-c', 'trap "" TERM; echo ready; while :; do sleep 0.05; done'] }]));
  const stdout = await client.stream(1, 'stdout');
  await once(stdout, 'data');
  stdout.resume();
  await client.stream(1, 'stderr').then((stream) => stream.resume());
  client.send({ type: 'shutdown', graceMs: 300 });
  t.match(await client.next('exited'), { status: { kind: 'signal', signal: 9, coreDumped: false } });
  await client.next('halted');
});

t.test('100 MB through stdin, cat, stdout', async (t) => {
  const agent = await withSleeper(t);
  const { client } = agent;
  const id = await client.exec({ app: 'main', argv: ['cat'], stdio: { kind: 'streams', stdin: true } });
  const [stdin, stdout] = [await client.stream(id, 'stdin'), await client.stream(id, 'stdout')];
  const sent = createHash('sha256');
  const received = createHash('sha256');
  const reading = (async () => {
    for await (const chunk of stdout) received.update(chunk as Buffer);
  })();
  const chunk = Buffer.from(seededRandom(1).bytes(1 << 20));
  for (let index = 0; index < 100; index++) {
    chunk.writeUInt32LE(index);
    sent.update(chunk);
    if (!stdin.write(Buffer.from(chunk))) await once(stdin, 'drain');
  }
  stdin.end();
  await reading;
  t.equal(received.digest('hex'), sent.digest('hex'));
  t.match(await client.next('exited', (message) => message.process === id), { status: { kind: 'code', code: 0 } });
});

t.test('back-pressure: a process whose output nobody takes stops writing', async (t) => {
  const agent = await withSleeper(t);
  const id = await agent.client.exec({ app: 'main', argv: ['/bin/sh', '-c', 'i=0; while [ $i -lt 200 ]; do head -c 65536 /dev/zero; i=$((i+1)); echo $i >&2; done'] });
  const stdout = await agent.client.stream(id, 'stdout');
  const progress = await agent.client.stream(id, 'stderr');
  let rounds = '';
  progress.on('data', (chunk: Buffer) => (rounds += chunk.toString()));
  stdout.pause();
  await sleep(700);
  const stoppedAt = rounds.split('\n').length;
  t.ok(stoppedAt < 60, `stopped after ${stoppedAt} of 200 rounds`);
  await sleep(200);
  t.equal(rounds.split('\n').length, stoppedAt, 'and stays stopped');
  t.equal((await readAll(stdout)).length, 200 * 65536, 'then everything comes');
});

t.test('output is announced when there is some, and not when there is none', async (t) => {
  const agent = await withSleeper(t);
  agent.client.send(startMessage([{ name: 'main', exec: SLEEPER }]));
  await agent.client.next('ready');
  const run = async (script: string): Promise<{ announced: string[]; client: AgentClient; process: number }> => {
    const client = await AgentClient.openAnother(agent.dial);
    const process = await client.exec({ app: 'main', argv: ['/bin/sh', '-c', script], stdio: { kind: 'streams', stdin: false, announced: true } });
    await client.next('exited');
    return { client, process, announced: client.messages.flatMap((message) => (message.type === 'output' ? [message.stream] : [])) };
  };
  t.strictSame((await run('true')).announced, []);
  t.strictSame((await run('exec >&-; exec sleep 0.2')).announced, [], 'also when it is closed long before the end');
  const { client, process, announced } = await run('echo late >&2');
  t.strictSame(announced, ['stderr'], 'before the end of the process');
  t.equal((await client.stream(process, 'stderr').then(readAll)).toString(), 'late\n');
  t.equal((await client.stream(process, 'stdout').then(readAll)).toString(), '', 'the other one has nothing to give');
  const both = await run('echo 1; sleep 0.2; echo 2; head -c 100000 /dev/zero >&2 & sleep 0.1');
  t.strictSame(both.announced.sort(), ['stderr', 'stdout'], 'each once');
  t.equal((await both.client.stream(both.process, 'stdout').then(readAll)).toString(), '1\n2\n');
});

t.test('output that the host no longer wants ends the process as a closed pipe does', async (t) => {
  const agent = await withSleeper(t);
  const id = await agent.client.exec({ app: 'main', argv: ['yes'] });
  const stdout = await agent.client.stream(id, 'stdout');
  await once(stdout, 'data');
  stdout.destroy();
  t.match(await agent.client.next('exited', (message) => message.process === id), { status: { kind: 'signal', signal: 13 } });
});

t.test('no standard input is /dev/null, not a pipe that never ends', async (t) => {
  const agent = await withSleeper(t);
  t.match(await agent.client.capture({ app: 'main', argv: ['/bin/sh', '-c', 'cat; readlink /proc/self/fd/0'] }), { stdout: '/dev/null\n' });
});

t.test('processes have no descriptors but their three', async (t) => {
  const agent = await withSleeper(t);
  const { stdout } = await agent.client.capture({ app: 'main', argv: ['/bin/sh', '-c', 'ls /proc/$$/fd | tr "\\n" " "'] });
  t.match(stdout.split(' ').filter(Boolean).map(Number).filter((fd) => fd !== 255), [0, 1, 2]);
});

function terminalDialogue(stream: Socket): { text: () => string; until: (pattern: RegExp) => Promise<void> } {
  let text = '';
  stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
  return {
    text: () => text,
    until: async (pattern) => {
      const deadline = Date.now() + 5000;
      while (!pattern.test(text)) {
        if (Date.now() > deadline) throw new Error(`no ${String(pattern)} in ${JSON.stringify(text)}`);
        await sleep(10);
      }
    },
  };
}

t.test('terminal: size, resize, control characters, end', async (t) => {
  const agent = await withSleeper(t);
  const { client } = agent;
  const id = await client.exec({
    app: 'main',
    argv: ['/bin/sh', '-c', 'tty; stty size; trap "stty size" WINCH; trap "echo interrupted; exit 4" INT; echo go; while :; do sleep 0.05; done'],
    stdio: { kind: 'tty', size: { rows: 33, cols: 99 } },
  });
  const stream = await client.stream(id, 'tty');
  const dialogue = terminalDialogue(stream);
  await dialogue.until(/\/dev\/pts\/\d+\r\n33 99\r\ngo/);
  client.send({ type: 'resize', process: id, size: { rows: 50, cols: 120 } });
  await dialogue.until(/50 120/);
  stream.write('\x03');
  await dialogue.until(/interrupted/);
  t.match(await client.next('exited', (message) => message.process === id), { status: { kind: 'code', code: 4 } });
  if (!stream.readableEnded) await once(stream, 'end');
  t.pass('the stream ends with the process');
});

t.test('terminal: what was typed reaches the program and is echoed once', async (t) => {
  const agent = await withSleeper(t);
  const id = await agent.client.exec({ app: 'main', argv: ['cat'], stdio: { kind: 'tty', size: { rows: 24, cols: 80 } } });
  const stream = await agent.client.stream(id, 'tty');
  const dialogue = terminalDialogue(stream);
  stream.write('hello\n');
  await dialogue.until(/hello\r\nhello\r\n/);
  stream.write('\x04');
  t.match(await agent.client.next('exited', (message) => message.process === id), { status: { kind: 'code', code: 0 } });
});

t.test('a large output on a terminal arrives whole', async (t) => {
  const agent = await withSleeper(t);
  const id = await agent.client.exec({ app: 'main', argv: ['/bin/sh', '-c', 'seq 1 20000'], stdio: { kind: 'tty', size: { rows: 24, cols: 80 } } });
  const output = (await agent.client.stream(id, 'tty').then(readAll)).toString();
  t.equal(output, Array.from({ length: 20000 }, (_, index) => `${index + 1}\r\n`).join(''));
});

t.test('signals reach the process and its group', async (t) => {
  const agent = await withSleeper(t);
  const id = await agent.client.exec({ app: 'main', argv: ['/bin/sh', '-c', 'sleep 1000; echo never'] });
  agent.client.send({ type: 'signal', process: id, signal: 15 });
  t.match(await agent.client.next('exited', (message) => message.process === id), { status: { kind: 'signal', signal: 15 } });
});

t.test('a process of enter gets SIGHUP when its connection closes', async (t) => {
  const agent = await withSleeper(t);
  const other = await AgentClient.openAnother(agent.dial);
  const id = await other.exec({ app: 'main', argv: ['/bin/sh', '-c', 'trap "echo hung up; exit 5" HUP; echo $$; while :; do sleep 0.05; done'] });
  const stdout = await other.stream(id, 'stdout');
  await once(stdout, 'readable');
  other.socket.end();
  t.match((await readAll(stdout)).toString(), /^\d+\nhung up\n$/);
  t.notOk(agent.client.messages.some((message) => 'process' in message && message.process === id), 'and is no business of the connection that started the pod');
});

t.test('orphans are reaped', async (t) => {
  const agent = await withSleeper(t);
  await agent.client.capture({ app: 'main', argv: ['/bin/sh', '-c', 'for i in 1 2 3 4 5 6 7 8; do (setsid sleep 0.1 >/dev/null 2>&1 &) ; done'] });
  const children = (): string[] => readFileSync(`/proc/${agent.process.pid}/task/${agent.process.pid}/children`, 'utf8').trim().split(' ');
  await eventually('no child but the sleeper', () => children().length === 1, 10_000);
});

t.test('descriptors do not pile up', async (t) => {
  const agent = await withSleeper(t);
  const openFiles = (): number => readdirSync(`/proc/${agent.process.pid}/fd`).length;
  const before = openFiles();
  for (let index = 0; index < 30; index++) await agent.client.capture({ app: 'main', argv: ['/bin/true'] });
  // The last ones close a moment after the client has seen the end.
  await eventually(`no more than ${before} open files`, () => openFiles() <= before, 10_000);
});

t.test('enter is confined exactly as the app is', async (t) => {
  const agent = await startNativeAgent();
  t.teardown(() => agent.stop());
  const { client } = agent;
  const show = 'grep -E "^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:|Seccomp_filters)" /proc/self/status; ulimit -n; umask; pwd; cat /proc/self/oom_score_adj; ls -l /proc/self/ns | sed "s/.*-> //"';
  const app = {
    user: '65534', group: '65533', supplementaryGIDs: [7, 8], workingDirectory: '/usr',
    isolators: [
      { name: 'os/linux/capabilities-retain-set', value: { set: ['CAP_NET_RAW', 'CAP_CHOWN'] } },
      { name: 'os/linux/oom-score-adj', value: 123 },
      { name: 'os/linux/seccomp-remove-set', value: { set: ['mount'], errno: 'EPERM' } },
    ],
  };
  client.send(startMessage([{ name: 'main', exec: ['/bin/sh', '-c', `${show}; exec sleep 1000`], app }]));
  const stdout = await client.stream(1, 'stdout');
  let ofApp = '';
  stdout.on('data', (chunk: Buffer) => (ofApp += chunk.toString()));
  await client.next('ready');
  const entered = await client.capture({ app: 'main', argv: ['/bin/sh', '-c', show] });
  for (let tries = 0; tries < 100 && ofApp !== entered.stdout; tries++) await sleep(10);
  t.equal(ofApp, entered.stdout);
  t.match(ofApp, /^Uid:\t65534\t65534\t65534\t65534\nGid:\t65533/);
  t.match(ofApp, /CapEff:\t0000000000000000\nCapBnd:\t0000000000002001\n/);
  t.match(ofApp, /NoNewPrivs:\t1\nSeccomp:\t2\n/);
});

t.test('what cannot be started says why', async (t) => {
  const agent = await withSleeper(t);
  const attempt = (argv: string[]): Promise<unknown> => agent.client.exec({ app: 'main', argv });
  await t.rejects(attempt(['/no/such']), { message: 'Unable to open "/no/such": No such file or directory', exitCode: 203 });
  await t.rejects(attempt(['nosuchcommand']), { message: /^Unable to find "nosuchcommand" in "\/usr\/local\/sbin/, exitCode: 203 });
  await t.rejects(attempt(['/etc']), { message: 'Unable to execute "/etc": Is a directory', exitCode: 203 });
  await t.rejects(attempt(['/etc/passwd']), { message: 'Unable to execute "/etc/passwd": Permission denied', exitCode: 203 });
  await t.rejects(agent.client.exec({ app: 'none', argv: ['true'] }), { message: 'no app "none" in this pod' });
  t.match(await agent.client.capture({ app: 'main', argv: ['/bin/echo', 'still there'] }), { stdout: 'still there\n' });
});

t.test('an app that cannot be started ends the pod', async (t) => {
  for (const [app, exec, expected] of [
    [{ user: 'nobody-here' }, ['/bin/true'], { step: 'user', message: 'unknown user "nobody-here"', exitCode: 217 }],
    [{ group: 'none' }, ['/bin/true'], { step: 'group', message: 'unknown group "none"', exitCode: 216 }],
    [{ user: '/no/file' }, ['/bin/true'], { step: 'user', exitCode: 217 }],
    [{}, ['/no/such'], { step: 'exec', message: 'Unable to open "/no/such": No such file or directory', exitCode: 203 }],
    [{ workingDirectory: '/no/dir' }, ['/bin/true'], { step: 'working directory', message: '"/no/dir": No such file or directory', exitCode: 200 }],
    [{ isolators: [{ name: 'os/linux/seccomp-retain-set', value: { set: ['@x'] } }] }, ['/bin/true'], { step: 'prepare', message: 'unknown seccomp wildcard "@x"' }],
    [{ eventHandlers: [{ name: 'pre-start', exec: ['/bin/sh', '-c', 'exit 9'] }] }, ['/bin/true'], { step: 'pre-start', exitCode: 9 }],
  ] as const) {
    const agent = await startNativeAgent();
    agent.client.send(startMessage([{ name: 'main', exec: [...exec], app }]));
    t.match(await agent.client.next('failed'), { app: 'main', ...expected });
    await agent.client.next('halted');
    await agent.stop();
  }
});

t.test('user and group by name', async (t) => {
  const etc = { passwd: 'root:x:0:0::/root:/bin/sh\nclerk:x:1201:1202::/home/clerk:/bin/sh\n', group: 'root:x:0:\nmail:x:1203:\nclub:x:1204:clerk\n' };
  const agent = await startNativeAgent({ etc });
  t.teardown(() => agent.stop());
  agent.client.send(startMessage([{ exec: ['/bin/sh', '-c', 'id -u; id -G; echo $HOME $USER'], app: { user: 'clerk', group: 'mail' } }]));
  t.equal((await agent.client.stream(1, 'stdout').then(readAll)).toString(), '1201\n1203\n/home/clerk clerk\n');
});

t.test('event handlers: before, after, as root, on the same streams', async (t) => {
  const agent = await startNativeAgent();
  t.teardown(() => agent.stop());
  const { client } = agent;
  const handler = (name: string): object => ({ name, exec: ['/bin/sh', '-c', `echo ${name} $(id -u)`] });
  client.send(startMessage([{ exec: ['/bin/sh', '-c', 'echo main $(id -u)'], app: { user: '1', group: '1', eventHandlers: [handler('pre-start'), handler('post-stop')] } }]));
  void client.stream(1, 'stderr').then(readAll);
  t.equal((await client.stream(1, 'stdout').then(readAll)).toString(), 'pre-start 0\nmain 1\npost-stop 0\n');
  await client.next('halted');
});

t.test('start: once, in the right version, with a manifest that can be read', async (t) => {
  const agent = await withSleeper(t);
  agent.client.send(startMessage([{ exec: SLEEPER }]));
  t.match(await agent.client.next('failed'), { step: 'start', message: 'the pod has been started already' });
  for (const [message, expected] of [
    [startMessage([{ exec: SLEEPER }], { version: 99 }), /protocol version 99, this agent speaks 1/],
    [startMessage([{ exec: SLEEPER }], { podManifest: '{' }), /JSON|expecting/i],
    [startMessage([{ exec: SLEEPER }], { podManifest: '{"apps":[]}' }), /app "app-1" is not in the pod manifest/],
  ] as const) {
    const other = await startNativeAgent();
    other.client.send(message);
    t.match((await other.client.next('failed')).message, expected);
    await other.client.next('halted');
    await other.stop();
  }
});

t.test('the pod ends when the connection that started it closes', async (t) => {
  const agent = await startNativeAgent();
  t.teardown(() => agent.stop());
  agent.client.send(startMessage([{ exec: SLEEPER }]));
  await agent.client.next('ready');
  agent.client.socket.destroy();
  t.strictSame(await agent.ended, { code: 0, signal: null });
});

t.test('an error of the agent itself reaches the host, and the agent ends', async (t) => {
  const agent = await startNativeAgent({ mode: 'break' });
  t.teardown(() => agent.stop());
  agent.client.send(startMessage([{ exec: ['/bin/true'] }]));
  for (const stream of ['stdout', 'stderr'] as const) void agent.client.stream(1, stream).then(readAll);
  t.match(await agent.client.next('fatal'), { message: 'TypeError: broken on purpose', stack: /release/ });
  t.strictSame(await agent.ended, { code: 0, signal: null });
  t.match(agent.log(), /TypeError: broken on purpose\n +at release/, 'and the log');
});

/** Messages from nearly right to nonsense. */
function fuzzMessage(random: ReturnType<typeof seededRandom>): object {
  const values: unknown[] = [0, -1, 1, 1000, 1001, 2 ** 53, 1.5, '', 'main', 'x'.repeat(5000), null, true, [], {}, ['true'], ['/bin/true'], [1], { kind: 'tty' }, { kind: 'streams', stdin: false }, { kind: 'streams', stdin: true, announced: true }, { kind: 'tty', size: { rows: 1, cols: 70000 } }, { rows: 5, cols: 5 }, { A: 'b' }, { 'A=': 1 }, '\u0000', '\ud800'];
  const type = random.pick(['exec', 'exec', 'signal', 'resize', 'ping', 'start', 'nonsense', 7, null]);
  const fields = ['request', 'app', 'argv', 'env', 'stdio', 'process', 'signal', 'size', 'apps', 'podManifest', 'version', 'network', '__proto__x'];
  const message: Record<string, unknown> = { type };
  if (type === 'exec' && random.below(2) === 0) Object.assign(message, { request: 1, app: 'main', argv: ['/bin/true'], env: {}, stdio: { kind: 'streams', stdin: false } });
  for (let count = random.below(4); count > 0; count--) message[random.pick(fields)] = random.pick(values);
  // Signals to the sleeper would end the pod, which is right and not what is tested.
  if (message['type'] === 'signal') message['process'] = 12345;
  return message;
}

for (const sanitize of [false, true]) {
  t.test(`nonsense from the host does no harm${sanitize ? ' (sanitized)' : ''}`, async (t) => {
    const agent = await startNativeAgent({ sanitize });
    t.teardown(() => agent.stop());
    agent.client.send(startMessage([{ name: 'main', exec: SLEEPER }]));
    await agent.client.next('ready');
    const random = seededRandom(42);
    for (let round = 0; round < 20; round++) {
      const control = await AgentClient.openAnother(agent.dial);
      control.socket.on('error', () => undefined);
      // The agent is done with the round before when it answers.
      control.send({ type: 'ping', request: 1 });
      await control.next('pong');
      for (let count = 0; count < 40; count++) control.send(fuzzMessage(random) as never);
      if (random.below(2) === 0) control.socket.write(random.bytes(200)); // breaks the framing: the connection ends
      for (let count = 0; count < 3; count++) {
        const stream = await agent.dial(1025);
        stream.on('error', () => undefined);
        stream.write(random.below(2) === 0 ? random.bytes(50) : encodeFrame({ process: random.pick([1, 5, 1000]), stream: random.pick(['stdout', 'x', 'tty']) }));
        stream.end();
        stream.resume();
      }
      await sleep(5);
      control.socket.destroy();
    }
    t.match(await agent.client.capture({ app: 'main', argv: ['/bin/echo', 'alive'] }), { stdout: 'alive\n', status: { code: 0 } });
    t.equal(agent.log(), '', 'nothing was reported as an error of the agent');
  });
}
