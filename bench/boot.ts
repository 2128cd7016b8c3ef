/**
 * Wall time of `rkt run` of /bin/true, split into phases, beside its peers, interleaved in one run:
 *   (a) Debian's cloud kernel with a busybox initramfs in QEMU, as one would start it by hand
 *   (b) our kernel with an init that does nothing and no devices: the floor
 *   (c) `podman run` and `runc run` of the same root file system, where installed
 * Without a TPM: what that adds is bench/attest.ts's question.
 * And the memory (PSS) of what runs for a pod. Medians; machines here are noisy, so trust the ratios.
 *
 *   node bench/boot.ts [--rounds=9]
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { lstatSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeHandBuiltGuest, makeFloorGuest } from './guests.ts';
import { median, round2, timed } from './statistics.ts';
import { busyboxImage, busyboxTree } from '../tests/helpers/busybox.ts';

const ROOT = join(import.meta.dirname, '..');
const RKT = join(ROOT, 'bin/rkt');
const PHASES = ['stage0', 'vmmStart', 'kernel', 'agent', 'app', 'teardown', 'total'] as const;
type Phases = Record<(typeof PHASES)[number], number>;

interface Contender {
  name: 'rkt' | 'debianByHand' | 'floor' | 'podman' | 'runc';
  /** One complete run; returns wall time in ms. */
  run(): number;
}

const rounds = Number(process.argv.find((argument) => argument.startsWith('--rounds='))?.slice('--rounds='.length) ?? 9);
if (!(rounds >= 7)) throw new Error('--rounds: at least 7, a median of less says little');

const work = mkdtempSync(join(tmpdir(), 'rkt-bench-'));
try {
  await main();
} finally {
  rmSync(work, { recursive: true, force: true });
}

async function main(): Promise<void> {
  const image = busyboxImage();
  const dataDir = join(work, 'data');
  const timingFile = join(work, 'timing.json');
  const phases: Phases[] = [];
  const rkt = (): number => {
    const wallMs = timed(() => execFileSync(RKT, [`--dir=${dataDir}`, 'run', '--net=none', '--tpm=off', '--timing', image, '--exec', '/bin/true'], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, RKT_TIMING_FILE: timingFile },
    }));
    phases.push(JSON.parse(readFileSync(timingFile, 'utf8')) as Phases);
    return wallMs;
  };
  const contenders: Contender[] = [
    { name: 'rkt', run: rkt },
    { name: 'debianByHand', run: await makeHandBuiltGuest(work) },
    { name: 'floor', run: await makeFloorGuest(work) },
    ...containerContenders(),
  ];

  // The first run of each fills caches (the rendered image, the page cache, the accelerator's verdict) and does not count.
  for (const contender of contenders) contender.run();
  phases.length = 0;
  const wallMs = new Map<string, number[]>(contenders.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const contender of contenders) wallMs.get(contender.name)?.push(contender.run());
    process.stderr.write(`\rround ${round + 1} of ${rounds}`);
  }
  process.stderr.write('\n');

  const pssKiB = memoryOfOnePod(image, dataDir);
  const ours = median(wallMs.get('rkt') ?? []);
  const ratio = (name: Contender['name']): number | null => {
    const other = wallMs.get(name);
    return other === undefined ? null : round2(ours / median(other));
  };
  const report = {
    rounds,
    phasesMs: Object.fromEntries(PHASES.map((phase) => [phase, round2(median(phases.map((run) => run[phase])))])),
    wallMs: Object.fromEntries([...wallMs].map(([name, runs]) => [name, { median: round2(median(runs)), min: round2(Math.min(...runs)) }])),
    ratios: { vsDebianByHand: ratio('debianByHand'), vsFloor: ratio('floor'), vsPodman: ratio('podman'), vsRunc: ratio('runc') },
    pssKiB,
  };
  mkdirSync(join(ROOT, 'bench/out'), { recursive: true });
  writeFileSync(join(ROOT, 'bench/out/boot.json'), `${JSON.stringify(report, null, 2)}\n`);
  print(report);
}

