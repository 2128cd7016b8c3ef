/**
 * Connects an interface that CNI plugins have made in the pod's namespace with a virtual machine's network card.
 *
 *   redirect   traffic control sends what arrives at one at once out of the other
 *   bridge     a bridge in the namespace has both as its ports
 *   macvtap    a macvtap device on top of the interface takes what arrives there
 *
 * The interface keeps its addresses, by which plugins recognise it when they check or delete it; only the guest answers for them.
 */
import { closeSync, writeFileSync } from 'node:fs';
import { RktError } from '../error.ts';
import { isErrno } from '../linux/errno.ts';
import { insideNetworkNamespace } from '../linux/network-namespace.ts';
import { Netlink } from '../linux/netlink.ts';
import type { Link } from '../linux/netlink.ts';
import { openMacvtap, openTap } from '../linux/tap-device.ts';
import { redirectTraffic } from '../linux/traffic-redirect.ts';
import { guestInterface } from './guest-interface.ts';
import type { GuestInterface } from './guest-interface.ts';
import type { TapMode } from './tap-mode.ts';

export interface TapRequest {
  namespacePath: string;
  ifName: string;
  /** Of the interface among those of the pod; keeps names apart. */
  index: number;
  /** One descriptor each. */
  queueCount: number;
  /** Absent: redirect, and a bridge where the kernel cannot do that. */
  mode?: TapMode;
}

export interface Tap {
  mode: TapMode;
  /** Open descriptors, with virtio headers before the packets. */
  fds: number[];
  guest: GuestInterface;
}

/** Throws RktError when the interface is not there or cannot be connected. */
export function connectTap(request: TapRequest): Tap {
  return insideNetworkNamespace(request.namespacePath, () => {
    using netlink = new Netlink();
    const link = netlink.link(request.ifName);
    if (link.mac === '') throw new RktError('UNSUPPORTED', `the network interface ${link.name} has no MAC address: a virtual machine cannot be connected to it`);
    const connection: Connection = { netlink, link, request, guest: guestInterface(netlink, link) };
    switch (request.mode) {
      case 'macvtap':
        return connectByMacvtap(connection);
      case 'bridge':
        return connectByBridge(connection);
      case 'redirect':
        return connectByRedirect(connection) ?? unsupported('this kernel cannot redirect traffic (needs CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_U32, CONFIG_NET_ACT_MIRRED)');
      case undefined:
        // A macvlan or ipvlan interface cannot be the port of a bridge.
        return connectByRedirect(connection) ?? connectByBridge(connection);
    }
  });
}

interface Connection {
  netlink: Netlink;
  link: Link;
  request: TapRequest;
  guest: GuestInterface;
}

function connectByRedirect({ netlink, link, request, guest }: Connection): Tap | undefined {
  const { fds, tap } = makeTap(netlink, request);
  if (!redirectTraffic(netlink, { fromIndex: tap.index, toIndex: link.index }) || !redirectTraffic(netlink, { fromIndex: link.index, toIndex: tap.index })) {
    for (const fd of fds) closeSync(fd); // and with them goes the device
    return undefined;
  }
  return { mode: 'redirect', fds, guest };
}

function connectByBridge({ netlink, link, request, guest }: Connection): Tap {
  const name = `rktbr${request.index}`;
  const { fds, tap } = makeTap(netlink, request);
  netlink.addLink({ kind: 'bridge', name });
  const bridge = netlink.link(name);
  silenceIpv6(name);
  // The addresses of the interface are this namespace's, too, and would be answered for on the bridge.
  setSysctl(`ipv4/conf/${name}/arp_ignore`, '1');
  // The guest has the interface's MAC address now, and a bridge keeps those of its ports for itself. IPv6 addresses would go with the link.
  setSysctl(`ipv6/conf/${link.name}/keep_addr_on_down`, '1');
  netlink.setLink(link.index, { isUp: false });
  netlink.setLink(link.index, { mac: otherMac(link.mac) });
  for (const port of [link, tap]) netlink.setLink(port.index, { masterIndex: bridge.index, isUp: true });
  netlink.setLink(bridge.index, { isUp: true });
  return { mode: 'bridge', fds, guest };
}

function connectByMacvtap({ netlink, link, request, guest }: Connection): Tap {
  const name = `rkttap${request.index}`;
  netlink.addLink({ kind: 'macvtap', name, lowerIndex: link.index });
  const tap = netlink.link(name);
  silenceIpv6(name);
  netlink.setLink(tap.index, { isUp: true });
  const fds = openMacvtap(tap, { nodePath: `/dev/rkt-tap-${process.pid}-${request.index}`, queueCount: request.queueCount });
  return { mode: 'macvtap', fds, guest };
}

function makeTap(netlink: Netlink, { index, queueCount }: TapRequest): { fds: number[]; tap: Link } {
  const name = `rkttap${index}`;
  const fds = openTap(name, queueCount);
  const tap = netlink.link(name);
  silenceIpv6(name);
  netlink.setLink(tap.index, { isUp: true });
  return { fds, tap };
}

/** No link-local address, no router solicitations: the host's side of a cable has nothing to say to the guest. */
function silenceIpv6(linkName: string): void {
  setSysctl(`ipv6/conf/${linkName}/disable_ipv6`, '1');
}

/** This thread's namespace decides whose setting that is. */
function setSysctl(name: string, value: string): void {
  try {
    writeFileSync(`/proc/sys/net/${name}`, value);
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'EROFS')) throw error; // a kernel without IPv6, or settings that are nobody's to change
  }
}

/** The same address with the lowest bit of its last byte turned: still unicast, still of the same administrator. */
function otherMac(mac: string): string {
  const last = Number.parseInt(mac.slice(-2), 16) ^ 1;
  return `${mac.slice(0, -2)}${last.toString(16).padStart(2, '0')}`;
}

function unsupported(message: string): never {
  throw new RktError('UNSUPPORTED', message);
}
