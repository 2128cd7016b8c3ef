/** An app's environment: what systemd gave rkt's apps, then the manifest's, then what the caller of `enter` adds. */
import type { Identity } from './users.ts';

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export interface EnvironmentOptions {
  appName: string;
  identity: Identity;
  variables: readonly { name: string; value: string }[];
  /** Absent: the pod is not known to a metadata service. */
  metadataUrl?: string;
  /** Later than everything else. */
  extra?: Record<string, string>;
  hasTerminal: boolean;
}

export function buildEnvironment({ appName, identity, variables, metadataUrl, extra, hasTerminal }: EnvironmentOptions): Map<string, string> {
  const environment = new Map<string, string>([['PATH', DEFAULT_PATH]]);
  const { account } = identity;
  environment.set('HOME', account?.home || (identity.uid === 0 ? '/root' : '/'));
  if (account !== undefined) {
    environment.set('USER', account.name);
    environment.set('LOGNAME', account.name);
    if (account.shell !== '') environment.set('SHELL', account.shell);
  }
  if (hasTerminal) environment.set('TERM', 'xterm');
  for (const { name, value } of variables) environment.set(name, value);
  environment.set('AC_APP_NAME', appName);
  if (metadataUrl !== undefined) environment.set('AC_METADATA_URL', metadataUrl);
  for (const [name, value] of Object.entries(extra ?? {})) environment.set(name, value);
  return environment;
}

/** Where the programs of a manifest are looked for that have no slash in their name: rkt's rule (stage1/init/common/path.go). */
export function searchPathOf({ environment, workingDirectory }: { environment: EnvironmentOptions['variables']; workingDirectory: string }): string {
  return environment.find(({ name }) => name === 'PATH')?.value || `${workingDirectory}:/bin:/usr/bin`;
}

export const environmentStrings = (environment: ReadonlyMap<string, string>): string[] => Array.from(environment, ([name, value]) => `${name}=${value}`);