function containerContenders(): Contender[] {
  const contenders: Contender[] = [];
  const tree = busyboxTree(join(work, 'tree'));
  // Limits no higher than the caller's own: a container engine must not fail on raising them.
  const podman = ['--runtime=runc', 'run', '--rm', '--network=none', '--ulimit=nofile=1024:1024', '--ulimit=nproc=1024:1024', '--rootfs', tree, '/bin/true'];
  if (works('podman', podman)) contenders.push({ name: 'podman', run: () => timed(() => execFileSync('podman', podman, { stdio: 'ignore' })) });
  else console.error('podman: not installed or does not work here; left out');

  const bundle = join(work, 'bundle');
  mkdirSync(bundle);
  busyboxTree(join(bundle, 'rootfs'));
  if (works('runc', ['spec', '--bundle', bundle])) {
    const config = JSON.parse(readFileSync(join(bundle, 'config.json'), 'utf8')) as { process: { terminal: boolean; args: string[] } };
    config.process.terminal = false;
    config.process.args = ['/bin/true'];
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(config));
    const runc = ['run', '--bundle', bundle, `rkt-bench-${process.pid}`];
    if (works('runc', runc)) contenders.push({ name: 'runc', run: () => timed(() => execFileSync('runc', runc, { stdio: 'ignore' })) });
  } else console.error('runc: not installed; left out');
  return contenders;
}

function works(command: string, args: readonly string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0;
}

/** PSS of the monitor and of QEMU while a pod sleeps. */
function memoryOfOnePod(image: string, dataDir: string): { monitor: number; qemu: number } {
  const child = spawn(RKT, [`--dir=${dataDir}`, 'run', '--net=none', image, '--exec', '/bin/sleep', '--', '600'], { stdio: 'ignore' });
  try {
    const pod = waitFor(() => runningPod(dataDir));
    const { qemuPid } = JSON.parse(readFileSync(join(pod, 'vm.json'), 'utf8')) as { qemuPid: number };
    return { monitor: pssKiBOf(Number(readFileSync(join(pod, 'pid'), 'utf8'))), qemu: pssKiBOf(qemuPid) };
  } finally {
    child.kill('SIGKILL');
  }
}

/** The pod that is up and has not ended (earlier rounds' pods are still listed beside it). */
function runningPod(dataDir: string): string | undefined {
  return readdirSync(join(dataDir, 'pods/run'))
    .map((uuid) => join(dataDir, 'pods/run', uuid))
    .find((pod) => lstatSync(join(pod, 'supervisor-status'), { throwIfNoEntry: false }) !== undefined && readdirSync(join(pod, 'status')).every((name) => /-(created|started)$/.test(name)));
}

function waitFor<T>(look: () => T | undefined): T {
  const deadline = performance.now() + 60_000;
  for (;;) {
    try {
      const found = look();
      if (found !== undefined) return found;
    } catch {
      // not there yet
    }
    if (performance.now() > deadline) throw new Error('no pod came up within 60 s');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
  }
}

function pssKiBOf(pid: number): number {
  const match = /^Pss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'));
  return Number(match?.[1]);
}

function print(report: { phasesMs: Record<string, number>; wallMs: Record<string, { median: number; min: number }>; ratios: Record<string, number | null>; pssKiB: { monitor: number; qemu: number } }): void {
  console.log('phase         ms');
  for (const [phase, ms] of Object.entries(report.phasesMs)) console.log(`${phase.padEnd(10)} ${ms.toFixed(0).padStart(6)}`);
  console.log('\nrun              median ms   min ms');
  for (const [name, { median: middle, min }] of Object.entries(report.wallMs)) console.log(`${name.padEnd(14)} ${middle.toFixed(0).padStart(11)} ${min.toFixed(0).padStart(8)}`);
  console.log('\nrkt against      ratio');
  for (const [name, value] of Object.entries(report.ratios)) console.log(`${name.padEnd(14)} ${value === null ? '      –' : value.toFixed(2).padStart(7)}`);
  console.log(`\nPSS: monitor ${report.pssKiB.monitor} KiB, QEMU ${report.pssKiB.qemu} KiB`);
}
