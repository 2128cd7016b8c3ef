/** How large the virtual machine of a pod is. */
import { Stage1Error } from '../error.ts';
import type { PodApp } from '../pod/pod.ts';

export interface MachineSize {
  memoryMiB: number;
  cpus: number;
}

export interface SizeLimits {
  hostCpus: number;
  /** What the user asked for; null: by the rule. */
  memoryMiB: number | null;
  cpus: number | null;
}

/** What the guest itself needs beside the apps, and the least a pod gets. */
const GUEST_MEMORY_MIB = 128;
const LEAST_MEMORY_MIB = 512;
/** Below this the guest cannot unpack its initramfs. */
const LEAST_OVERRIDE_MIB = 64;

/**
 * Memory: max(512, 128 + sum of the apps' memory limits) MiB. CPUs: sum of the apps' cpu limits rounded up, at least 1,
 * at most the host's. @throws Stage1Error when an override is out of range.
 */
export function machineSize(apps: readonly Pick<PodApp, 'memoryLimitBytes' | 'cpuLimit'>[], limits: SizeLimits): MachineSize {
  if (limits.memoryMiB !== null && limits.memoryMiB < LEAST_OVERRIDE_MIB) throw new Stage1Error(`a pod needs at least ${LEAST_OVERRIDE_MIB} MiB of memory, not ${limits.memoryMiB}`);
  let appBytes = 0;
  let appCpus = 0;
  for (const app of apps) {
    appBytes += app.memoryLimitBytes ?? 0;
    appCpus += app.cpuLimit ?? 0;
  }
  const memoryMiB = limits.memoryMiB ?? Math.max(LEAST_MEMORY_MIB, GUEST_MEMORY_MIB + Math.ceil(appBytes / 2 ** 20));
  // 0.1 + 0.2 must not become a second CPU.
  const wanted = limits.cpus ?? Math.ceil(Math.round(appCpus * 1000) / 1000);
  return { memoryMiB, cpus: Math.min(Math.max(wanted, 1), limits.hostCpus) };
}
