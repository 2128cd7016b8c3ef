/** Gives back what pods have of networks when they have ended. */
import { RktError } from '../error.ts';
import { hasEnded, lockQuietly, pathInPod, unlockPod, walkPods } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import type { AttachmentRecord, Finding, NetworkDirectories, NetworkedPod, PortMapping } from '../network/index.ts';

/** Leases, links and rules of the pod, wherever its start was interrupted. Throws RktError for what cannot be removed now. */
export async function disconnectPod(pod: PodHandle, pluginDirs: readonly string[]): Promise<void> {
  const { tearDownPodNetwork } = await import('../network/index.ts');
  await tearDownPodNetwork(networkedPod(pod, pluginDirs));
}

export function networkedPod(pod: PodHandle, pluginDirs: readonly string[]): NetworkedPod {
  return { uuid: pod.uuid, podDir: pathInPod(pod), pluginDirs };
}

interface Released {
  releasedCount: number;
  /** Of pods whose network cannot be taken down now. */
  problems: RktError[];
}

/**
 * Takes down the networks of pods that have ended or whose start was interrupted, without waiting until the pods
 * themselves are removed. `when` looks at the ports a pod holds; without it all are meant.
 */
export async function releaseNetworks(dataDir: string, { pluginDirs, when }: { pluginDirs: readonly string[]; when?(ports: readonly PortMapping[]): boolean }): Promise<Released> {
  const { heldPorts, readRecords } = await import('../network/index.ts');
  const releaseOne = async (pod: PodHandle): Promise<boolean> => {
    const podDir = pathInPod(pod);
    if (readRecords(podDir).length === 0 || when?.(heldPorts(podDir)) === false || !lockQuietly(pod)) return false;
    try {
      await disconnectPod(pod, pluginDirs);
      return true;
    } finally {
      unlockPod(pod);
    }
  };
  const released: Released = { releasedCount: 0, problems: [] };
  for (const pod of walkPods(dataDir, ['prepared', 'run', 'exited-garbage'])) {
    if (pod.state !== 'prepared' && !hasEnded(pod.state)) continue;
    try {
      if (await releaseOne(pod)) released.releasedCount++;
    } catch (cause) {
      released.problems.push(new RktError('BUSY', `the network of pod "${pod.uuid}", which has ended, cannot be taken down`, { cause }));
    }
  }
  return released;
}

/**
 * Lets the networks that this host has for rkt alone remove what belongs to none of its pods (CNI's GC, 1.1.0). Gives the
 * problems; networks that know nothing of it are passed over.
 */
export async function collectNetworkGarbage(dataDir: string, directories: NetworkDirectories): Promise<RktError[]> {
  const network = await import('../network/index.ts');
  const [ownDirectory] = directories.configurations;
  const own = network.readNetworks(directories.configurations).networks.filter(({ path }) => path !== null && ownDirectory !== undefined && path.startsWith(`${ownDirectory}/`));
  if (own.length === 0) return [];
  using lock = network.lockForCollection();
  if (lock === null) return [];
  const records: AttachmentRecord[] = [];
  try {
    for (const pod of walkPods(dataDir)) records.push(...network.readRecords(pathInPod(pod)));
  } catch (error) {
    // What cannot be read could belong to a pod that runs: nothing is unused then.
    return [error instanceof RktError ? error : new RktError('IO', 'cannot read what pods have of networks', { cause: error })];
  }
  const findings: Finding[] = [];
  for (const { configuration } of own) {
    const valid = records.filter((record) => record.network.name === configuration.name).map(({ attachment }) => attachment);
    findings.push(await network.collectUnused(configuration, valid, { pluginDirs: directories.plugins }));
  }
  return findings.filter((finding) => finding instanceof RktError);
}
