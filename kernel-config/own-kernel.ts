import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { RktError } from '../src/error.ts';
import { inspectKernel } from '../initramfs/kernel-image.ts';
import { candidateVersion, installedVersion, unpackPackage } from './apt.ts';
import { buildCache, makeInCache, sha256Hex } from '../scripts/build-cache.ts';
import { run } from './commands.ts';
import type { Kernel } from './kernel.ts';

/** Debian packages `buildOwnKernel` needs. */
export const KERNEL_BUILD_PACKAGES = ['gcc', 'libc6-dev', 'make', 'flex', 'bison', 'bc', 'libelf-dev', 'patch', 'binutils', 'xz-utils'] as const;

export interface BuildProgress {
  /** What is going on, a few words. */
  step: string;
  doneSteps: number;
  /** An estimate; 0 while it is not known. */
  expectedSteps: number;
}

export interface KernelBuildOptions {
  onProgress?: (progress: BuildProgress) => void;
  /** Compilers at a time. Default: processors. */
  jobs?: number;
}

/** What a kernel in the cache was made from. */
interface BuildRecord {
  /** Digest of fragment and patches. */
  recipe: string;
  sourceVersion: string;
  compiler: string;
}

const HERE = import.meta.dirname;
const SOURCE_PACKAGE = 'linux-source-6.1';
const INSTALLED_SOURCE = `/usr/src/${SOURCE_PACKAGE}.tar.xz`;
/** Lines make prints for a whole build: only for showing how far it is. */
const EXPECTED_STEPS = 1583;

/** Most of the source is for other machines; Kconfig and Makefiles of every folder are needed, their C files are not. */
const SOURCE_EXCLUDES = [
  'Documentation/*/*',
  ...['gpu', 'net/ethernet', 'net/wireless', 'media', 'staging', 'infiniband', 'scsi', 'usb', 'iio'].map((folder) => `drivers/${folder}/*.[chS]`),
  'sound/*.[ch]',
  'tools/testing/*',
  'tools/perf/*',
].map((pattern) => `--exclude=${SOURCE_PACKAGE}/${pattern}`);

/** The same input gives the same kernel, byte for byte, wherever and whenever it is built. */
const REPRODUCIBLE = { KBUILD_BUILD_TIMESTAMP: '@0', KBUILD_BUILD_USER: 'rkt', KBUILD_BUILD_HOST: 'rkt', KBUILD_BUILD_VERSION: '1' };

/**
 * The kernel built from this checkout's fragment and patches, if it is in the build cache. Does not look whether the
 * distribution has newer sources by now: `buildOwnKernel` does.
 */
export function findOwnKernel(): Kernel | undefined {
  const folder = join(buildCache(), 'kernel');
  if (!existsSync(folder)) return undefined;
  const recipe = recipeDigest();
  const matching = readdirSync(folder)
    .map((name) => join(folder, name))
    .filter((directory) => existsSync(join(directory, 'inputs.json')))
    .filter((directory) => (JSON.parse(readFileSync(join(directory, 'inputs.json'), 'utf8')) as BuildRecord).recipe === recipe)
    .map((directory) => ({ directory, builtAtMs: statSync(join(directory, 'vmlinux')).mtimeMs }))
    .sort((a, b) => b.builtAtMs - a.builtAtMs);
  return matching[0] === undefined ? undefined : kernelIn(matching[0].directory);
}

/**
 * Builds the pod kernel from Debian's kernel sources (installed, or downloaded by apt), or returns it at once if it was
 * built before from the same sources by the same compiler. Throws RktError MISSING_DEPENDENCY (see KERNEL_BUILD_PACKAGES),
 * NOT_FOUND without sources, IO with the compiler's last words.
 */
