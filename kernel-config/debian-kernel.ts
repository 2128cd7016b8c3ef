import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { RktError } from '../src/error.ts';
import { inspectKernel } from '../initramfs/kernel-image.ts';
import { candidateVersion, unpackPackage } from './apt.ts';
import { buildCache, makeInCache } from '../scripts/build-cache.ts';
import { run } from './commands.ts';
import type { Kernel } from './kernel.ts';

/** Debian packages `ensureDebianKernel` needs: apt and dpkg are always there. */
export const DEBIAN_KERNEL_PACKAGES = [] as const;

/** Depends on the newest kernel for virtual machines, the smallest of Debian's kernels. */
const META_PACKAGE = 'linux-image-cloud-amd64';
const CACHE_FOLDER = 'debian-kernel';
const IMAGE_FILE = 'bzImage';
/** Asking apt takes a second or two: a kernel found to be the newest is taken for that long. */
const ASK_APT_AGAIN_AFTER_MS = 24 * 3600 * 1000;

export interface DebianKernelOptions {
  onProgress?: (message: string) => void;
}

/**
 * Debian's prebuilt kernel for virtual machines, downloaded by apt (which checks its signature) into the build cache;
 * nothing is installed. Looks for a newer one once a day; if apt cannot say or fetch it, the one in the cache is taken.
 * Throws RktError NOT_FOUND or IO if there is none either.
 */
export async function ensureDebianKernel(options: DebianKernelOptions = {}): Promise<Kernel> {
  const cached = newestInCache();
  if (cached !== undefined && Date.now() - cached.checkedAtMs < ASK_APT_AGAIN_AFTER_MS) return kernelIn(cached.directory);
  try {
    const packageName = await kernelPackage();
    const version = await candidateVersion(packageName);
    // A directory name: the version's epoch colon has no place in it.
    const name = `${CACHE_FOLDER}/${packageName}_${version.replaceAll(':', '-')}`;
    const directory = join(buildCache(), name);
    if (!existsSync(directory)) {
      options.onProgress?.(`fetching ${packageName} ${version}`);
      await makeInCache(name, async (work) => {
        await unpackPackage({ packageName, version, directory: work });
        keepKernelAndModules(work);
      });
    }
    utimesSync(directory, new Date(), new Date());
    return kernelIn(directory);
  } catch (error) {
    if (cached === undefined) throw error;
    return kernelIn(cached.directory);
  }
}

async function kernelPackage(): Promise<string> {
  const depends = await run('apt-cache', ['depends', META_PACKAGE]);
  const name = /Depends: (linux-image-[0-9]\S*)$/m.exec(depends)?.[1];
  if (name === undefined) throw new RktError('NOT_FOUND', `apt knows no kernel package behind ${META_PACKAGE}`, { hint: 'apt-get update' });
  return name;
}

function keepKernelAndModules(directory: string): void {
  const boot = join(directory, 'boot');
  const image = readdirSync(boot).find((name) => name.startsWith('vmlinuz-'));
  if (image === undefined) throw new RktError('BAD_INPUT', 'the kernel package holds no /boot/vmlinuz-*');
  const { release } = inspectKernel(readFileSync(join(boot, image)), image);
  const modules = [join(directory, 'lib/modules', release), join(directory, 'usr/lib/modules', release)].find(existsSync);
  if (modules === undefined) throw new RktError('BAD_INPUT', `the kernel package holds no modules of ${release}`);
  renameSync(join(boot, image), join(directory, IMAGE_FILE));
  renameSync(modules, join(directory, 'modules'));
  for (const entry of readdirSync(directory)) if (entry !== IMAGE_FILE && entry !== 'modules') rmSync(join(directory, entry), { recursive: true });
}

function newestInCache(): { directory: string; checkedAtMs: number } | undefined {
  const folder = join(buildCache(), CACHE_FOLDER);
  if (!existsSync(folder)) return undefined;
  return readdirSync(folder)
    .map((name) => join(folder, name))
    .map((directory) => ({ directory, checkedAtMs: statSync(directory).mtimeMs }))
    .sort((a, b) => b.checkedAtMs - a.checkedAtMs)[0];
}

function kernelIn(directory: string): Kernel {
  const path = join(directory, IMAGE_FILE);
  return { path, release: inspectKernel(readFileSync(path), path).release, source: 'debian', moduleDir: join(directory, 'modules') };
}
