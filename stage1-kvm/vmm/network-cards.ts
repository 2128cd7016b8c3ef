/** The descriptors behind the guest's network cards. */
import { O_RDWR } from '../../runtime/abi.gen.ts';
import { setCloseOnExec } from '../../runtime/linux/fds.ts';
import { exists, open } from '../../runtime/linux/files.ts';
import { Stage1Error } from '../error.ts';
import type { PodNetwork } from '../options.ts';
import type { GuestNetwork } from '../pod/guest-network.ts';
import type { Accelerator } from './machine.ts';
import type { NetworkCard } from './qemu-arguments.ts';

const VHOST_NET = '/dev/vhost-net';

export interface NetworkCards {
  cards: NetworkCard[];
  /** What QEMU inherits. */
  fds: number[];
}

/** @throws Stage1Error when stage0 has opened a tap of which the pod directory says nothing */
export function networkCards(network: PodNetwork, { guestNetwork, accelerator }: { guestNetwork: GuestNetwork | null; accelerator: Accelerator }): NetworkCards {
  if (network.kind === 'none') return { cards: [], fds: [] };
  if (network.kind === 'user') return { cards: [{ kind: 'user', ports: network.ports }], fds: [] };
  const fds: number[] = [];
  const cards = network.taps.map((tap): NetworkCard => {
    const mac = guestNetwork?.interfaces.find(({ name }) => name === tap.name)?.mac;
    if (mac === undefined) throw new Stage1Error(`network.json: there is no interface "${tap.name}"`);
    for (const fd of tap.fds) setCloseOnExec(fd);
    // The kernel's own virtio back end pays where the guest's notifications reach the kernel anyway.
    const vhostFds = accelerator === 'kvm' && exists(VHOST_NET) ? tap.fds.map(() => open(VHOST_NET, O_RDWR)) : [];
    fds.push(...tap.fds, ...vhostFds);
    return { kind: 'tap', mac, fds: tap.fds, vhostFds };
  });
  return { cards, fds };
}
