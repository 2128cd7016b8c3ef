/** Ports of the host that lead to ports of the pod. Pure. */
import { RktError } from '../error.ts';
import type { PortProtocol } from '../linux/port-reservation.ts';
import { arrayOf, integerBetween, objectOf, oneOf, optional, stringValue, withDefault } from '../schema/check.ts';
import type { Check } from '../schema/check.ts';
import type { PodManifest, Port } from '../schema/index.ts';

/** In the shape of the capability argument `portMappings` (CNI conventions). */
export interface PortMapping {
  hostPort: number;
  containerPort: number;
  protocol: PortProtocol;
  hostIP?: string;
}

const MAX_PORT = 65535;
const PROTOCOLS: readonly PortProtocol[] = ['tcp', 'udp', 'sctp'];

const portNumber = integerBetween(1, MAX_PORT);

/** Mappings as they are kept. */
export const keptPortMappings: Check<PortMapping[]> = withDefault(
  arrayOf(objectOf<PortMapping>({ hostPort: portNumber, containerPort: portNumber, protocol: oneOf(PROTOCOLS), hostIP: optional(stringValue) })),
  [],
);

/** Every mapping of the manifest's `ports`; one with a `count` is that many, one behind the other. Throws RktError USAGE. */
export function portMappings(manifest: PodManifest): PortMapping[] {
  const mappings = (manifest.ports ?? []).flatMap(({ name, hostPort, hostIP, podPort }) => {
    const port = podPort ?? findPort(manifest, name);
    const protocol = PROTOCOLS.find((known) => known === port.protocol.toLowerCase());
    if (protocol === undefined) throw new RktError('USAGE', `port ${JSON.stringify(name)}: the protocol ${JSON.stringify(port.protocol)} cannot be forwarded`, { hint: `${PROTOCOLS.join(', ')} can` });
    if (hostPort + port.count - 1 > MAX_PORT) throw new RktError('USAGE', `port ${JSON.stringify(name)}: ${port.count} ports from ${hostPort} on are more than there are`);
    return Array.from({ length: port.count }, (_, index) => ({
      hostPort: hostPort + index,
      containerPort: port.port + index,
      protocol,
      ...(hostIP === undefined || hostIP === '' ? {} : { hostIP }),
    }));
  });
  rejectCollisions(mappings);
  return mappings;
}

/** The port of that name of some app. Throws RktError USAGE in rkt's words. */
function findPort(manifest: PodManifest, name: string): Port {
  const found = manifest.apps.flatMap(({ app }) => app?.ports ?? []).find((port) => port.name === name);
  if (found === undefined) throw new RktError('USAGE', `port name ${JSON.stringify(name)} could not be found in any apps`);
  return found;
}

function rejectCollisions(mappings: readonly PortMapping[]): void {
  mappings.forEach((mapping, index) => {
    const earlier = mappings.slice(0, index).find((other) => collide(mapping, other));
    if (earlier !== undefined) throw new RktError('USAGE', `port ${hostSide(mapping)} already mapped to pod port ${earlier.containerPort}`);
  });
}

/** Whether two mappings want the same port of the host. */
export function collide(a: PortMapping, b: PortMapping): boolean {
  return a.protocol === b.protocol && a.hostPort === b.hostPort && (isAnyAddress(a.hostIP) || isAnyAddress(b.hostIP) || a.hostIP === b.hostIP);
}

function isAnyAddress(address: string | undefined): boolean {
  return address === undefined || address === '0.0.0.0' || address === '::';
}

/** `tcp-0.0.0.0:80` */
export function hostSide({ protocol, hostIP, hostPort }: PortMapping): string {
  return `${protocol}-${hostIP ?? '0.0.0.0'}:${hostPort}`;
}
