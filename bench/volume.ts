/**
 * Throughput of a volume of this host (virtio-fs) beside that of the pod's own disk (virtio-blk, ext4), in one run of one pod,
 * alternating: one large file written and read, many small ones made, read and removed. The guest's cache is emptied before
 * each reading; this host's is not, for either. Medians; machines here are noisy, so trust the ratios.
 *
 *   node bench/volume.ts [--rounds=5]
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { busyboxImage } from '../tests/helpers/busybox.ts';
import { median, round2 } from './statistics.ts';

const ROOT = join(import.meta.dirname, '..');
const LARGE_MIB = 256;
const SMALL_FILES = 500;
const STEPS = ['write', 'read', 'create', 'list', 'readSmall', 'remove'] as const;
const PLACES = ['volume', 'disk'] as const;
type Step = (typeof STEPS)[number];
type Place = (typeof PLACES)[number];

const rounds = Number(process.argv.find((argument) => argument.startsWith('--rounds='))?.slice('--rounds='.length) ?? 5);
if (!(rounds >= 3)) throw new Error('--rounds: at least 3, a median of less says little');

const work = mkdtempSync(join(tmpdir(), 'rkt-bench-volume-'));
try {
  main();
} finally {
  rmSync(work, { recursive: true, force: true });
}

function main(): void {
  const source = join(work, 'source');
  mkdirSync(source);
  const output = execFileSync(join(ROOT, 'bin/rkt'), [
    `--dir=${join(work, 'data')}`, '--insecure-options=all-run', 'run', '--net=none', '--tpm=off', '--mem=1G', `--volume=volume,kind=host,source=${source}`, '--volume=disk,kind=empty',
    busyboxImage(), '--mount=volume=volume,target=/volume', '--mount=volume=disk,target=/disk', '--exec', '/bin/sh', '--', '-c', guestScript(),
  ], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], timeout: 3_600_000 });
  const seconds = parse(output);
  const of = (place: Place, step: Step): number => median(seconds.get(`${place} ${step}`) ?? []);
  const report = {
    rounds,
    largeMiB: LARGE_MIB,
    smallFiles: SMALL_FILES,
    seconds: Object.fromEntries(PLACES.map((place) => [place, Object.fromEntries(STEPS.map((step) => [step, round2(of(place, step))]))])),
    /** Speed of the volume, where the disk's is 1. */
    ratios: Object.fromEntries(STEPS.map((step) => [step, round2(of('disk', step) / of('volume', step))])),
  };
  mkdirSync(join(ROOT, 'bench/out'), { recursive: true });
  writeFileSync(join(ROOT, 'bench/out/volume.json'), `${JSON.stringify(report, null, 2)}\n`);
  console.log('step        volume s    disk s    volume : disk (speed)');
  for (const step of STEPS) console.log(`${step.padEnd(10)} ${of('volume', step).toFixed(2).padStart(9)} ${of('disk', step).toFixed(2).padStart(9)} ${round2(of('disk', step) / of('volume', step)).toFixed(2).padStart(10)}`);
}

/** Prints `PLACE STEP SECONDS` lines; the shell's own commands where a process more would count. */
function guestScript(): string {
  return `
now() { read up rest < /proc/uptime; }
measure() { now; begin=$up; "$3" "$1"; now; echo "$1 $2 $begin $up"; }
forget() { sync; echo 3 > /proc/sys/vm/drop_caches; }
write() { dd if=/dev/zero of=/$1/large bs=1M count=${LARGE_MIB} conv=fsync 2>/dev/null; }
read_large() { dd if=/$1/large of=/dev/null bs=1M 2>/dev/null; }
create() { mkdir /$1/small; i=0; while [ $i -lt ${SMALL_FILES} ]; do echo "some text for file $i" > /$1/small/$i; i=$((i+1)); done; sync; }
list() { ls -l /$1/small > /dev/null; }
read_small() { cat /$1/small/* > /dev/null; }
remove() { rm -r /$1/small /$1/large; sync; }
round=0
while [ $round -lt ${rounds + 1} ]; do
  if [ $((round % 2)) = 0 ]; then places="volume disk"; else places="disk volume"; fi
  for place in $places; do measure $place write write; done
  forget; for place in $places; do measure $place read read_large; done
  for place in $places; do measure $place create create; done
  forget; for place in $places; do measure $place list list; done
  forget; for place in $places; do measure $place readSmall read_small; done
  for place in $places; do measure $place remove remove; done
  round=$((round+1))
done`;
}

/** The first round fills caches and does not count. */
function parse(output: string): Map<string, number[]> {
  const seconds = new Map<string, number[]>();
  for (const line of output.trim().split('\n')) {
    const [place = '', step = '', begin, end] = line.split(' ');
    const key = `${place} ${step}`;
    seconds.set(key, [...(seconds.get(key) ?? []), Number(end) - Number(begin)]);
  }
  return new Map([...seconds].map(([key, list]) => [key, list.slice(1)]));
}
