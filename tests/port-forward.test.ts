/** rkt port-forward: connections of this host to ports of a pod that has no network. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { busyboxImage } from './helpers/busybox.ts';
import { eventually, makeHost, readyPod } from './helpers/rkt.ts';
import type { Host, RunResult } from './helpers/rkt.ts';

const image = busyboxImage();
const ECHO_PORT = 7000;

async function startPod(host: Host, args: readonly string[]): Promise<{ uuid: string; ended: Promise<RunResult> }> {
  const uuidFile = join(host.workDir, `uuid-${args.length}`);
  const { ended } = host.start(['run', '--net=none', `--uuid-file-save=${uuidFile}`, ...args]);
  return { uuid: await eventually('the pod is ready', () => readyPod(host, uuidFile)), ended };
}

async function dial(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  await once(socket, 'connect');
  return socket;
}

async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

t.test('connections through the virtual machine, until the pod ends', async (t) => {
  const host = makeHost('port-forward');
  t.teardown(host.close);
  const { uuid, ended } = await startPod(host, [image, '--exec', '/bin/sh', '--', '-c', `nc -ll -p ${ECHO_PORT} -e /bin/cat & exec sleep 1000`]);
  const { child, ended: forwardEnded } = host.start(['port-forward', uuid, `:${ECHO_PORT}`, ':9']);
  t.teardown(() => child.kill('SIGKILL'));
  let output = '';
  let errors = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  const ports = await eventually('both ports are named', () => {
    const found = [...output.matchAll(/^Forwarding from 127\.0\.0\.1:(\d+) -> (\d+)$/gm)];
    return found.length === 2 ? new Map(found.map(([, local, remote]) => [Number(remote), Number(local)])) : undefined;
  });
  const echoPort = ports.get(ECHO_PORT) ?? 0;

  // Closing one direction leaves the other: cat answers behind the end of its input.
  const echo = await eventually('the app listens', async () => {
    const socket = await dial(echoPort);
    socket.end('ping\n');
    return (await readAll(socket).catch(() => Buffer.alloc(0))).toString() === 'ping\n';
  });
  t.ok(echo);
  t.match(output, new RegExp(`^Handling connection for ${echoPort}$`, 'm'));

  const data = randomBytes(8_000_000);
  const streams = await Promise.all([0, 1, 2].map(async () => {
    const socket = await dial(echoPort);
    const received = readAll(socket);
    socket.end(data);
    return createHash('sha256').update(await received).digest('hex');
  }));
  const expected = createHash('sha256').update(data).digest('hex');
  t.strictSame(streams, [expected, expected, expected], 'at the same time, both ways, and whole');

  const silent = await dial(echoPort);
  const other = await dial(echoPort);
  other.end('through');
  t.equal((await readAll(other)).toString(), 'through', 'one that says nothing is in nobody\'s way');
  silent.destroy();

  const refused = await dial(ports.get(9) ?? 0);
  refused.on('error', () => undefined);
  t.equal((await readAll(refused).catch(() => Buffer.alloc(0))).length, 0, 'closed');
  await eventually('the reason is told', () => /an error occurred forwarding \d+ -> 9: port 9 of the pod: connection refused/.test(errors));

  for (const [args, message] of [
    [[uuid, '0x50'], /invalid port "0x50": expected \[LOCAL:\]REMOTE/],
    [[uuid, '80:80:80'], /invalid port/],
    [[uuid], /expected a UUID and ports/],
    [['--address=nowhere', uuid, '80'], /"nowhere" is not an IP address/],
    [[uuid, `${echoPort}:80`], /unable to listen on 127\.0\.0\.1:\d+/],
  ] as const) {
    const result = await host.rkt(['port-forward', ...args]);
    t.equal(result.status, 254, args.join(' '));
    t.match(result.stderr, message);
  }

  await host.rkt(['stop', '--force', uuid]);
  const end = await forwardEnded;
  t.equal(end.status, 254);
  t.match(end.stderr, new RegExp(`port-forward: lost connection to pod "${uuid}"\\n$`));
  await ended;
  const over = await host.rkt(['port-forward', uuid, '80']);
  t.match(over.stderr, new RegExp(`pod "${uuid}" isn't currently running`));
});

t.test('a sealed pod takes no connections to its ports', async (t) => {
  const host = makeHost('port-forward-sealed');
  t.teardown(host.close);
  const { uuid, ended } = await startPod(host, ['--sealed', image, '--exec', '/bin/nc', '--', '-ll', '-p', String(ECHO_PORT), '-e', '/bin/cat']);
  const { child } = host.start(['port-forward', uuid, `:${ECHO_PORT}`]);
  t.teardown(() => child.kill('SIGKILL'));
  let output = '';
  let errors = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  const local = await eventually('the port is named', () => /^Forwarding from 127\.0\.0\.1:(\d+) ->/m.exec(output)?.[1]);
  const socket = await dial(Number(local));
  socket.on('error', () => undefined);
  t.equal((await readAll(socket).catch(() => Buffer.alloc(0))).length, 0);
  await eventually('the reason is told', () => errors.includes(`pod "${uuid}" is sealed: it takes no connections to its ports from here`));
  await host.rkt(['stop', '--force', uuid]);
  await ended;
});
