/**
 * What it takes to run /bin/true in an app of a running pod, beside what starting it costs inside of the guest, in one run:
 *   guest      fork, exec and wait of a shell in the guest (busybox's ash in a loop, times from the guest's clock)
 *   enter      the same of a shell on the host, with stage1's enter program, which is what `rkt enter` becomes
 *   rkt enter  the same with the command line before it, which is Node's start
 * With a TPM each `enter` is measured into it before it runs; without, not.
 *
 *   node bench/exec.ts [--rounds=15]
 */
import { execFileSync, spawn } from 'node:child_process';
import { lstatSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { median, round2, timed } from './statistics.ts';
import { busyboxImage } from '../tests/helpers/busybox.ts';

const ROOT = join(import.meta.dirname, '..');
const RKT = join(ROOT, 'bin/rkt');
/** Enough for a clock of hundredths of a second, which is what a shell finds in /proc/uptime. */
const LOOPS = 50;
const NOW = 'read up rest < /proc/uptime; up=$((${up%.*} * 100 + 1${up#*.} - 100))';
/** Where the host puts a guest's memory is worth more than what is measured here: one pod says little. */
const PODS = 5;
const HOST_LOOPS = { enter: 20, rktEnter: 3 };
const GUEST_LOOP = `${NOW}; begin=$up; i=0; while [ $i -lt ${LOOPS} ]; do /bin/true; i=$((i+1)); done; ${NOW}; echo $((up-begin))`;

const rounds = Number(process.argv.find((argument) => argument.startsWith('--rounds='))?.slice('--rounds='.length) ?? 15);
if (!(rounds >= 2 * PODS)) throw new Error(`--rounds: at least ${2 * PODS}, two of each of ${PODS} pods: a median of less says little`);

type Tpm = 'on' | 'off';

interface Times {
  guest: number;
  enter: number;
  rktEnter: number;
}

const work = mkdtempSync(join(tmpdir(), 'rkt-bench-exec-'));
try {
  const all: Record<Tpm, Times[]> = { off: [], on: [] };
  for (let pod = 0; pod < PODS; pod++) {
    for (const tpm of ['off', 'on'] as const) all[tpm].push(...measurePod(tpm, pod));
  }
  const report = { pods: PODS, rounds: all.on.length, withoutTpm: summaryOf(all.off), withTpm: summaryOf(all.on) };
  mkdirSync(join(ROOT, 'bench/out'), { recursive: true });
  writeFileSync(join(ROOT, 'bench/out/exec.json'), `${JSON.stringify(report, null, 2)}\n`);
  console.log(JSON.stringify(report, null, 2));
} finally {
  rmSync(work, { recursive: true, force: true });
}

function summaryOf(all: readonly Times[]): { medianMs: Times; ratios: { enterToGuest: number; rktEnterToGuest: number } } {
  const medianMs = { guest: round2(median(all.map(({ guest }) => guest))), enter: round2(median(all.map((times) => times.enter))), rktEnter: round2(median(all.map(({ rktEnter }) => rktEnter))) };
  // Of each round by itself: other work on the machine then falls on both.
  const ratio = (name: 'enter' | 'rktEnter'): number => round2(median(all.map((times) => times[name] / times.guest)));
  return { medianMs, ratios: { enterToGuest: ratio('enter'), rktEnterToGuest: ratio('rktEnter') } };
}

function measurePod(tpm: Tpm, pod: number): Times[] {
  const dataDir = join(work, `${tpm}-${pod}`);
  const child = spawn(RKT, [`--dir=${dataDir}`, 'run', '--net=none', `--tpm=${tpm}`, busyboxImage(), '--name=app', '--exec', '/bin/sleep', '--', '6000'], { stdio: 'ignore' });
  try {
    const uuid = waitForPod(dataDir);
    const podDir = join(dataDir, 'pods/run', uuid);
    const pid = readFileSync(join(podDir, 'pid'), 'utf8').trim();
    const enter = ['stage1/rootfs/enter', `--pid=${pid}`, '--appname=app', '--'];
    const inGuest = (...command: string[]): string => execFileSync(enter[0]!, [...enter.slice(1), ...command], { cwd: podDir, stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8' });
    const perLoop = (loops: number, ...command: string[]): number =>
      timed(() => execFileSync('/bin/sh', ['-c', `i=0; while [ $i -lt ${loops} ]; do "$@"; i=$((i+1)); done`, 'sh', ...command], { cwd: podDir, stdio: ['ignore', 'ignore', 'inherit'] })) / loops;
    const round = (): Times => ({
      guest: (Number(inGuest('/bin/sh', '-c', GUEST_LOOP)) * 10) / LOOPS,
      enter: perLoop(HOST_LOOPS.enter, ...enter, '/bin/true'),
      rktEnter: perLoop(HOST_LOOPS.rktEnter, RKT, `--dir=${dataDir}`, 'enter', uuid, '/bin/true'),
    });
    round(); // fills caches, on both sides
    return Array.from({ length: Math.ceil(rounds / PODS) }, round);
  } finally {
    child.kill('SIGKILL');
  }
}

function waitForPod(dataDir: string): string {
  const deadline = performance.now() + 60_000;
  for (;;) {
    try {
      const [uuid] = readdirSync(join(dataDir, 'pods/run'));
      if (uuid !== undefined && lstatSync(join(dataDir, 'pods/run', uuid, 'supervisor-status'), { throwIfNoEntry: false }) !== undefined) return uuid;
    } catch {
      // not there yet
    }
    if (performance.now() > deadline) throw new Error('no pod came up within 60 s');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
  }
}
