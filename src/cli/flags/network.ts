/** Flags about networks, ports and names. */
import { isIpAddress } from '../../schema/ip-address.ts';
import { isACName } from '../../schema/names.ts';
import type { ExposedPort } from '../../schema/index.ts';
import { list, wholeNumber } from './values.ts';

export interface NetworkChoice {
  name: string;
  /** As given behind the colon, `k=v;k2=v2`. */
  args?: string;
}

const WITHOUT_ARGUMENTS: readonly string[] = ['all', 'host', 'none', 'user', 'default-restricted'];

/** `--net=NAME[:ARGS][,…]` */
export function networks(value: string): NetworkChoice[] {
  return value.split(',').map((part) => {
    const colon = part.indexOf(':');
    const name = colon === -1 ? part : part.slice(0, colon);
    if (name === '') throw new Error('netname must not be empty');
    if (colon === -1) return { name };
    const args = part.slice(colon + 1);
    if (WITHOUT_ARGUMENTS.includes(name)) throw new Error(`arguments are not supported by special netname ${JSON.stringify(name)}`);
    const parts = args.split(';');
    if (!parts.every((entry) => /^[^=]+=/.test(entry))) throw new Error(`network ${JSON.stringify(name)} provided with invalid arguments: [${parts.join(' ')}]`);
    return { name, args };
  });
}

/** All `--net` of a command together; each name once. Nothing given means `default`. */
export function combineNetworks(lists: readonly (readonly NetworkChoice[])[]): NetworkChoice[] {
  const all = lists.flat();
  if (all.length === 0) return [{ name: 'default' }];
  const seen = new Set<string>();
  for (const { name } of all) {
    if (seen.has(name)) throw new Error(`found duplicate netname ${JSON.stringify(name)}`);
    seen.add(name);
  }
  return all;
}

/** `--port=NAME:[HOSTIP:]HOSTPORT`; an IPv6 address may be in brackets. */
export function exposedPort(value: string): ExposedPort {
  const [first, last] = [value.indexOf(':'), value.lastIndexOf(':')];
  const name = value.slice(0, Math.max(first, 0));
  if (!isACName(name)) throw new Error('expected NAME:[HOSTIP:]HOSTPORT with the name of a port of an app');
  const hostPort = wholeNumber(1, 65535)(value.slice(last + 1));
  if (first === last) return { name, hostPort };
  const hostIP = value.slice(first + 1, last).replace(/^\[(.*)\]$/, '$1');
  if (!isIpAddress(hostIP)) throw new Error(`${JSON.stringify(hostIP)} is not an IP address`);
  return { name, hostPort, hostIP };
}

/** `--dns`: addresses, or one of rkt's two words. */
export function dnsServers(value: string): string[] {
  const servers = list(value);
  const wrong = servers.find((server) => !isIpAddress(server) && server !== 'host' && server !== 'none');
  if (wrong !== undefined) throw new Error(`${JSON.stringify(wrong)} is not an IP address`);
  return servers;
}

/** Null: the host's own file. */
export type HostsEntry = { address: string; name: string } | null;

/** `--hosts-entry=IP=NAME[,…]` or `host` */
export function hostsEntries(value: string): HostsEntry[] {
  return list(value).map((entry) => {
    if (entry === 'host') return null;
    const [address = '', name = '', ...rest] = entry.split('=');
    if (!isIpAddress(address) || !/^[A-Za-z0-9._-]+$/.test(name) || rest.length > 0) throw new Error('expected IP=NAME');
    return { address, name };
  });
}
