/** Which kind of network a pod gets. Decided before anything is made, so that what cannot be is refused at once. */
import { RktError } from '../error.ts';
import type { ChosenNetwork, NetworkChoice, NetworkDirectories } from '../network/index.ts';

export type NetworkPlan =
  | { kind: 'none' }
  /** That of this host: for stage1 images that run no virtual machine. */
  | { kind: 'host' }
  /** QEMU's own user-mode network: needs nothing from the host. */
  | { kind: 'user' }
  | { kind: 'cni'; networks: readonly ChosenNetwork[]; pluginDirs: readonly string[] };

export interface PlanningOptions {
  /** Only root can make network namespaces: others get the user-mode network as their default. */
  isRoot: boolean;
  directories(): Promise<NetworkDirectories>;
  /** Hears of configurations that could not be used. */
  warn(message: string): void;
}

/** Throws RktError in rkt's words where rkt has some. */
export async function planNetworks(choices: readonly NetworkChoice[], { isRoot, directories, warn }: PlanningOptions): Promise<NetworkPlan> {
  const names = choices.map(({ name }) => name);
  const alone = names.find((name) => name === 'none' || name === 'user' || name === 'host');
  if (alone !== undefined && names.length > 1) throw new RktError('USAGE', `--net=${names.join(',')}: ${alone} cannot be combined with other networks`);
  if (alone !== undefined) return { kind: alone };
  if (!isRoot) {
    if (names.length === 1 && names[0] === 'default') return { kind: 'user' };
    throw new RktError('PERMISSION', `only root can join the network ${names.join(', ')}`, { hint: '--net=user and --net=none are for everybody' });
  }
  const network = await import('../network/index.ts');
  const { configurations, plugins } = await directories();
  const known = network.readNetworks(configurations);
  for (const { message } of known.problems) warn(message);
  return { kind: 'cni', networks: network.chooseNetworks(choices, known), pluginDirs: plugins };
}
