/** The monitor of a running pod: how it confines QEMU, what it leaves to others, what it says when a pod breaks. */
import { execFileSync } from 'node:child_process';
import { connect } from 'node:net';
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { busyboxImage } from './helpers/busybox.ts';
import { eventually, makeHost, PROGRAM, type Host } from './helpers/rkt.ts';

const image = busyboxImage();
const MONITOR = join(import.meta.dirname, '../dist/stage1-kvm/init');
const LIMIT_PSS_KIB = 4096;
const LIMIT_BINARY_BYTES = 1 << 20;

interface RunningPod {
  directory: string;
  monitorPid: number;
  vm: { qemuPid: number; accelerator: string; machine: string; cpus: number; memoryMiB: number; kernelRelease: string };
  ended: ReturnType<Host['start']>['ended'];
  kill(signal: NodeJS.Signals): void;
}

async function startPod(host: Host, args: readonly string[]): Promise<RunningPod> {
  const { child, ended } = host.start(['run', '--net=none', image, ...args]);
  const directory = await eventually('the pod is ready', () => {
    const run = join(host.dataDir, 'pods/run');
    return existsSync(run) ? readdirSync(run).map((uuid) => join(run, uuid)).find((path) => isLink(join(path, 'supervisor-status'))) : undefined;
  });
  return {
    directory, ended, kill: (signal) => child.kill(signal),
    monitorPid: Number(readFileSync(join(directory, 'pid'), 'utf8')),
    vm: JSON.parse(readFileSync(join(directory, 'vm.json'), 'utf8')) as RunningPod['vm'],
  };
}

function isLink(path: string): boolean {
  try {
    return readlinkSync(path) !== '';
  } catch {
    return false;
  }
}

