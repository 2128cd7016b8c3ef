/** The pod's network devices as the host described them. */
import { AF_INET, IFF_UP, SIOCSIFFLAGS, SOCK_DGRAM, ifreq_ifr_flags, sizeof_ifreq } from '../../runtime/abi.gen.ts';
import { close, ioctl } from '../../runtime/linux/fds.ts';
import { Netlink, parseCidr, parseIp, parseMac, type Link } from '../../runtime/linux/netlink.ts';
import { socket } from '../../runtime/linux/sockets.ts';
import type { Network, NetworkInterface } from '../../src/wire/messages.ts';

/** By the old request (netdevice(7)): netlink would run through much more of the kernel, which costs time in every start. */
export function raiseLoopback(): void {
  const fd = socket(AF_INET, SOCK_DGRAM);
  try {
    const request = new Uint8Array(sizeof_ifreq);
    request.set(sys.utf8('lo'), 0);
    new DataView(request.buffer).setUint16(ifreq_ifr_flags, IFF_UP, true);
    ioctl(fd, SIOCSIFFLAGS, request, 'raise lo');
  } finally {
    close(fd);
  }
}

export function configureNetwork(network: Network | null): void {
  if (network === null || network.interfaces.length === 0) return;
  const netlink = new Netlink();
  try {
    const links = netlink.links();
    for (const item of network.interfaces) configureInterface(netlink, links, item);
  } finally {
    netlink.close();
  }
}

function configureInterface(netlink: Netlink, links: readonly Link[], item: NetworkInterface): void {
  const link = links.find(({ mac }) => mac === item.mac.toLowerCase());
  if (link === undefined) throw new Error(`no network device with address ${item.mac}`);
  if (link.name !== item.name) {
    netlink.setLink(link.index, { up: false });
    netlink.setLink(link.index, { name: item.name });
    netlink.setLink(link.index, { up: true, mtu: item.mtu });
  } else if (item.mtu !== undefined || (link.flags & IFF_UP) === 0) {
    netlink.setLink(link.index, { up: true, mtu: item.mtu });
  }
  for (const address of item.addresses) {
    const { address: bytes, prefixBits } = parseCidr(address);
    netlink.addAddress(link.index, bytes, { prefixBits });
  }
  const ip = (text: string | undefined): Uint8Array | undefined => (text === undefined ? undefined : parseIp(text));
  for (const { destination, gateway, source, metric } of item.routes) {
    netlink.addRoute({ linkIndex: link.index, destination: parseCidr(destination), gateway: ip(gateway), source: ip(source), metric });
  }
  for (const { address, mac } of item.neighbours) netlink.addNeighbour(link.index, parseIp(address), parseMac(mac));
}

export function resolvConf({ nameservers, search, options, domain }: Network['dns']): string {
  const lines = nameservers.map((server) => `nameserver ${server}`);
  if (domain !== undefined && domain !== '') lines.unshift(`domain ${domain}`);
  if (search.length > 0) lines.push(`search ${search.join(' ')}`);
  if (options.length > 0) lines.push(`options ${options.join(' ')}`);
  return `${lines.join('\n')}\n`;
}

export function hostsFile(hostname: string, hosts: Network['hosts']): string {
  const lines = [
    `127.0.0.1 localhost ${hostname}`,
    `::1 localhost ip6-localhost ip6-loopback ${hostname}`,
    ...hosts.map(({ address, names }) => `${address} ${names.join(' ')}`),
  ];
  return `${lines.join('\n')}\n`;
}
