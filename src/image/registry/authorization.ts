/** What proves who is asking. */
export type Credentials =
  | { kind: 'basic'; user: string; password: string }
  /** Sent as it is: `Authorization: Bearer`. */
  | { kind: 'bearer'; token: string }
  /** Exchanged for access tokens at the registry's token server. */
  | { kind: 'identity-token'; token: string };

export function authorizationOf(credentials: Exclude<Credentials, { kind: 'identity-token' }>): string {
  if (credentials.kind === 'bearer') return `Bearer ${credentials.token}`;
  return `Basic ${Buffer.from(`${credentials.user}:${credentials.password}`).toString('base64')}`;
}
