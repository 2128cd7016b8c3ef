/**
 * Builds programs for the runtime: TypeScript → one bundle → QuickJS bytecode → static ELF.
 * Everything but the result lives in the build cache, keyed by what it was made from.
 *
 *   node scripts/build-runtime.ts ENTRY.ts OUTPUT [--sanitize]
 */
import { execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { buildCache, publish, temporaryDirectory } from './build-cache.ts';

const ROOT = join(import.meta.dirname, '..');
const C_DIRECTORY = join(ROOT, 'runtime/c');

/** The engine: a source package of Debian trixie. No patch of it is needed (Debian's own concern its build system). */
const ENGINE = {
  package: 'quickjs',
  version: '2025.04.26-1',
  tarball: 'quickjs_2025.04.26.orig.tar.xz',
  sha256: 'ec81da5b3249ed648dbc7df4a1654988910e66a118d9b71cb63534216efcfbbe',
} as const;
const ENGINE_SUITE = 'trixie';
const ENGINE_UNITS = ['quickjs', 'cutils', 'dtoa', 'libregexp', 'libunicode'];
const RUNTIME_UNITS = ['main', 'syscall', 'spawn', 'arena', 'sha2', 'lines'];
const RUNTIME_FILES = [...RUNTIME_UNITS.map((unit) => `${unit}.c`), 'runtime.h', 'compile.c', 'program.S'].map((name) => join(C_DIRECTORY, name));

interface Toolchain {
  compiler: string;
  compileFlags: string[];
  engineFlags: string[];
  linkFlags: string[];
}

/** For size: an emulated processor pays for each different piece of code once. What runs all the time says otherwise. */
const COMMON_FLAGS = ['-Os', '-D_GNU_SOURCE', '-DCONFIG_VERSION="2025-04-26"'];

/** What ships: static, position-dependent, unused functions dropped. The same input gives the same bytes. */
const STATIC: Toolchain = {
  compiler: 'musl-gcc',
  compileFlags: [...COMMON_FLAGS, '-ffunction-sections', '-fdata-sections', '-fno-asynchronous-unwind-tables', '-fno-ident', '-fstack-protector-strong'],
  // The interpreter itself runs all the time.
  engineFlags: ['-w', '-O2'],
  linkFlags: ['-static', '-s', '-Wl,--gc-sections', '-Wl,-z,norelro', '-Wl,-z,noexecstack', '-Wl,--build-id=none', '-lm'],
};

/** For tests: every access of the C code is checked, and the engine's blocks are the system's, so that overflows are seen. */
const SANITIZED: Toolchain = {
  compiler: 'gcc',
  compileFlags: [...COMMON_FLAGS, '-g', '-fsanitize=address,undefined', '-fno-sanitize-recover=undefined', '-DRKT_SYSTEM_MALLOC'],
  // What is checked is our C: its accesses to the engine's blocks, which come from the checked allocator.
  engineFlags: ['-w', '-fno-sanitize=all', '-O1'],
  linkFlags: ['-fsanitize=address,undefined', '-lm', '-lpthread'],
};

export interface ProgramOptions {
  /** The program's first module. */
  entry: string;
  /** Where the ELF file goes; OUTPUT.map beside it is the source map for its stack traces. */
  output: string;
  /** First modules of what the program is instead when it is called by these names: a short one starts in a fraction of the time. */
  byName?: Record<string, string>;
  /** Most memory JavaScript may use. Default 64. */
  memoryLimitMib?: number;
  /** Checked by AddressSanitizer and UndefinedBehaviorSanitizer, linked dynamically: for tests. */
  sanitize?: boolean;
  onProgress?: (message: string) => void;
}

export interface BuiltProgram {
  output: string;
  /** False when nothing had changed. */
  rebuilt: boolean;
  sizeBytes: number;
}

/** What a program was last made from: if all of this is unchanged, so is the program. */
interface BuildRecord {
  key: string;
  digests: Record<string, string>;
}

interface Job {
  options: ProgramOptions;
  toolchain: Toolchain;
  /** Unpacked engine source. */
  engine: string;
  engineObjects: string[];
  /** Temporary directory. */
  work: string;
}

/** Builds what is out of date. Throws with the compiler's output on an error. */
export async function buildProgram(options: ProgramOptions): Promise<BuiltProgram> {
  const output = resolve(options.output);
  const recordPath = join(buildCache(), 'programs', `${sha256(output)}.json`);
  const key = JSON.stringify([resolve(options.entry), options.byName, options.memoryLimitMib, options.sanitize]);
  if (isUpToDate({ output, recordPath, key })) return { output, rebuilt: false, sizeBytes: statSync(output).size };
  const inputs = await compileProgram({ ...options, output });
  const digests = Object.fromEntries([...inputs, output].map((path) => [path, digestOf(path) ?? '']));
  writeBeside(recordPath, JSON.stringify({ key, digests } satisfies BuildRecord));
  return { output, rebuilt: true, sizeBytes: statSync(output).size };
}

function isUpToDate({ output, recordPath, key }: { output: string; recordPath: string; key: string }): boolean {
  if (!existsSync(output) || !existsSync(recordPath)) return false;
  const record = JSON.parse(readFileSync(recordPath, 'utf8')) as BuildRecord;
  return record.key === key && Object.entries(record.digests).every(([path, digest]) => digestOf(path) === digest);
}

/** Returns the paths of everything the program was made from. */
async function compileProgram(options: ProgramOptions): Promise<string[]> {
  const toolchain = options.sanitize ? SANITIZED : STATIC;
  const progress = options.onProgress ?? ((): void => undefined);
  const work = temporaryDirectory();
  try {
    const engine = engineSource(progress);
    const engineObjects = await compileEngine(engine, toolchain, progress);
    const job: Job = { options, toolchain, engine, engineObjects, work };
    const entries: [name: string, entry: string][] = [[basename(options.output), options.entry], ...Object.entries(options.byName ?? {})];
    const modules = new Set<string>();
    for (const [name, entry] of entries) {
      for (const module of await bundle(job, name, entry)) modules.add(module);
      compileBytecode(job, name);
    }
    link(job, entries.map(([name]) => name));
    mkdirSync(dirname(options.output), { recursive: true });
    for (const [name] of entries) replaceFile(join(work, `${name}.js.map`), join(dirname(options.output), `${name}.map`));
    replaceFile(join(work, 'program'), options.output);
    return [...modules, ...RUNTIME_FILES, import.meta.filename];
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function bundle({ work }: Job, name: string, entry: string): Promise<string[]> {
  const { build } = await import('esbuild');
  const result = await build({
    entryPoints: [resolve(entry)],
    outfile: join(work, `${name}.js`),
    bundle: true,
    // A module's variables are found by index; those of one large function by a search, for each function that uses them.
    format: 'esm',
    target: 'es2023',
    platform: 'neutral',
    minifySyntax: true,
    sourcemap: 'external',
    metafile: true,
    logLevel: 'warning',
    absWorkingDir: ROOT,
  });
  return Object.keys(result.metafile.inputs).map((path) => resolve(ROOT, path));
}

function compileBytecode({ toolchain, engine, engineObjects, work }: Job, name: string): void {
  const source = join(C_DIRECTORY, 'compile.c');
  const key = sha256(JSON.stringify([engineObjects, digestOf(source)]));
  const compiler = cached(`bytecode-compiler-${key}`, (path) => {
    run(toolchain.compiler, [...toolchain.compileFlags, ...toolchain.engineFlags, `-I${engine}`, '-o', path, source, ...engineObjects, ...toolchain.linkFlags]);
  });
  const bytecode = execFileSync(compiler, [name], {
    input: readFileSync(join(work, `${name}.js`)),
    maxBuffer: 64 << 20,
    env: { ...process.env, ASAN_OPTIONS: 'detect_leaks=0' },
  });
  writeFileSync(join(work, `${name}.bytecode`), bytecode);
}

function link({ options, toolchain, engine, engineObjects, work }: Job, names: readonly string[]): void {
  const limit = `-DRKT_JS_MEMORY_LIMIT=(${options.memoryLimitMib ?? 64}u<<20)`;
  const bytecodes = names.map((name) => {
    const object = join(work, `${name}.o`);
    run(toolchain.compiler, [`-DBYTECODE_NAME="${name}"`, `-DBYTECODE_FILE="${join(work, `${name}.bytecode`)}"`, '-c', '-o', object, join(C_DIRECTORY, 'program.S')]);
    return object;
  });
  run(toolchain.compiler, [
    ...toolchain.compileFlags, '-Wall', '-Wextra', '-Wno-unused-parameter', '-Wno-cast-function-type', limit, `-I${engine}`, `-I${C_DIRECTORY}`,
    '-o', join(work, 'program'), ...RUNTIME_UNITS.map((unit) => join(C_DIRECTORY, `${unit}.c`)), ...bytecodes, ...engineObjects, ...toolchain.linkFlags,
  ]);
}

async function compileEngine(engine: string, toolchain: Toolchain, progress: (message: string) => void): Promise<string[]> {
  const version = execFileSync(toolchain.compiler, ['--version'], { encoding: 'utf8' });
  // The path of the build cache must not get into the program: the engine's assertions name their file.
  const flags = [...toolchain.compileFlags, ...toolchain.engineFlags];
  const mapped = [...flags, `-ffile-prefix-map=${engine}=quickjs`];
  const key = sha256(JSON.stringify([ENGINE, version, flags, 'file-prefix-map']));
  const directory = join(buildCache(), `engine-objects-${key}`);
  const objects = ENGINE_UNITS.map((unit) => join(directory, `${unit}.o`));
  if (existsSync(directory)) return objects;
  progress('compiling the JavaScript engine (once)');
  const temporary = temporaryDirectory();
  const pending = [...ENGINE_UNITS];
  const worker = async (): Promise<void> => {
    for (let unit = pending.shift(); unit !== undefined; unit = pending.shift()) {
      await runParallel(toolchain.compiler, [...mapped, `-I${engine}`, '-c', '-o', join(temporary, `${unit}.o`), join(engine, `${unit}.c`)]);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  publish(temporary, directory);
  return objects;
}

/** The unpacked source, downloaded through apt (which checks the archive's signature) unless it is in the cache. */
function engineSource(progress: (message: string) => void): string {
  const directory = join(buildCache(), `quickjs-${ENGINE.sha256}`);
  if (existsSync(directory)) return directory;
  progress(`downloading the source of ${ENGINE.package} ${ENGINE.version}`);
  const temporary = temporaryDirectory();
  try {
    const tarball = downloadEngine(join(temporary, 'apt'));
    const actual = digestOf(tarball);
    if (actual !== ENGINE.sha256) throw new Error(`${ENGINE.tarball}: SHA-256 is ${actual}, expected ${ENGINE.sha256}`);
    mkdirSync(join(temporary, 'source'));
    run('tar', ['-xJf', tarball, '-C', join(temporary, 'source'), '--strip-components=1']);
    publish(join(temporary, 'source'), directory);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  return directory;
}

/** The mirror is the one this machine has its own packages from. */
function engineRepository(): string {
  const targets = execFileSync('apt-get', ['indextargets', '--format', '$(ORIGIN) $(CODENAME) $(REPO_URI)', 'Created-By: Packages'], { encoding: 'utf8' });
  const mirror = /^Debian [a-z]+ (\S+)$/m.exec(targets)?.[1];
  if (mirror === undefined) throw new Error('apt knows no mirror of Debian: run `apt-get update`');
  return ['Types: deb-src', `URIs: ${mirror}`, `Suites: ${ENGINE_SUITE}`, 'Components: main', 'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg', ''].join('\n');
}

/** Runs apt with a configuration of its own, so that the machine's sources and package lists stay as they are. */
function downloadEngine(apt: string): string {
  for (const name of ['lists/partial', 'archives/partial', 'download']) mkdirSync(join(apt, name), { recursive: true });
  writeFileSync(join(apt, 'engine.sources'), engineRepository());
  const settings = {
    'Dir::State': apt,
    'Dir::State::status': '/dev/null',
    'Dir::Cache': apt,
    'Dir::Etc::sourcelist': join(apt, 'engine.sources'),
    'Dir::Etc::sourceparts': '/dev/null',
    'APT::Sandbox::User': 'root',
  };
  const options = Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  run('apt-get', [...options, '-qq', 'update']);
  run('apt-get', [...options, '-qq', 'source', '--download-only', `${ENGINE.package}=${ENGINE.version}`], join(apt, 'download'));
  return join(apt, 'download', ENGINE.tarball);
}

/** A file of the cache, made by `make` at a temporary path when it is missing. */
function cached(name: string, make: (path: string) => void): string {
  const path = join(buildCache(), name);
  if (existsSync(path)) return path;
  const temporary = `${path}.${randomBytes(4).toString('hex')}`;
  make(temporary);
  renameSync(temporary, path);
  return path;
}

function writeBeside(path: string, content: string): void {
  mkdirSync(dirname(path), { recursive: true });
  const temporary = `${path}.${randomBytes(4).toString('hex')}`;
  writeFileSync(temporary, content);
  renameSync(temporary, path);
}

/** Also across file systems, and while an older version is running. */
function replaceFile(from: string, to: string): void {
  const temporary = `${to}.${randomBytes(4).toString('hex')}`;
  copyFileSync(from, temporary);
  renameSync(temporary, to);
}

function run(command: string, args: string[], cwd?: string): void {
  try {
    execFileSync(command, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' });
  } catch (error) {
    const { stderr, message } = error as { stderr?: string; message: string };
    throw new Error(`${command} failed: ${stderr || message}`);
  }
}

function runParallel(command: string, args: string[]): Promise<void> {
  return new Promise((done, fail) => {
    const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'] });
    child.on('error', fail);
    child.on('exit', (code) => (code === 0 ? done() : fail(new Error(`${command} ${args.join(' ')}: exit status ${code}`))));
  });
}

function digestOf(path: string): string | undefined {
  try {
    return sha256(readFileSync(path));
  } catch {
    return undefined;
  }
}

function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

if (import.meta.main) {
  const [entry, output, ...flags] = process.argv.slice(2);
  if (entry === undefined || output === undefined) {
    process.stderr.write('usage: node scripts/build-runtime.ts ENTRY.ts OUTPUT [--sanitize]\n');
    process.exit(2);
  }
  const built = await buildProgram({
    entry,
    output,
    sanitize: flags.includes('--sanitize'),
    onProgress: (message) => process.stderr.write(`build-runtime: ${message}\n`),
  });
  process.stdout.write(`${built.output}: ${built.sizeBytes} bytes${built.rebuilt ? '' : ', unchanged'}\n`);
}
