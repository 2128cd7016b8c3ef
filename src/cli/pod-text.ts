/** Pieces of text about pods that more than one command prints. */
import type { PodNetwork } from '../pod/index.ts';

/** `default:ip4=172.16.28.2, …`; an IPv6 address is an entry of its own. */
export function networksText(networks: readonly PodNetwork[]): string {
  return networks
    .flatMap(({ netName, ip = '', ip6 }) => [...(ip === '' && ip6 !== undefined ? [] : [`${netName}:ip4=${ip}`]), ...(ip6 === undefined ? [] : [`${netName}:ip6=${ip6}`])])
    .join(', ');
}

export function milliseconds(timeNs: bigint): number {
  return Number(timeNs / 1_000_000n);
}
