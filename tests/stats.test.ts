/** rkt stats and rkt top: what apps use, beside what their own guest says. */
import { join } from 'node:path';
import t from 'tap';
import { busyboxImage } from './helpers/busybox.ts';
import { eventually, makeHost, readyPod } from './helpers/rkt.ts';
import type { Host } from './helpers/rkt.ts';

const image = busyboxImage();
const MIB = 2 ** 20;

interface AppStatistics {
  name: string;
  cpu_percent: number;
  cpu_time_us: number;
  memory_bytes: number;
  memory_peak_bytes: number;
  memory_limit_bytes: number;
  processes: number;
  read_bytes: number;
  written_bytes: number;
}

interface PodStatistics {
  name: string;
  host_memory_bytes: number;
  memory_total_bytes: number;
  network: { received_bytes: number; sent_bytes: number };
  apps: AppStatistics[];
}

interface Top {
  name: string;
  processes: { pid: number; ppid: number; user: string; command: string; cpu_time_ms: number; elapsed_ms: number }[];
}

async function json<T>(host: Host, args: readonly string[]): Promise<T> {
  const result = await host.rkt(args);
  if (result.status !== 0) throw new Error(`${args.join(' ')}: ${result.stderr}`);
  return JSON.parse(result.stdout.toString()) as T;
}

