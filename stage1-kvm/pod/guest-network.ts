/** What stage0 has prepared for the guest's network cards: network.json of the pod directory. */
import { exists, readText } from '../../runtime/linux/files.ts';
import type { Network, NetworkInterface } from '../../src/wire/messages.ts';
import { Stage1Error } from '../error.ts';

export const GUEST_NETWORK_PATH = 'network.json';

export interface GuestNetwork {
  interfaces: NetworkInterface[];
  /** Null when no network has said anything about names. */
  dns: Network['dns'] | null;
}

/** Null when stage0 has not set up any network. @throws Stage1Error */
export function readGuestNetwork(): GuestNetwork | null {
  return exists(GUEST_NETWORK_PATH) ? parseGuestNetwork(readText(GUEST_NETWORK_PATH)) : null;
}

/** Checks what this program uses itself; the agent checks every field. @throws Stage1Error */
export function parseGuestNetwork(text: string): GuestNetwork {
  let value: Partial<GuestNetwork> & { formatVersion?: unknown };
  try {
    value = JSON.parse(text) as typeof value;
  } catch (error) {
    throw new Stage1Error(`${GUEST_NETWORK_PATH}: ${(error as Error).message}`);
  }
  if (value.formatVersion !== 1) throw new Stage1Error(`${GUEST_NETWORK_PATH}: formatVersion must be 1`);
  const { interfaces, dns } = value;
  const isComplete = Array.isArray(interfaces) && interfaces.every((item) => typeof item === 'object' && item !== null && typeof item.name === 'string' && typeof item.mac === 'string');
  if (!isComplete) throw new Stage1Error(`${GUEST_NETWORK_PATH}: interfaces must be a list of objects with name and mac`);
  return { interfaces, dns: dns ?? null };
}
