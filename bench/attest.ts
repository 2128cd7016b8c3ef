/**
 * What measuring costs: wall time of `rkt run` of /bin/true with a TPM beside the same without one, interleaved in one run, and
 * the CPU time of `rkt attest predict` and `verify`. Medians; machines here are noisy, so trust the ratio.
 *
 *   node bench/attest.ts [--rounds=11]
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseReference, verify } from '../src/attest/index.ts';
import { busyboxImage } from '../tests/helpers/busybox.ts';
import { median, round2, timed } from './statistics.ts';

const ROOT = join(import.meta.dirname, '..');
const RKT = join(ROOT, 'bin/rkt');
const COMMAND_RUNS = 20;
const NONCE = '00112233445566778899aabbccddeeff';
/** USER_HZ: what /proc counts in. */
const MS_PER_TICK = 10;

const rounds = Number(process.argv.find((argument) => argument.startsWith('--rounds='))?.slice('--rounds='.length) ?? 11);
if (!(rounds >= 7)) throw new Error('--rounds: at least 7, a median of less says little');

const work = mkdtempSync(join(tmpdir(), 'rkt-bench-attest-'));
const image = busyboxImage();
try {
  await main();
} finally {
  rmSync(work, { recursive: true, force: true });
}

async function main(): Promise<void> {
  const run = (tpm: 'on' | 'off'): number => timed(() => rkt('run', '--net=none', `--tpm=${tpm}`, image, '--exec=/bin/true'));
  const wallMs: Record<'on' | 'off', number[]> = { on: [], off: [] };
  // The first of each fills caches: image, digests of kernel and VMM, state of a new TPM.
  run('on');
  run('off');
  for (let round = 0; round < rounds; round++) {
    // Neither is always the one that comes second.
    for (const tpm of round % 2 === 0 ? (['on', 'off'] as const) : (['off', 'on'] as const)) wallMs[tpm].push(run(tpm));
    process.stderr.write(`\rround ${round + 1} of ${rounds}`);
  }
  process.stderr.write('\n');
  const [onMs, offMs] = [median(wallMs.on), median(wallMs.off)];
  const report = { rounds, runMs: { tpmOn: round2(onMs), tpmOff: round2(offMs), ratio: round2(onMs / offMs) }, cpuMs: await commandsCpuMs() };
  mkdirSync(join(ROOT, 'bench/out'), { recursive: true });
  writeFileSync(join(ROOT, 'bench/out/attest.json'), `${JSON.stringify(report, null, 2)}\n`);
  console.log(`rkt run of /bin/true, median ms: --tpm=on ${report.runMs.tpmOn}, --tpm=off ${report.runMs.tpmOff}, ratio ${report.runMs.ratio}`);
  console.log(`CPU ms: rkt attest verify ${report.cpuMs.verifyCommand}, of which the verifier itself ${report.cpuMs.verifier}; rkt attest predict ${report.cpuMs.predictCommand}`);
}

/** Verifying as a command, start of Node included, and as a library. */
async function commandsCpuMs(): Promise<{ verifyCommand: number; verifier: number; predictCommand: number }> {
  const pod = ['--net=none', image, '--exec=/bin/sleep', '--', '600'];
  const [reference, evidence, uuidFile] = ['reference.json', 'evidence.json', 'uuid'].map((name) => join(work, name)) as [string, string, string];
  writeFileSync(reference, rkt('attest', 'predict', ...pod));
  const child = spawn(RKT, [`--dir=${join(work, 'data')}`, 'run', `--uuid-file-save=${uuidFile}`, ...pod], { stdio: 'ignore' });
  try {
    const uuid = await readWhenThere(uuidFile);
    rkt('status', '--wait-ready=60s', uuid);
    writeFileSync(evidence, rkt('attest', 'quote', `--nonce=${NONCE}`, uuid));
  } finally {
    child.kill('SIGKILL');
  }
  const caPem = readFileSync(rkt('attest', 'init').toString().trim(), 'utf8');
  const request = { evidence: readFileSync(evidence, 'utf8'), nonceHex: NONCE, caPem, references: [parseReference(readFileSync(reference, 'utf8'))] };
  const verifyOnce = async (): Promise<void> => {
    if (!(await verify(request)).ok) throw new Error('the evidence is not accepted');
  };
  await verifyOnce();
  const before = process.cpuUsage();
  for (let i = 0; i < COMMAND_RUNS; i++) await verifyOnce();
  const { user, system } = process.cpuUsage(before);
  return {
    verifyCommand: cpuMsOfCommand('attest', 'verify', evidence, `--nonce=${NONCE}`, `--reference=${reference}`),
    verifier: round2((user + system) / 1000 / COMMAND_RUNS),
    predictCommand: cpuMsOfCommand('attest', 'predict', ...pod),
  };
}

async function readWhenThere(path: string): Promise<string> {
  for (const deadline = performance.now() + 60_000; performance.now() < deadline; await new Promise((resolve) => setTimeout(resolve, 20))) {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      // not there yet
    }
  }
  throw new Error('no pod was made within 60 s');
}

function rkt(...args: readonly string[]): Buffer {
  return execFileSync(RKT, [`--dir=${join(work, 'data')}`, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
}

function cpuMsOfCommand(...args: readonly string[]): number {
  const before = childrenCpuTicks();
  for (let i = 0; i < COMMAND_RUNS; i++) rkt(...args);
  return round2(((childrenCpuTicks() - before) * MS_PER_TICK) / COMMAND_RUNS);
}

/** cutime and cstime of proc(5): all of the processes that were waited for. */
function childrenCpuTicks(): number {
  const fields = readFileSync('/proc/self/stat', 'utf8').split(') ')[1]?.split(' ') ?? [];
  return Number(fields[13]) + Number(fields[14]);
}
