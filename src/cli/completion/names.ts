/** Names on this host. Whatever cannot be read has none: completion says nothing about errors. */
import { openPodByName, readPodManifest, walkPods } from '../../pod/index.ts';
import type { PodHandle } from '../../pod/index.ts';
import { openStore } from '../../store/index.ts';
import type { CommandContext } from '../context.ts';
import { networkDirectories } from '../network-directories.ts';
import type { Names } from './words.ts';

const BUILT_IN_NETWORKS: readonly string[] = ['default', 'default-restricted', 'user', 'none', 'all'];

export async function namesOfHost(dataDir: string, context: CommandContext): Promise<Names> {
  const { readNetworks } = await import('../../network/index.ts');
  const { configurations } = await networkDirectories(context);
  return {
    pods: (states) =>
      quietly(() => {
        const pods = [];
        for (const pod of walkPods(dataDir)) {
          if (states === undefined || states.includes(pod.state)) pods.push({ word: pod.uuid, help: [pod.state, ...quietly(() => appNames(pod))].join(' ') });
        }
        return pods;
      }),
    images: () => quietly(() => openStore(dataDir).listImages().map(({ id, name, labels }) => ({ id, name: labels['version'] === undefined ? name : `${name}:${labels['version']}` }))),
    networks: () => {
      const configured = quietly(() => readNetworks(configurations).networks.map(({ configuration }) => configuration.name));
      return [...new Set([...BUILT_IN_NETWORKS, ...configured])];
    },
    apps: (uuid) =>
      quietly(() => {
        using pod = openPodByName(dataDir, uuid);
        return appNames(pod);
      }),
  };
}

function appNames(pod: PodHandle): string[] {
  return readPodManifest(pod).apps.map(({ name }) => name);
}

function quietly<T>(read: () => T[]): T[] {
  try {
    return read();
  } catch {
    return [];
  }
}
