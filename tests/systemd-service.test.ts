/** A pod as the work of a supervisor: sockets that it has opened, and what it is told. No systemd runs here; its programs are the judges. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer, connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import t from 'tap';
import { hostProgramMembers } from './helpers/host-program.ts';
import { busyboxMembers, makeAci, type TarMember } from './helpers/make-image.ts';
import { eventually, makeHost, PROGRAM, readyPod } from './helpers/rkt.ts';
import type { Host } from './helpers/rkt.ts';

const PROXY = '/lib/systemd/systemd-socket-proxyd';
const GUEST_PORT = 8080;
const BACKEND_PORT = 7000;

/** An image with a socket-activated port, and one that knows nothing of that. */
function makeImages(host: Host, guestPort = GUEST_PORT): { front: string; back: string } {
  const below = busyboxMembers();
  const known = new Set(below.map(({ path }) => path));
  const proxy = hostProgramMembers(PROXY).filter(({ path }) => !known.has(path));
  const make = (name: string, layer: TarMember[], port: object): string => makeAci(join(host.workDir, `${name}.aci`), { layers: [layer], manifest: { name: `example.com/${name}`, app: { exec: ['/bin/sh'], user: '0', group: '0', ports: [port] } } });
  return {
    front: make('front', [...below, ...proxy], { name: 'web', protocol: 'tcp', port: guestPort, socketActivated: true }),
    back: make('back', below, { name: 'plain', protocol: 'tcp', port: BACKEND_PORT }),
  };
}

interface Program {
  child: ChildProcess;
  output(): string;
  errors(): string;
}

function watchProgram(child: ChildProcess): Program {
  let output = '';
  let errors = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  return { child, output: () => output, errors: () => errors };
}

/** Runs rkt with listening sockets as its descriptors from 3 on, as systemd does; gives their ports, which are free ones. */
async function activate(host: Host, socketCount: number, argsOf: (ports: number[]) => string[]): Promise<Program & { ports: number[] }> {
  const servers = await Promise.all(Array.from({ length: socketCount }, async () => {
    const server = createServer();
    server.listen({ port: 0, host: '127.0.0.1' });
    await once(server, 'listening');
    return server;
  }));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  const fds = servers.map((server) => (server as unknown as { _handle: { fd: number } })._handle.fd);
  const child = spawn('/bin/sh', ['-c', 'LISTEN_PID=$$ exec "$@"', 'sh', PROGRAM, `--dir=${host.dataDir}`, '--insecure-options=image', ...argsOf(ports)], {
    env: { ...process.env, LISTEN_FDS: String(socketCount) },
    stdio: ['ignore', 'pipe', 'pipe', ...fds],
  });
  // The copies of this process, which would take connections.
  for (const server of servers) server.close();
  return { ...watchProgram(child), ports };
}

/** As much as was sent; the proxy hangs up on who ends only his own direction. */
async function ask(port: number, text: string): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1' });
  socket.on('error', () => undefined);
  socket.write(text);
  let answer = '';
  for await (const chunk of socket) {
    answer += String(chunk);
    if (answer.length >= text.length) break;
  }
  return answer;
}

t.test("socket activation: systemd's own program finds its socket in the guest", async (t) => {
  const host = makeHost('activation');
  t.teardown(host.close);
  const { front, back } = makeImages(host);
  const uuidFile = join(host.workDir, 'uuid');
  const pod = await activate(host, 2, ([web, plain]) => [
    'run', '--net=none', `--uuid-file-save=${uuidFile}`, `--port=web:${web}`, `--port=plain:${plain}`,
    front, '--user=1000', '--exec', '/bin/sh', '--',
    '-c', `echo "$LISTEN_FDS $LISTEN_FDNAMES $(ls /proc/self/fd | tr '\\n' ' ')"; [ "$LISTEN_PID" = "$$" ] && echo "for this process"; exec ${PROXY} 127.0.0.1:${BACKEND_PORT}`, '---',
    // Listens late: the connection waits for it.
    back, '--exec', '/bin/sh', '--', '-c', `echo "fds: $LISTEN_FDS"; sleep 1; exec nc -ll -p ${BACKEND_PORT} -e /bin/cat`,
  ]);
  t.teardown(() => pod.child.kill('SIGKILL'));
  const ended = once(pod.child, 'close');
  const uuid = await eventually(`the pod is ready: ${pod.errors()}`, () => readyPod(host, uuidFile));
  const [web, plain] = pod.ports as [number, number];
  t.equal(await ask(plain, 'to an app that knows nothing of it'), 'to an app that knows nothing of it');
  t.equal(await ask(web, 'hello'), 'hello');
  t.strictSame(await Promise.all([1, 2, 3, 4, 5].map((n) => ask(web, `client ${n}`))), [1, 2, 3, 4, 5].map((n) => `client ${n}`));
  t.match(pod.output(), /front\[\d+\]: 1 web 0 1 2 3( \d+)? ?\n/, 'one socket, and nothing else');
  t.match(pod.output(), /front\[\d+\]: for this process/);
  t.match(pod.output(), /back\[\d+\]: fds: \n/);
  await host.rkt(['stop', '--grace-period=1s', uuid]);
  await ended;
});

