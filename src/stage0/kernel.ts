/** `--kernel=FILE`: any kernel. One with drivers as modules needs an initramfs that holds them. */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { RktError } from '../error.ts';
import { writeFileAtomic } from '../store/index.ts';

export interface ResolvedKernel {
  kernelPath: string;
  /** Absent: the one in the stage1 image fits. */
  initramfsPath?: string;
}

export interface KernelPlace {
  dataDir: string;
  /** Holds `initramfs`, whose `/init` is the agent. */
  stage1Rootfs: string;
}

/** Where a distribution keeps the modules of a kernel release. */
const MODULES_DIR = '/lib/modules';
/** Part of the cache key: to be raised when the same parts give another archive. */
const INITRAMFS_FORMAT = 1;

/** Throws RktError NOT_FOUND, BAD_INPUT (no kernel), UNSUPPORTED (lacks a driver). */
export async function resolveKernel(kernelPath: string, place: KernelPlace): Promise<ResolvedKernel> {
  const identity = fileIdentity(kernelPath, 'kernel');
  const stage1Initramfs = join(place.stage1Rootfs, 'initramfs');
  const key = createHash('sha256').update(JSON.stringify([INITRAMFS_FORMAT, identity, fileIdentity(stage1Initramfs, 'initramfs of the stage1 image')])).digest('hex');
  const cachePath = join(place.dataDir, 'cas', 'initramfs', key);
  if (existsSync(cachePath)) return { kernelPath, initramfsPath: cachePath };

  // Everything below is needed once per kernel, so it is loaded only here.
  const [{ inspectKernel }, { modulesFor }, { buildInitramfs }, { readCpioFile }] = await Promise.all([
    import('../../initramfs/kernel-image.ts'),
    import('../../initramfs/modules.ts'),
    import('../../initramfs/build.ts'),
    import('../../initramfs/cpio-read.ts'),
  ]);
  const kernel = inspectKernel(readFileSync(kernelPath), kernelPath);
  const moduleDir = join(MODULES_DIR, kernel.release);
  // A kernel without modules on this machine is taken to have all drivers built in, as our own has.
  if (kernel.format === 'elf' && !existsSync(moduleDir)) return { kernelPath };
  const agent = readCpioFile(readFileSync(stage1Initramfs), 'init');
  if (agent === undefined) throw new RktError('BAD_IMAGE', `${stage1Initramfs}: has no /init`);
  const initramfs = buildInitramfs({ agent, modules: modulesFor({ moduleDir, release: kernel.release }) });
  await mkdir(dirname(cachePath), { recursive: true, mode: 0o750 });
  writeFileAtomic(cachePath, initramfs);
  return { kernelPath, initramfsPath: cachePath };
}

/** What tells one version of a file from another without reading it. */
function fileIdentity(path: string, what: string): string[] {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (cause) {
    throw new RktError('NOT_FOUND', `cannot read the ${what} ${path}`, { cause });
  }
  try {
    const stats = fstatSync(fd, { bigint: true });
    if (!stats.isFile()) throw new RktError('BAD_INPUT', `${what} ${path} is not a file`);
    return [path, String(stats.dev), String(stats.ino), String(stats.size), String(stats.mtimeNs), String(stats.ctimeNs)];
  } finally {
    closeSync(fd);
  }
}
