/** Clients of enter.sock, with an agent that this program plays itself: prints one JSON object that enter-clients.test.ts judges. */
import '../../runtime/sys.ts';
import { NR_clock_gettime, RLIMIT_NOFILE, SIGPIPE } from '../../runtime/abi.gen.ts';
import { close, duplicate, writeAll } from '../../runtime/linux/fds.ts';
import { changeDirectory } from '../../runtime/linux/files.ts';
import { exit, setLimit } from '../../runtime/linux/process.ts';
import { blockSignals } from '../../runtime/linux/signals.ts';
import { connectUnix } from '../../runtime/linux/sockets.ts';
import { runLoop, sleep } from '../../runtime/loop.ts';
import { encodeFrame } from '../../src/wire/frame.ts';
import type { AgentMessage, HostMessage } from '../../src/wire/messages.ts';
import { EnterClients, ENTER_SOCKET } from '../../stage1-kvm/enter/clients.ts';
import { FrameChannel } from '../../stage1-kvm/frame-channel.ts';

const SETTLED_MS = 20;
const STARVED_MS = 400;

interface Client {
  channel: FrameChannel;
  heard: AgentMessage[];
  isOver: () => boolean;
}

const sent: HostMessage[] = [];
const expected: string[] = [];
const clients = ((): EnterClients => {
  changeDirectory(sys.argv[1] ?? '/nowhere');
  return new EnterClients({
    send: (message) => void sent.push(message),
    expect: (measurement) => {
      const text = JSON.stringify(measurement);
      expected.push(text);
      return () => void expected.splice(expected.indexOf(text), 1);
    },
  });
})();

function connect(): Client {
  const heard: AgentMessage[] = [];
  let isOver = false;
  const channel = new FrameChannel(connectUnix(ENTER_SOCKET), { onMessage: (message) => void heard.push(message), onEnd: () => (isOver = true) });
  return { channel, heard, isOver: () => isOver };
}

/** What the agent would get for a command of a new client. */
async function enter(command: string): Promise<{ client: Client; request: number }> {
  const client = connect();
  client.channel.send({ type: 'exec', request: 1, app: 'app', argv: [command], env: {}, stdio: { kind: 'streams', stdin: false } });
  await sleep(SETTLED_MS);
  const message = sent.at(-1);
  return { client, request: message?.type === 'exec' ? message.request : -1 };
}

const exited = (process: number): AgentMessage => ({ type: 'exited', process, app: 'app', status: { kind: 'code', code: 3 }, oomKilled: false, uptimeMs: 1 });

async function observe(): Promise<Record<string, unknown>> {
  const observed: Record<string, unknown> = {};
  const one = await enter('one');
  const two = await enter('two');
  observed['requestsDiffer'] = one.request !== two.request;
  observed['expected'] = [...expected];
  clients.onMessage({ type: 'created', request: two.request, process: 1001 });
  clients.onMessage({ type: 'failed', request: one.request, step: 'exec', message: 'no' });
  observed['forgotten'] = expected.length;
  two.client.channel.send({ type: 'signal', process: 1, signal: 15 });
  await sleep(SETTLED_MS);
  observed['signal'] = sent.at(-1);
  clients.onMessage(exited(1001));
  await sleep(SETTLED_MS);
  observed['heard'] = [one.client.heard, two.client.heard];
  observed['afterTheEnd'] = [clients.onMessage(exited(1001)), clients.onMessage({ type: 'created', request: one.request, process: 7 }), clients.onMessage({ type: 'failed', step: 'start', message: 'not theirs' })];

  const gone = await enter('gone');
  gone.client.channel.close();
  await sleep(SETTLED_MS);
  clients.onMessage({ type: 'created', request: gone.request, process: 1002 });
  observed['gone'] = sent.at(-1);

  const flooded = await enter('flooded');
  clients.onMessage({ type: 'created', request: flooded.request, process: 1003 });
  for (let count = 0; count < 1000; count++) clients.onMessage({ type: 'output', process: 1003, stream: 'stdout' });
  await sleep(SETTLED_MS);
  observed['flooded'] = { heard: flooded.client.heard.length, isOver: flooded.client.isOver(), last: sent.at(-1) };

  const lengthy = await enter('lengthy');
  clients.onMessage({ type: 'failed', request: lengthy.request, step: 'exec', message: 'x'.repeat(1_000_000) });
  await sleep(SETTLED_MS);
  observed['lengthy'] = { heard: lengthy.client.heard.length, isOver: lengthy.client.isOver() };

  const rude = connectUnix(ENTER_SOCKET);
  writeAll(rude, new Uint8Array(64).fill(0xff));
  const nonsense = connect();
  nonsense.channel.send({ type: 'exec', request: 1, app: 7, argv: '\ud800' } as unknown as HostMessage);
  await sleep(SETTLED_MS);
  observed['nonsense'] = sent.at(-1);

  observed['withoutDescriptors'] = await withoutDescriptors();
  return observed;
}

/** A client comes while no descriptor is left for it. */
async function withoutDescriptors(): Promise<Record<string, unknown>> {
  const client = connectUnix(ENTER_SOCKET);
  const MORE = 1024n;
  setLimit(RLIMIT_NOFILE, BigInt(client) + 1n, MORE);
  const taken: number[] = [];
  try {
    for (;;) taken.push(duplicate(client));
  } catch {
    // that was the last one
  }
  const before = cpuMs();
  await sleep(STARVED_MS);
  const busyMs = cpuMs() - before;
  for (const fd of taken) close(fd);
  setLimit(RLIMIT_NOFILE, MORE, MORE);
  writeAll(client, encodeFrame({ type: 'exec', request: 1, app: 'app', argv: ['late'], env: {}, stdio: { kind: 'streams', stdin: false } }));
  const isServed = (): boolean => sent.some((message) => message.type === 'exec' && message.argv[0] === 'late');
  for (let looks = 500; looks > 0 && !isServed(); looks--) await sleep(SETTLED_MS);
  return { isBusy: busyMs > STARVED_MS / 2, servedLater: isServed() };
}

function cpuMs(): number {
  const CLOCK_PROCESS_CPUTIME_ID = 2;
  const time = new BigInt64Array(2);
  sys.call(NR_clock_gettime, CLOCK_PROCESS_CPUTIME_ID, time);
  return Number(time[0]) * 1000 + Number(time[1]) / 1e6;
}

blockSignals([SIGPIPE]);
runLoop((error) => {
  print({ error: String(error) });
  exit(1);
});
void observe().then((observed) => {
  clients.close();
  print(observed);
  exit(0);
});

function print(value: unknown): void {
  writeAll(1, sys.utf8(`${JSON.stringify(value)}\n`).subarray(0, -1));
}