t.test('socket activation: sockets and ports that do not fit', async (t) => {
  const host = makeHost('activation-errors');
  t.teardown(host.close);
  const { front, back } = makeImages(host);
  const unknown = await activate(host, 1, () => ['run', '--net=none', front]);
  const [status] = (await once(unknown.child, 'close')) as [number];
  t.equal(status, 254);
  t.match(unknown.errors(), new RegExp(`socket activation: the socket on port ${unknown.ports[0]} \\(descriptor 3\\) leads to no port of an app`));
  const rest = await activate(host, 1, ([port]) => ['run', '--net=none', `--port=web:${port}`, '--port=plain:7', front, '---', back]);
  t.equal(((await once(rest.child, 'close')) as [number])[0], 254);
  t.match(rest.errors(), /--port flag does not work with 'none' networking/, 'of the port that has no socket');
  const noSocket = spawn('/bin/sh', ['-c', 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', 'sh', PROGRAM, `--dir=${host.dataDir}`, '--insecure-options=image', 'run', '--net=none', front], { stdio: ['ignore', 'pipe', 'pipe', 'pipe'] });
  const program = watchProgram(noSocket);
  t.equal(((await once(noSocket, 'close')) as [number])[0], 254);
  t.match(program.errors(), /socket activation: descriptor 3 is not a listening TCP socket/);
});

t.test('socket activation: a sealed pod, a port of its own number, an app that is started again', async (t) => {
  const host = makeHost('activation-sealed');
  t.teardown(host.close);
  const uuidFile = join(host.workDir, 'uuid');
  const script = `readlink /proc/self/fd/3; [ -e /seen ] || { touch /seen; exit 1; }; nc -ll -p ${BACKEND_PORT} -e /bin/cat & exec ${PROXY} 127.0.0.1:${BACKEND_PORT}`;
  const pod = await activate(host, 1, ([port]) => ['run', '--net=none', '--sealed', `--uuid-file-save=${uuidFile}`, makeImages(host, port).front, '--restart=on-failure', '--exec', '/bin/sh', '--', '-c', script]);
  t.teardown(() => pod.child.kill('SIGKILL'));
  const ended = once(pod.child, 'close');
  const [port] = pod.ports as [number];
  t.equal(await ask(port, 'hello'), 'hello', pod.errors());
  t.match(pod.errors(), new RegExp(`warning: no --port option for socket-activated port "web", assuming port ${port} as specified in the manifest`));
  t.match(pod.output(), /^(socket:\[\d+\])\n\1\n$/, 'the same socket in both runs');
  const uuid = await eventually('the pod is ready', () => readyPod(host, uuidFile));
  await host.rkt(['stop', '--grace-period=1s', uuid]);
  await ended;
});

t.test('systemd-socket-activate starts a pod with the first connection', async (t) => {
  const host = makeHost('socket-activate');
  t.teardown(host.close);
  const { front } = makeImages(host);
  const uuidFile = join(host.workDir, 'uuid');
  // It wants to be told a port: one below those that the kernel gives to connections, another one when somebody has it.
  const { program, port } = await eventually('a free port', async () => {
    const candidate = randomInt(20_000, 32_000);
    const child = spawn('systemd-socket-activate', [
      '-E', 'PATH', '-l', `127.0.0.1:${candidate}`, PROGRAM, `--dir=${host.dataDir}`, '--insecure-options=image',
      'run', '--net=none', `--uuid-file-save=${uuidFile}`, `--port=web:${candidate}`, front,
      '--exec', '/bin/sh', '--', '-c', `nc -ll -p ${BACKEND_PORT} -e /bin/cat & exec ${PROXY} 127.0.0.1:${BACKEND_PORT}`,
    ], { stdio: ['ignore', 'pipe', 'pipe'] });
    const started = watchProgram(child);
    const listens = await eventually('systemd-socket-activate listens or not', () => (started.errors().includes('Listening on') ? 'yes' : child.exitCode === null ? undefined : 'no'));
    return listens === 'yes' ? { program: started, port: candidate } : undefined;
  });
  t.teardown(() => program.child.kill('SIGKILL'));
  const ended = once(program.child, 'close');
  t.equal(await ask(port, 'first'), 'first', program.errors());
  const uuid = await eventually('the pod is ready', () => readyPod(host, uuidFile));
  t.equal(await ask(port, 'second'), 'second');
  const status = await host.rkt(['status', uuid]);
  t.match(status.stdout.toString(), new RegExp(`\\npid=${program.child.pid}\\n`), 'the process that was started is the pod');
  program.child.kill('SIGTERM');
  t.equal(((await ended) as [number])[0], 128 + 15);
});
