/** Where the metadata service is found. */
import { dirname, join } from 'node:path';

export const METADATA_PORT = 18112;
const REGISTRATION_SOCKET = '/run/rkt/metadata-svc.sock';
/** Names the registration socket where it is not in its usual place. */
export const SOCKET_VARIABLE = 'RKT_METADATA_SOCKET';

/** Below the pod directory: the guest's connections to port 18112 of its host arrive here (docs/wire-protocol.md). */
export const GUEST_LINK = `vsock.sock_${METADATA_PORT}`;

export function registrationSocket(env: Readonly<Record<string, string | undefined>>): string {
  const chosen = env[SOCKET_VARIABLE];
  return chosen === undefined || chosen === '' ? REGISTRATION_SOCKET : chosen;
}

/** Everything else the service keeps is beside its registration socket. */
export function hmacKeyPath(socket: string): string {
  return join(dirname(socket), 'metadata-hmac-key');
}

export function podSocketDirectory(socket: string): string {
  return join(dirname(socket), 'metadata');
}

export function podSocket(socket: string, uuid: string): string {
  return join(podSocketDirectory(socket), `${uuid}.sock`);
}
