/** Pieces of text about pods that more than one command prints. */
import type { PodNetwork } from '../pod/index.ts';

/** `default:ip4=172.16.28.2, …` */
export function networksText(networks: readonly PodNetwork[]): string {
  return networks.map(({ netName, ip }) => `${netName}:ip4=${ip ?? ''}`).join(', ');
}

export function milliseconds(timeNs: bigint): number {
  return Number(timeNs / 1_000_000n);
}
