/** What the guest has to configure on one network card: what the plugins have configured in the pod's namespace, read from there. */
import { formatIpAddress } from '../linux/ip-address.ts';
import type { Link, Neighbour, Netlink, Route } from '../linux/netlink.ts';

export interface GuestInterface {
  /** Lower-case colon form; how the guest finds the card. */
  mac: string;
  name: string;
  mtu: number;
  /** CIDR form. */
  addresses: string[];
  /** All there are: addresses bring none of their own. Those without a gateway first, since the others need them. */
  routes: Route[];
  /** Neighbours that nobody would answer for. */
  neighbours: Neighbour[];
}

export function guestInterface(netlink: Netlink, link: Link): GuestInterface {
  // The guest makes its own link-local address, from the same MAC address.
  const addresses = netlink.addresses(link.index).filter(({ isLinkLocal, address }) => address.length === 4 || !isLinkLocal);
  const routes = netlink.routes(link.index);
  return {
    mac: link.mac,
    name: link.name,
    mtu: link.mtu,
    addresses: addresses.map(({ address, prefixBits }) => `${formatIpAddress(address)}/${prefixBits}`),
    routes: [...routes.filter(({ gateway }) => gateway === undefined), ...routes.filter(({ gateway }) => gateway !== undefined)],
    neighbours: netlink.permanentNeighbours(link.index),
  };
}
