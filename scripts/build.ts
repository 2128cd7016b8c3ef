/**
 * Builds all of dist/: the command line, its manual pages, `rkt/attest`, the runtime programs, and the two stage1 images, the one for virtual machines
 * with the best kernel at hand (the own one if `npm run build:kernel` has made it, else Debian's prebuilt cloud kernel with the modules a pod needs).
 * Incremental: what has not changed is left alone.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ensureDebianKernel } from '../kernel-config/debian-kernel.ts';
import { findOwnKernel } from '../kernel-config/own-kernel.ts';
import type { Kernel } from '../kernel-config/kernel.ts';
import { buildInitramfs } from '../initramfs/build.ts';
import { modulesFor } from '../initramfs/modules.ts';
import { buildAttest } from './build-attest.ts';
import { buildCli } from './build-cli.ts';
import { buildMan } from './build-man.ts';
import { buildProgram } from './build-runtime.ts';
import { FLY_FLAVOR, kvmFlavor, packageStage1 } from './package-stage1.ts';

const ROOT = join(import.meta.dirname, '..');
const DIST = join(ROOT, 'dist');
const STAGE1 = join(DIST, 'stage1-kvm');
const STAGE1_FLY = join(DIST, 'stage1-fly');

const progress = (message: string): void => console.log(`  ${message}`);

console.log('Building the command line');
await buildCli();
await buildAttest();
buildMan();

console.log('Building monitor and agent');
mkdirSync(STAGE1, { recursive: true });
const agent = await buildProgram({ entry: join(ROOT, 'guest-agent/main.ts'), output: join(DIST, 'agent/init'), onProgress: progress });
const monitor = await buildProgram({ entry: join(ROOT, 'stage1-kvm/main.ts'), output: join(STAGE1, 'init'), byName: { enter: join(ROOT, 'stage1-kvm/enter/main.ts') }, onProgress: progress });
const fly = await buildProgram({ entry: join(ROOT, 'stage1-fly/main.ts'), output: join(STAGE1_FLY, 'init'), onProgress: progress });
await packageStage1({ flavor: FLY_FLAVOR, directory: STAGE1_FLY, output: join(DIST, 'stage1-fly.aci') });

const kernel: Kernel = findOwnKernel() ?? (await ensureDebianKernel({ onProgress: progress }));
console.log(`Building the stage1 image with ${kernel.source === 'own' ? 'the own kernel' : "Debian's kernel"} ${kernel.release}`);
const modules = kernel.moduleDir === undefined ? [] : modulesFor({ moduleDir: kernel.moduleDir, release: kernel.release });
writeIfChanged(join(STAGE1, 'kernel'), readFileSync(kernel.path));
writeIfChanged(join(STAGE1, 'initramfs'), buildInitramfs({ agent: readFileSync(agent.output), modules }));
await packageStage1({ flavor: kvmFlavor(kernel), directory: STAGE1, output: join(DIST, 'stage1-kvm.aci') });

console.log(`monitor ${kib(monitor.sizeBytes)}, agent ${kib(agent.sizeBytes)}, fly ${kib(fly.sizeBytes)}`);
if (kernel.source === 'debian') console.log('`npm run build:kernel` builds the own kernel: pods start several times faster with it');

function kib(bytes: number): string {
  return `${Math.round(bytes / 1024)} KiB`;
}

/** Keeps the modification time of what stays the same: everything downstream is keyed by it. */
function writeIfChanged(path: string, bytes: Uint8Array): void {
  try {
    if (readFileSync(path).equals(bytes)) return;
  } catch {
    // not there yet
  }
  writeFileSync(path, bytes);
}