const statusField = (pid: number, field: string): string => new RegExp(`^${field}:[ \\t]*(.*)$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '';
const pssKib = (pid: number): number => Number(/^Pss:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1]);

t.test('QEMU runs without privileges, the monitor with little memory', async (t) => {
  const host = makeHost('monitor-jail');
  t.teardown(host.close);
  const pod = await startPod(host, ['--exec', '/bin/sleep', '--', '600']);
  const { qemuPid } = pod.vm;
  const [realUid, ...otherUids] = statusField(qemuPid, 'Uid').split('\t').map(Number);
  t.ok(realUid! >= 0x50000000, `a user of its own (${realUid})`);
  t.ok(otherUids.every((uid) => uid === realUid));
  t.equal(statusField(qemuPid, 'CapEff'), '0000000000000000');
  t.equal(statusField(qemuPid, 'CapPrm'), '0000000000000000');
  t.equal(statusField(qemuPid, 'NoNewPrivs'), '1');
  t.equal(statusField(qemuPid, 'Seccomp'), '2');
  t.equal(statusField(qemuPid, 'Groups').trim(), pod.vm.accelerator === 'kvm' ? String(statSync('/dev/kvm').gid) : '');
  t.equal(readFileSync(`/proc/${qemuPid}/environ`, 'utf8'), '', 'an empty environment');
  for (const namespace of ['net', 'pid', 'ipc', 'uts']) t.not(readlinkSync(`/proc/${qemuPid}/ns/${namespace}`), readlinkSync(`/proc/self/ns/${namespace}`), `its own ${namespace} namespace`);
  const foreign = readdirSync(`/proc/${qemuPid}/fd`).map((fd) => readlinkSync(`/proc/${qemuPid}/fd/${fd}`)).filter((target) => target.startsWith('/') && !target.startsWith('/dev/') && !/^\/memfd:|^\/#\d+ \(deleted\)$/.test(target));
  t.ok(foreign.every((target) => target.startsWith(host.dataDir) || target === '/usr/share/qemu/qboot.rom'), `only files of the pod, and the firmware: ${foreign.join(' ')}`);
  t.ok(pssKib(pod.monitorPid) <= LIMIT_PSS_KIB, `monitor: ${pssKib(pod.monitorPid)} KiB`);
  t.ok(statSync(MONITOR).size <= LIMIT_BINARY_BYTES, `program: ${statSync(MONITOR).size} bytes`);
  t.match(pod.vm, { memoryMiB: 512, cpus: 1, kernelRelease: /^\d+\./ });
  pod.kill('SIGKILL');
  await pod.ended;
});

t.test('vsock.sock: other programs of the host reach the guest', async (t) => {
  const host = makeHost('monitor-vsock');
  t.teardown(host.close);
  const pod = await startPod(host, ['--exec', '/bin/sleep', '--', '600']);
  const path = join(pod.directory, 'vsock.sock');
  t.equal(statSync(path).mode & 0o777, 0o600, 'for root alone');
  const ask = (request: string): Promise<string> => new Promise((resolve) => {
    const socket = connect(path);
    let answer = '';
    socket.on('data', (chunk: Buffer) => {
      answer += chunk.toString('latin1');
      socket.destroy();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(answer));
    socket.write(request);
  });
  t.match(await ask('CONNECT 1024\n'), /^OK \d+\n/);
  for (const request of ['CONNECT 9\n', 'CONNECT\n', 'CONNECT x\n', 'CONNECT 99999999999\n', 'GET / HTTP/1.0\r\n\r\n', `${'x'.repeat(100)}\n`]) t.equal(await ask(request), '', JSON.stringify(request.slice(0, 20)));

  const silent = Array.from({ length: 100 }, () => connect(path).on('error', () => undefined));
  t.match(await ask('CONNECT 1024\n').catch(() => ''), /^(OK \d+\n.*)?$/s, 'many who say nothing do not stop the monitor');
  for (const socket of silent) socket.destroy();
  await eventually('the monitor takes connections again', async () => /^OK/.test(await ask('CONNECT 1024\n')));

  pod.kill('SIGTERM');
  const result = await pod.ended;
  t.equal(result.status, 143, result.stderr);
  t.notOk(existsSync(path), 'the socket goes with the pod');
});

t.test('a virtual machine that dies is an error of stage1, with what it said last', async (t) => {
  const host = makeHost('monitor-dies');
  t.teardown(host.close);
  const pod = await startPod(host, ['--exec', '/bin/sleep', '--', '600']);
  process.kill(pod.vm.qemuPid, 'SIGKILL');
  const result = await pod.ended;
  t.equal(result.status, 254);
  t.match(result.stderr, /^stage1: QEMU was killed by signal 9 while the pod was running/m);
  t.notOk(existsSync(join(pod.directory, 'vsock.sock')));
});

t.test('the reader of the output goes away', async (t) => {
  const host = makeHost('monitor-epipe');
  t.teardown(host.close);
  const { child, ended } = host.start(['run', '--net=none', image, '--exec', '/bin/sh', '--', '-c', 'yes; exit 4']);
  await new Promise((resolve) => child.stdout!.once('data', resolve));
  child.stdout!.destroy();
  const result = await ended;
  t.equal(result.status, 4, 'the app gets its SIGPIPE, the pod its status');
});

t.test('a terminal', async (t) => {
  const host = makeHost('monitor-tty');
  t.teardown(host.close);
  const command = `stty rows 33 cols 99; ${PROGRAM} --dir=${host.dataDir} run --net=none --interactive ${image} --exec /bin/sh -- -c 'stty size; tty; exit 6'; echo status $?; stty -a`;
  const output = execFileSync('script', ['-qec', command, '/dev/null'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], timeout: 120_000 });
  t.match(output, /33 99\r\n/);
  t.match(output, /\/dev\/pts\/\d+\r\n/);
  t.match(output, /status 6\r\n/);
  t.match(output, / icanon .* echo /s, 'the terminal is as it was');
});

t.test('where the time went', async (t) => {
  const host = makeHost('monitor-timing');
  t.teardown(host.close);
  const file = join(host.workDir, 'timing.json');
  const result = await host.rkt(['run', '--net=none', '--timing', image, '--exec', '/bin/true'], { env: { RKT_TIMING_FILE: file } });
  t.equal(result.status, 0, result.stderr);
  const { total, ...phases } = JSON.parse(readFileSync(file, 'utf8')) as Record<string, number>;
  t.same(Object.keys(phases), ['stage0', 'vmmStart', 'kernel', 'agent', 'app', 'teardown']);
  t.ok(Object.values(phases).every((ms) => ms >= 0), JSON.stringify(phases));
  for (const phase of ['stage0', 'kernel', 'agent', 'app', 'teardown', 'total']) t.match(result.stderr, new RegExp(phase));
  t.ok(Math.abs(Object.values(phases).reduce((sum, ms) => sum + ms, 0) - total!) < 1, 'the phases add up');
  t.match(result.stderr, /^total +[\d.]+ ms$/m);
});

t.test('which accelerator, and why', async (t) => {
  rmSync('/run/rkt/accelerator.json', { force: true });
  const report = (): { accelerator: string; reasons: string[]; bootId: string } => JSON.parse(execFileSync(MONITOR, ['accel-report'], { encoding: 'utf8' })) as ReturnType<typeof report>;
  const measured = report();
  t.ok(['kvm', 'tcg'].includes(measured.accelerator));
  t.equal(measured.reasons.length > 0, measured.accelerator === 'tcg', `a reason when it is not KVM: ${measured.reasons.join('; ')}`);
  t.equal(measured.bootId, readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim());
  t.same(report(), measured, 'the answer is kept');
});

t.test('entrypoints refuse what they do not know', async (t) => {
  const fails = (args: string[]): string => {
    try {
      execFileSync(MONITOR, args, { stdio: 'pipe', cwd: '/tmp' });
    } catch (error) {
      t.equal((error as { status: number }).status, 254);
      return String((error as { stderr: Buffer }).stderr);
    }
    return t.fail(`${args.join(' ')} succeeded`) as unknown as string;
  };
  t.match(fails(['--what', '6733c9f0-8a6a-4b7a-a6ef-4be5e1a0a1a3']), /^stage1: unknown flag --what\n/);
  t.match(fails(['6733c9f0-8a6a-4b7a-a6ef-4be5e1a0a1a3']), /^stage1: .*pod: ENOENT\n/);
});
