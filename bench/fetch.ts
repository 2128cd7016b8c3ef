/**
 * An image of 500 MB from a local registry to something that can be run, beside its peers, interleaved in one run:
 *   rkt     `rkt fetch`: fetched, every digest checked, one disk with its verity tree
 *   peers   `skopeo copy` to an OCI layout and `umoci unpack` of it
 * Wall time, CPU time and peak memory; medians. Machines are noisy, so trust the ratios.
 *
 *   node bench/fetch.ts [--rounds=3] [--size-mb=500]
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const ROOT = join(import.meta.dirname, '..');
const PORT = 5077;
const LAYERS = 5;
/** Real files: libraries, programs, text, in the proportions an image has them. */
const SOURCES = ['/usr/lib/x86_64-linux-gnu', '/usr/bin', '/usr/share', '/usr/lib'];
const FILE_MAX_BYTES = 20e6;

function option(name: string, fallback: number): number {
  return Number(process.argv.find((argument) => argument.startsWith(`--${name}=`))?.split('=')[1] ?? fallback);
}

const rounds = option('rounds', 3);
const sizeBytes = option('size-mb', 500) * 1e6;
const work = mkdtempSync(join(tmpdir(), 'rkt-bench-fetch-'));

interface Cost {
  wallSeconds: number;
  cpuSeconds: number;
  peakMib: number;
}

try {
  await main();
} finally {
  rmSync(work, { recursive: true, force: true });
}

async function main(): Promise<void> {
  const registry = await startRegistry();
  try {
    makeImage();
    const rkt: Cost[] = [];
    const peers: Cost[] = [];
    // The first round fills the page cache and does not count.
    for (let round = 0; round <= rounds; round++) {
      const [ours, theirs] = [fetchWithRkt(), fetchWithPeers()];
      if (round > 0) {
        rkt.push(ours);
        peers.push(theirs);
      }
      process.stderr.write(`\rround ${round} of ${rounds}`);
    }
    process.stderr.write('\n');
    const [ours, theirs] = [median(rkt), median(peers)];
    const report = { imageMb: sizeBytes / 1e6, rounds, rkt: ours, skopeoAndUmoci: theirs, ratios: { wall: round2(ours.wallSeconds / theirs.wallSeconds), cpu: round2(ours.cpuSeconds / theirs.cpuSeconds) } };
    mkdirSync(join(ROOT, 'bench/out'), { recursive: true });
    writeFileSync(join(ROOT, 'bench/out/fetch.json'), `${JSON.stringify(report, undefined, 2)}\n`);
    console.log(JSON.stringify(report, undefined, 2));
  } finally {
    registry.kill();
  }
}

async function startRegistry(): Promise<ReturnType<typeof spawn>> {
  const config = join(work, 'registry.yml');
  writeFileSync(config, JSON.stringify({ version: '0.1', log: { level: 'error', accesslog: { disabled: true } }, storage: { filesystem: { rootdirectory: join(work, 'registry') } }, http: { addr: `127.0.0.1:${PORT}` } }));
  const child = spawn('docker-registry', ['serve', config], { stdio: 'ignore' });
  for (let attempt = 0; attempt < 100; attempt++) {
    if (await answers(PORT)) return child;
    await sleep(50);
  }
  child.kill();
  throw new Error('docker-registry does not start');
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.end();
      resolve(true);
    }).on('error', () => resolve(false));
  });
}

/** Layers of equal size, gzip as umoci writes it, pushed by skopeo. */
function makeImage(): void {
  const run = (program: string, ...args: string[]): void => void execFileSync(program, args, { cwd: work, stdio: ['ignore', 'ignore', 'pipe'] });
  run('umoci', 'init', '--layout', 'image');
  run('umoci', 'new', '--image', 'image:v1');
  const files = filesOf(SOURCES);
  for (let layer = 0; layer < LAYERS; layer++) {
    const names: string[] = [];
    for (let bytes = 0; bytes < sizeBytes / LAYERS; ) {
      const next = files.next();
      if (next.done === true) throw new Error('this machine has too few files for an image of that size');
      names.push(next.value.path.slice(1));
      bytes += next.value.sizeBytes;
    }
    writeFileSync(join(work, 'names'), names.join('\n'));
    run('tar', '-C', '/', '--owner=0', '--group=0', '-cf', 'layer.tar', '-T', 'names');
    run('umoci', 'raw', 'add-layer', '--image', 'image:v1', 'layer.tar');
  }
  run('skopeo', '--insecure-policy', 'copy', '-q', '--dest-tls-verify=false', 'oci:image:v1', `docker://127.0.0.1:${PORT}/image:v1`);
}

function* filesOf(directories: readonly string[]): Generator<{ path: string; sizeBytes: number }> {
  const seen = new Set<string>();
  for (const directory of directories) {
    for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true }).sort((a, b) => (a.parentPath + a.name < b.parentPath + b.name ? -1 : 1))) {
      const path = join(entry.parentPath, entry.name);
      if (!entry.isFile() || seen.has(path)) continue;
      seen.add(path);
      const { size } = statSync(path);
      if (size <= FILE_MAX_BYTES) yield { path, sizeBytes: size };
    }
  }
}

function fetchWithRkt(): Cost {
  rmSync(join(work, 'data'), { recursive: true, force: true });
  return measured([join(ROOT, 'bin/rkt'), `--dir=${join(work, 'data')}`, '--insecure-options=http,image', 'fetch', `docker://127.0.0.1:${PORT}/image:v1`]);
}

function fetchWithPeers(): Cost {
  for (const name of ['copy', 'bundle']) rmSync(join(work, name), { recursive: true, force: true });
  const copy = measured(['skopeo', '--insecure-policy', 'copy', '-q', '--src-tls-verify=false', `docker://127.0.0.1:${PORT}/image:v1`, 'oci:copy:v1']);
  const unpack = measured(['umoci', 'unpack', '--image', 'copy:v1', 'bundle']);
  return { wallSeconds: round2(copy.wallSeconds + unpack.wallSeconds), cpuSeconds: round2(copy.cpuSeconds + unpack.cpuSeconds), peakMib: Math.max(copy.peakMib, unpack.peakMib) };
}

/** By GNU time. */
function measured(command: readonly string[]): Cost {
  const { status, stderr } = spawnSync('/usr/bin/time', ['-f', '%e %U %S %M', ...command], { cwd: work, encoding: 'utf8' });
  const [wall, user, system, peakKib] = (stderr.trim().split('\n').at(-1) ?? '').split(' ').map(Number);
  if (status !== 0 || peakKib === undefined) throw new Error(`${command.join(' ')}: ${stderr}`);
  return { wallSeconds: round2(wall ?? 0), cpuSeconds: round2((user ?? 0) + (system ?? 0)), peakMib: Math.round(peakKib / 1024) };
}

function median(costs: readonly Cost[]): Cost {
  const middle = (pick: (cost: Cost) => number): number => costs.map(pick).sort((a, b) => a - b)[Math.floor(costs.length / 2)] ?? 0;
  return { wallSeconds: middle((cost) => cost.wallSeconds), cpuSeconds: middle((cost) => cost.cpuSeconds), peakMib: Math.max(...costs.map(({ peakMib }) => peakMib)) };
}

function round2(value: number): number {
  return Math.round(value * 100) / 100;
}
