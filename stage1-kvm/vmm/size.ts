/** How large the virtual machine of a pod is. */
import { Stage1Error } from '../error.ts';

export interface MachineSize {
  memoryMiB: number;
  cpus: number;
}

/** What its resources may be; null: nothing is said. */
export interface ResourceLimits {
  memoryLimitBytes: number | null;
  /** In CPUs; fractions allowed. */
  cpuLimit: number | null;
}

export interface SizeLimits {
  hostCpus: number;
  /** What the user asked for; null: by the rule. */
  memoryMiB: number | null;
  cpus: number | null;
  /** Isolators of the pod itself. */
  pod: ResourceLimits;
}

/** What the guest itself needs beside the apps, and the least a pod gets. */
const GUEST_MEMORY_MIB = 128;
const LEAST_MEMORY_MIB = 512;
/** Below this the guest cannot unpack its initramfs. */
const LEAST_OVERRIDE_MIB = 64;

/**
 * Whether an app fits that joins a running pod, by the same rule; limits of cpus may add up to more than there are.
 * @throws Stage1Error
 */
export function requireRoom(limitsBytes: readonly number[], wantedBytes: number, memoryMiB: number): void {
  const takenMiB = limitsBytes.reduce((sum, limit) => sum + limit, 0) / 2 ** 20;
  const leftMiB = Math.max(0, Math.floor(memoryMiB - GUEST_MEMORY_MIB - takenMiB));
  if (wantedBytes / 2 ** 20 <= leftMiB) return;
  throw new Stage1Error(`the app's memory limit is ${toMiB(wantedBytes)} MiB, the pod has ${leftMiB} MiB left for limits`, `its machine has ${memoryMiB} MiB, of which the guest itself keeps ${GUEST_MEMORY_MIB}; start the pod with a larger --mem`);
}

/**
 * Memory: what was asked for; else 128 MiB and the pod's own limit; else max(512, 128 + sum of the apps' memory limits) MiB. CPUs: what
 * was asked for, else the sum of the apps' cpu limits rounded up, not more than the pod's own; at least 1, at most the host's.
 * @throws Stage1Error when an override is out of range.
 */
export function machineSize(apps: readonly ResourceLimits[], limits: SizeLimits): MachineSize {
  if (limits.memoryMiB !== null && limits.memoryMiB < LEAST_OVERRIDE_MIB) throw new Stage1Error(`a pod needs at least ${LEAST_OVERRIDE_MIB} MiB of memory, not ${limits.memoryMiB}`);
  let appBytes = 0;
  let appCpus = 0;
  for (const app of apps) {
    appBytes += app.memoryLimitBytes ?? 0;
    appCpus += app.cpuLimit ?? 0;
  }
  const podBytes = limits.pod.memoryLimitBytes;
  const byRule = podBytes === null ? Math.max(LEAST_MEMORY_MIB, GUEST_MEMORY_MIB + toMiB(appBytes)) : GUEST_MEMORY_MIB + toMiB(podBytes);
  const memoryMiB = limits.memoryMiB ?? byRule;
  const podCpus = limits.pod.cpuLimit;
  const cpus = podCpus === null ? appCpus : Math.min(podCpus, appCpus === 0 ? podCpus : appCpus);
  // 0.1 + 0.2 must not become a second CPU.
  const wanted = limits.cpus ?? Math.ceil(Math.round(cpus * 1000) / 1000);
  return { memoryMiB, cpus: Math.min(Math.max(wanted, 1), limits.hostCpus) };
}

const toMiB = (bytes: number): number => Math.ceil(bytes / 2 ** 20);
