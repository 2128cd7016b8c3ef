/** The pod's network devices as the host described them. */
import { IFF_UP } from '../../runtime/abi.gen.ts';
import { Netlink, parseCidr, parseIp, type Link } from '../../runtime/linux/netlink.ts';
import type { Network, NetworkInterface } from '../../src/wire/messages.ts';

/** Every device, the loopback among them. A device that then needs another name goes down for it again. */
export function raiseLinks(): void {
  const netlink = new Netlink();
  try {
    for (const link of netlink.links()) netlink.setLink(link.index, { up: true });
  } finally {
    netlink.close();
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
  for (const { destination, gateway } of item.routes) {
    netlink.addRoute({ linkIndex: link.index, destination: parseCidr(destination), gateway: gateway === undefined ? undefined : parseIp(gateway) });
  }
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