export async function buildOwnKernel(options: KernelBuildOptions = {}): Promise<Kernel> {
  const report = (step: string, doneSteps = 0, expectedSteps = 0): void => options.onProgress?.({ step, doneSteps, expectedSteps });
  const record: BuildRecord = { recipe: recipeDigest(), ...(await findSources()), compiler: (await run('gcc', ['--version'])).split('\n')[0] ?? '' };
  const name = `kernel/${sha256Hex(record.recipe, record.sourceVersion, record.compiler).slice(0, 32)}`;
  if (existsSync(join(buildCache(), name))) return kernelIn(join(buildCache(), name));

  const directory = await makeInCache(name, async (work) => {
    const source = join(work, SOURCE_PACKAGE);
    const build = join(work, 'build');
    report(`unpacking ${SOURCE_PACKAGE} ${record.sourceVersion}`);
    await unpackSources(record.sourceVersion, work);
    for (const patch of patchFiles()) await run('patch', ['-s', '-p1', '-d', source, '-i', patch]);

    report('configuring');
    mkdirSync(build);
    const make = ['-C', source, `O=${build}`];
    await run('make', [...make, `KCONFIG_ALLCONFIG=${fragmentFile()}`, 'allnoconfig'], { env: REPRODUCIBLE });
    checkConfig(readFileSync(join(build, '.config'), 'utf8'));

    let doneSteps = 0;
    await run('make', [...make, `-j${options.jobs ?? availableParallelism()}`, 'vmlinux'], {
      env: REPRODUCIBLE,
      onLine: (line) => {
        const step = /^ {2}([A-Z0-9]+) +(\S+)/.exec(line);
        if (step !== null) report(step[2] ?? '', ++doneSteps, Math.max(EXPECTED_STEPS, doneSteps));
      },
    });
    await run('objcopy', ['--strip-all', join(build, 'vmlinux'), join(work, 'vmlinux')], { package: 'binutils' });
    renameSync(join(build, '.config'), join(work, 'config'));
    // The kernel carries no symbol table: this names the addresses of a panic.
    renameSync(join(build, 'System.map'), join(work, 'System.map'));
    writeFileSync(join(work, 'release'), inspectKernel(readFileSync(join(work, 'vmlinux')), 'vmlinux').release);
    writeFileSync(join(work, 'inputs.json'), JSON.stringify(record));
    for (const leftover of readdirSync(work).filter((entry) => !KEPT_FILES.includes(entry))) rmSync(join(work, leftover), { recursive: true });
  });
  return kernelIn(directory);
}

const KEPT_FILES = ['vmlinux', 'config', 'System.map', 'release', 'inputs.json'];

function kernelIn(directory: string): Kernel {
  return { path: join(directory, 'vmlinux'), release: readFileSync(join(directory, 'release'), 'utf8'), source: 'own' };
}

const fragmentFile = (): string => join(HERE, 'pod.config');

function patchFiles(): string[] {
  const folder = join(HERE, 'patches');
  return readdirSync(folder).filter((name) => name.endsWith('.patch')).sort().map((name) => join(folder, name));
}

/** What the kernel is made from, without the words around it: a better comment is no reason to build again. */
function recipeDigest(): string {
  const options = optionLines(readFileSync(fragmentFile(), 'utf8'));
  const patches = patchFiles().map((file) => readFileSync(file, 'utf8')).map((text) => text.slice(text.indexOf('\n--- ')));
  return sha256Hex(options.sort().join('\n'), ...patches);
}

const optionLines = (fragment: string): string[] => fragment.split('\n').filter((line) => /^(# )?CONFIG_/.test(line));

async function findSources(): Promise<{ sourceVersion: string }> {
  const installed = existsSync(INSTALLED_SOURCE) ? await installedVersion(SOURCE_PACKAGE) : undefined;
  try {
    return { sourceVersion: await candidateVersion(SOURCE_PACKAGE) };
  } catch (error) {
    if (installed === undefined) throw error;
    return { sourceVersion: installed };
  }
}

async function unpackSources(version: string, directory: string): Promise<void> {
  let tarball = INSTALLED_SOURCE;
  if (!existsSync(tarball) || (await installedVersion(SOURCE_PACKAGE)) !== version) {
    const kept = `kernel-source/${version}`;
    const unpacked = join(buildCache(), kept);
    if (!existsSync(unpacked)) {
      await makeInCache(kept, async (work) => {
        await unpackPackage({ packageName: SOURCE_PACKAGE, version, directory: work });
        renameSync(join(work, INSTALLED_SOURCE), join(work, 'source.tar.xz'));
        for (const entry of readdirSync(work)) if (entry !== 'source.tar.xz') rmSync(join(work, entry), { recursive: true });
      });
    }
    tarball = join(unpacked, 'source.tar.xz');
  }
  await run('tar', ['-xJf', tarball, '-C', directory, ...SOURCE_EXCLUDES], { package: 'xz-utils' });
}

/** Kconfig drops what it cannot have without a word; a kernel that lacks a hardening option must not be built unnoticed. */
function checkConfig(config: string): void {
  const lines = new Set(config.split('\n'));
  const wanted = optionLines(readFileSync(fragmentFile(), 'utf8'));
  const refused = wanted.filter((line) => {
    const off = /^# (CONFIG_\w+) is not set$/.exec(line)?.[1];
    return off === undefined ? !lines.has(line) : config.includes(`\n${off}=`);
  });
  if (refused.length > 0) throw new RktError('INTERNAL', `kernel options that did not take effect: ${refused.join(', ')}`);
}