t.test('processors, memory, disks, processes and the cost for the host', async (t) => {
  const host = makeHost('stats');
  t.teardown(host.close);
  const uuidFile = join(host.workDir, 'uuid');
  const busy = 'dd if=/dev/urandom of=/file bs=1M count=16 2>/dev/null; sync; echo written; while [ ! -e /stop ]; do :; done; echo idle; exec sleep 1000';
  const { child, ended } = host.start([
    'run', '--net=user', `--uuid-file-save=${uuidFile}`,
    image, '--name=busy', '--memory=64M', '--user=0', '--exec', '/bin/sh', '--', '-c', busy, '---',
    image, '--name=idle', '--user=1000', '--exec', '/bin/sh', '--', '-c', 'printf "\\033[31m" > /tmp/x; sleep 1001 & exec sleep "1000"',
  ]);
  t.teardown(() => child.kill('SIGKILL'));
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const uuid = await eventually('the pod is ready', () => readyPod(host, uuidFile));
  await eventually('the file is written', () => output.includes('written'));

  const [pod, ...others] = await json<PodStatistics[]>(host, ['stats', '--no-stream', '--format=json']);
  t.strictSame(others, []);
  t.equal(pod?.name, uuid);
  const [loud, quiet] = pod?.apps as [AppStatistics, AppStatistics];
  t.strictSame([loud.name, quiet.name], ['busy', 'idle']);
  t.ok(loud.cpu_percent > 20 && loud.cpu_percent < 150, `a loop of the shell: ${loud.cpu_percent} %`);
  t.ok(quiet.cpu_percent < loud.cpu_percent / 4, `sleeping: ${quiet.cpu_percent} %`);
  t.ok(loud.written_bytes >= 16 * MIB && loud.written_bytes < 64 * MIB, `16 MiB written: ${loud.written_bytes}`);
  t.ok(loud.memory_peak_bytes >= loud.memory_bytes && loud.memory_bytes > 0);
  t.ok(loud.memory_peak_bytes <= 64e6, 'within its limit');
  t.equal(loud.memory_limit_bytes, Math.floor(64e6 / 4096) * 4096);
  t.equal(quiet.memory_limit_bytes, pod?.memory_total_bytes, 'without a limit it is the machine\'s memory');
  t.strictSame([loud.processes, quiet.processes], [1, 2]);
  t.ok((pod?.host_memory_bytes ?? 0) > 16 * MIB, `${pod?.host_memory_bytes}`);

  const table = (await host.rkt(['stats', '--no-stream', uuid.slice(0, 8)])).stdout.toString();
  t.match(table, /^UUID\t+APP\t+CPU %\t+MEM USAGE \/ LIMIT\t+MEM %\t+NET IO\t+BLOCK IO\t+PIDS\t+CPU TIME\t+HOST MEM\n/);
  t.match(table, new RegExp(`^${uuid.slice(0, 8)}\\t+busy\\t+\\d+\\.\\d\\d%\\t+.*MiB / 61MiB\\t.*\\t1\\t+\\d+\\.\\d{3}s\\t+\\d+MiB$`, 'm'));
  t.match(table, /^\t+idle\t/m);

  await host.rkt(['enter', '--app=busy', uuid, '/bin/touch', '/stop']);
  await eventually('the loop has ended', () => output.includes('idle'));
  const before = await json<PodStatistics[]>(host, ['stats', '--no-stream', '--format=json', uuid]);
  t.ok((before[0]?.apps[0]?.cpu_percent ?? 100) < loud.cpu_percent / 4, 'only what is used now counts');

  const all = await json<Top[]>(host, ['top', '--format=json', uuid]);
  t.strictSame(all.map(({ name }) => name), ['busy', 'idle']);
  const [main, sleeper] = all[1]?.processes.sort((a, b) => a.pid - b.pid) ?? [];
  t.match([main, sleeper], [{ user: 'user', command: 'sleep 1000', ppid: 1 }, { user: 'user', command: 'sleep 1001', ppid: main?.pid }]);
  t.ok(all[0]?.processes.every(({ user, elapsed_ms: elapsed, cpu_time_ms: time }) => user === 'root' && elapsed > 0 && time <= elapsed * 2));
  const inside = await host.rkt(['enter', '--app=idle', uuid, '/bin/sh', '-c', `tr '\\0' ' ' < /proc/${main?.pid}/cmdline`]);
  t.equal(inside.stdout.toString(), 'sleep 1000 ', 'the numbers are those of the guest');
  const one = (await host.rkt(['top', uuid, 'idle'])).stdout.toString();
  t.match(one, /^USER\tPID\tPPID\t%CPU\tELAPSED\tTTY\tTIME\tCOMMAND\n(user\t\d+\t\d+\t\d+\.\d\t[\dms.]+\t\?\t[\dms.]+\tsleep 100[01]\n){2}$/);

  // A process may call itself what it likes; the terminal does not hear it.
  const entering = host.start(['enter', '--app=idle', uuid, '/bin/sh', '-c', 'sleep 999; :', '\x1b[31mred\nline']);
  await eventually('it is listed', async () => /999/.test((await host.rkt(['top', uuid, 'idle'])).stdout.toString()));
  const named = (await host.rkt(['top', uuid, 'idle'])).stdout.toString();
  t.match(named, /\t\/bin\/sh -c sleep 999; : \?\[31mred\?line\n/);
  entering.child.kill('SIGTERM');
  await entering.ended;

  for (const [args, message] of [
    [['top', uuid, 'nobody'], /app "nobody" is not in the pod: it has busy, idle/],
    [['top'], /expected a UUID/],
    [['stats', '--no-stream', 'ffffffff-0000'], /no matches found for "ffffffff-0000"/],
    [['stats', '--interval=1ms', uuid], /expected a duration from 100ms on/],
  ] as const) {
    const refused = await host.rkt(args);
    t.equal(refused.status, 254, args.join(' '));
    t.match(refused.stderr, message);
  }

  const stream = host.start(['stats', '--interval=200ms', '--format=json', uuid]);
  let lines = '';
  stream.child.stdout?.on('data', (chunk: Buffer) => (lines += chunk.toString()));
  await eventually('two results', () => lines.split('\n').length > 2);
  await host.rkt(['stop', '--force', uuid]);
  const streamEnd = await stream.ended;
  t.equal(streamEnd.status, 0, `ends with the pod: ${streamEnd.stderr}`);
  t.equal(streamEnd.stderr, '');
  await ended;
  t.match((await host.rkt(['top', uuid])).stderr, /isn't currently running/);
  t.match((await host.rkt(['stats', '--no-stream'])).stdout.toString(), /^UUID\t.*\n$/, 'no pod, no line');
});
