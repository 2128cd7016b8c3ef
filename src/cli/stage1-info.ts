/** What `version` and `config` tell about the stage1 that was built with this rkt. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { labelValue } from '../schema/index.ts';
import type { ImageManifest } from '../schema/index.ts';
import { FLAVORS, flavorPath } from '../stage0/stage1-image.ts';

/** Probing may have to run a guest for a moment. */
const REPORT_TIMEOUT_MS = 10_000;

export interface KernelInfo {
  /** `own`: built from kernel-config; `debian`: the distribution's cloud kernel. */
  source: string;
  release: string;
}

export interface Stage1Info {
  name: string;
  version: string;
  directory: string;
  kernel: KernelInfo;
}

/** The stage1 images that were built with this rkt, by flavor. */
export function builtFlavors(installDir: string): { flavor: string; name: string; version: string; location: string }[] {
  return FLAVORS.flatMap((flavor) => {
    const [location, path] = [flavorPath(installDir, flavor), join(installDir, 'dist', `stage1-${flavor}`, 'manifest')];
    if (!existsSync(location) || !existsSync(path)) return [];
    const { name, labels } = JSON.parse(readFileSync(path, 'utf8')) as ImageManifest;
    return [{ flavor, name, version: labelValue(labels, 'version') ?? 'unknown', location }];
  });
}

/** Of the default, which runs virtual machines. Undefined when it has not been built. */
export function readStage1Info(installDir: string): Stage1Info | undefined {
  const directory = join(installDir, 'dist', 'stage1-kvm');
  const path = join(directory, 'manifest');
  if (!existsSync(path)) return undefined;
  // Written by our own build, and checked when a pod is run with it.
  const manifest = JSON.parse(readFileSync(path, 'utf8')) as ImageManifest;
  return {
    name: manifest.name,
    version: labelValue(manifest.labels, 'version') ?? 'unknown',
    directory,
    kernel: { source: annotation(manifest, 'rkt/kernel-source'), release: annotation(manifest, 'rkt/kernel-release') },
  };
}

function annotation(manifest: ImageManifest, name: string): string {
  return manifest.annotations?.find((entry) => entry.name === name)?.value ?? 'unknown';
}

export function kernelText(kernel: KernelInfo): string {
  return `${kernel.source} ${kernel.release}`;
}

/** Which accelerator pods get and why, from stage1 itself; with `error` when it cannot say. */
export function acceleratorReport(info: Stage1Info): unknown {
  const result = spawnSync(join(info.directory, 'init'), ['accel-report'], { argv0: 'init', encoding: 'utf8', timeout: REPORT_TIMEOUT_MS, stdio: ['ignore', 'pipe', 'pipe'] });
  if (result.error !== undefined) return { error: result.error.message };
  if (result.status !== 0) return { error: result.stderr.trim() || `exit status ${result.status ?? -1}` };
  try {
    return JSON.parse(result.stdout);
  } catch {
    return { error: `not JSON: ${result.stdout.trim()}` };
  }
}
