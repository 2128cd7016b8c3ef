import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const PROGRAM = fileURLToPath(new URL('../../bin/rkt', import.meta.url));
/** The same as its launcher starts it, with a quick clock. */
function quickProgram(): string[] {
  const [bundle, source] = ['../../dist/cli/rkt.js', '../../src/cli/main.ts'].map((path) => fileURLToPath(new URL(path, import.meta.url))) as [string, string];
  return ['--disable-warning=ExperimentalWarning', `--import=${new URL('quick-clock.ts', import.meta.url).href}`, existsSync(bundle) ? bundle : source];
}

export interface RunResult {
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: Buffer;
  stderr: string;
}

export interface RunOptions {
  input?: Buffer | string;
  /** Standard input is a pipe that the test writes to itself. */
  pipe?: boolean;
  env?: Record<string, string | undefined>;
  cwd?: string;
  /** A pod that has not ended by then is a failure of the test, not a reason to wait on. */
  timeoutMs?: number;
}

/** A data directory of its own and `rkt` bound to it. */
export interface Host {
  dataDir: string;
  /** A directory for images and files of the test, outside the data directory. */
  workDir: string;
  rkt(args: readonly string[], options?: RunOptions): Promise<RunResult>;
  start(args: readonly string[], options?: RunOptions): { child: ChildProcess; ended: Promise<RunResult> };
  /** Every path below the data directory with size, sorted: what must not change when a command fails. */
  listing(): string[];
  close(): void;
}

/** `quickClock`: pauses and time limits are a hundredth of what they are. */
export function makeHost(name: string, options: { dataDir?: string; quickClock?: boolean } = {}): Host {
  const root = mkdtempSync(join(tmpdir(), `rkt-test-${name}-`));
  const dataDir = options.dataDir ?? join(root, 'data');
  const start = (args: readonly string[], runOptions: RunOptions = {}): { child: ChildProcess; ended: Promise<RunResult> } => {
    const [program, before] = options.quickClock === true ? [process.execPath, quickProgram()] : [PROGRAM, []];
    const child = spawn(program, [...before, `--dir=${dataDir}`, ...args], {
      cwd: runOptions.cwd ?? root,
      env: { ...process.env, ...runOptions.env },
      stdio: [runOptions.input === undefined && runOptions.pipe !== true ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    });
    return { child, ended: collect(child, runOptions) };
  };
  return {
    dataDir,
    workDir: root,
    start,
    rkt: (args, runOptions) => start(args, runOptions).ended,
    listing: () => listTree(dataDir),
    close: () => rmSync(root, { recursive: true, force: true }),
  };
}

function collect(child: ChildProcess, { input, pipe = false, timeoutMs = 120_000 }: RunOptions): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk));
    if (child.stdin) {
      // The program may end without reading its input; that is the program's business.
      child.stdin.on('error', () => {});
      if (!pipe) child.stdin.end(input);
    }
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`no end after ${timeoutMs} ms; stdout: ${Buffer.concat(stdout).toString().slice(-2000)}; stderr: ${Buffer.concat(stderr).toString().slice(-2000)}`));
    }, timeoutMs);
    child.on('error', reject);
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      resolve({ status, signal, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString() });
    });
  });
}

function listTree(directory: string, prefix = ''): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(directory, entry.name);
      if (entry.isDirectory()) return [`${prefix}${entry.name}/`, ...listTree(path, `${prefix}${entry.name}/`)];
      const status = lstatSync(path, { throwIfNoEntry: false });
      // A pod that runs meanwhile puts files in the place of others.
      return status === undefined ? [] : [`${prefix}${entry.name} ${entry.isFile() ? status.size : 0}`];
    });
}

/** Processes whose command line or working directory mentions the text. */
export function processesMentioning(text: string): { pid: number; commandLine: string }[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((name) => {
      try {
        const commandLine = readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ');
        const cwd = readlinkSync(`/proc/${name}/cwd`);
        const state = readFileSync(`/proc/${name}/stat`, 'utf8').split(') ')[1]?.[0];
        if (state === 'Z' || !(commandLine.includes(text) || cwd.includes(text))) return [];
        return [{ pid: Number(name), commandLine }];
      } catch {
        return []; // the process ended while we looked
      }
    });
}

/** The pod of `--uuid-file-save=FILE`, once all of its apps have been started. */
export function readyPod(host: Host, uuidFile: string): string | undefined {
  if (!existsSync(uuidFile)) return undefined;
  const uuid = readFileSync(uuidFile, 'utf8').trim();
  return host.listing().some((path) => path.startsWith(`pods/run/${uuid}/supervisor-status`)) ? uuid : undefined;
}

/** Polls until the condition holds; the error names what was awaited. */
export async function eventually<T>(what: string, condition: () => T | undefined | false | null | Promise<T | undefined | false | null>, timeoutMs = 60_000): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
