/** Keeping ports of the host, and leading them to the pod by a plugin. */
import { closeSync } from 'node:fs';
import { RktError } from '../error.ts';
import { reservePort } from '../linux/port-reservation.ts';
import type { PluginConfiguration } from './cni/configuration.ts';
import type { ChosenNetwork } from './networks.ts';
import { hostSide } from './port-mappings.ts';
import type { PortMapping } from './port-mappings.ts';

const CAPABILITY = 'portMappings';

/**
 * Keeps the ports for as long as the descriptors are open, so that no program and no other pod can take them. Throws
 * RktError BUSY for the first that is taken; then none is kept.
 */
export function reservePorts(mappings: readonly PortMapping[]): number[] {
  const fds: number[] = [];
  try {
    for (const mapping of mappings) {
      const { protocol, hostPort: port, hostIP } = mapping;
      for (const address of hostIP === undefined ? ['0.0.0.0', '::'] : [hostIP]) {
        const reserved = reservePort({ protocol, address, port });
        if (reserved === 'taken') throw new RktError('BUSY', `port ${hostSide(mapping)} is already in use on this host`, { hint: `\`ss -lnp 'sport = :${port}'\` shows by whom, unless it is another pod` });
        if (reserved !== null) fds.push(reserved);
      }
    }
  } catch (error) {
    for (const fd of fds) closeSync(fd);
    throw error;
  }
  return fds;
}

const PORTMAP: PluginConfiguration = {
  type: 'portmap',
  capabilities: [CAPABILITY],
  ipMasq: false,
  raw: { type: 'portmap', capabilities: { [CAPABILITY]: true }, snat: true },
};

/**
 * The networks with the one that forwards ports among them: it is the first whose plugins ask for port mappings; else
 * the portmap plugin goes behind those of the first that hides the pod behind the host, or of the last. Throws RktError USAGE when there is no network.
 */
export function withPortForwarding(networks: readonly ChosenNetwork[]): { networks: ChosenNetwork[]; forwarding: ChosenNetwork } {
  const asking = networks.find(({ configuration }) => configuration.plugins.some(({ capabilities }) => capabilities.includes(CAPABILITY)));
  if (asking !== undefined) return { networks: [...networks], forwarding: asking };
  const chosen = networks.find(({ configuration }) => configuration.plugins.some(({ ipMasq }) => ipMasq)) ?? networks.at(-1);
  if (chosen === undefined) throw new RktError('USAGE', "--port flag does not work with 'none' networking");
  const { configuration } = chosen;
  const forwarding = { ...chosen, configuration: { ...configuration, plugins: [...configuration.plugins, PORTMAP] } };
  return { networks: networks.map((network) => (network === chosen ? forwarding : network)), forwarding };
}
