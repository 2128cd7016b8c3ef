/** What fetching over a network needs of the surroundings, made once for a command and only when something is fetched. */
import { join } from 'node:path';
import { fetchWhole } from './http/body.ts';
import { createHttpClient } from './http/client.ts';
import type { HttpClient } from './http/types.ts';
import type { RetryPolicy } from './http/retry.ts';
import { authorizationOf } from './registry/authorization.ts';
import type { Credentials } from './registry/authorization.ts';
import { domainCredentials, registryCredentials } from './registry/credentials.ts';
import type { AuthConfig } from './registry/credentials.ts';
import { readRegistriesConf, registriesConfPaths } from './registry/registries-conf.ts';
import type { RegistriesConf } from './registry/registries-conf.ts';
import type { FetchDocument, InsecureFetch, VerificationOptions } from './verification.ts';

export interface NetworkSettings {
  insecure: InsecureFetch;
  /** Directories of configuration, lowest precedence first. */
  configDirs: readonly string[];
  localConfigDir: string;
  dataDir: string;
  /** Entries of `auth.d`. */
  authConfigs: readonly AuthConfig[];
  trustKeysFromHttps: boolean;
  userAgent: string;
  env: Record<string, string | undefined>;
  /** One line for standard error. */
  onMessage(message: string): void;
  retry?: RetryPolicy;
  /** How long a server may be silent. */
  silenceMs?: number;
}

export interface Network {
  readonly settings: NetworkSettings;
  readonly http: HttpClient;
  /** Read at the first call. */
  registries(): Promise<RegistriesConf>;
  credentials(host: string, repository: string): Promise<Credentials | undefined>;
  readonly verification: VerificationOptions;
  /** `Authorization` for a web server, from `auth.d`. */
  authorizationFor(url: URL): Record<string, string>;
  close(): void;
}

const SYSTEM_CERTS_DIRS = ['/etc/containers/certs.d', '/etc/docker/certs.d'];

export function openNetwork(settings: NetworkSettings): Network {
  const http = createHttpClient({
    userAgent: settings.userAgent,
    verifyTls: !settings.insecure.tls,
    certsDirs: [...settings.configDirs.map((directory) => join(directory, 'certs.d')).reverse(), ...SYSTEM_CERTS_DIRS],
    env: settings.env,
    onRetry: settings.onMessage,
    ...(settings.retry === undefined ? {} : { retry: settings.retry }),
    ...(settings.silenceMs === undefined ? {} : { silenceMs: settings.silenceMs }),
  });
  let registries: Promise<RegistriesConf> | undefined;
  const readRegistries = (): Promise<RegistriesConf> => (registries ??= readRegistriesConf(registriesConfPaths(settings.env)));
  const authorizationFor = (url: URL): Record<string, string> => authorizationOfDomain(url, settings);

  const fetchDocument: FetchDocument = async (url, { limitBytes, accept }) => {
    const { response, bytes } = await fetchWhole(http, {
      url: new URL(url),
      allowHttp: settings.insecure.http,
      headers: (hop) => ({ ...(accept === undefined ? {} : { accept }), ...authorizationFor(hop) }),
    }, limitBytes);
    return { status: response.status, bytes, url: response.url.href, headers: response.headers };
  };

  return {
    settings,
    http,
    registries: readRegistries,
    credentials: async (host, repository) =>
      await registryCredentials(host, repository, { authConfigs: settings.authConfigs, credentialHelpers: (await readRegistries()).credentialHelpers, env: settings.env }),
    authorizationFor,
    verification: {
      insecure: settings.insecure,
      configDirs: settings.configDirs,
      localConfigDir: settings.localConfigDir,
      dataDir: settings.dataDir,
      trustKeysFromHttps: settings.trustKeysFromHttps,
      fetchDocument,
      onMessage: settings.onMessage,
    },
    close: () => http.close(),
  };
}

/** Secrets go over https only, whatever else may be fetched without. */
function authorizationOfDomain(url: URL, { authConfigs }: NetworkSettings): Record<string, string> {
  if (url.protocol !== 'https:') return {};
  const credentials = domainCredentials(url.host, authConfigs);
  return credentials === undefined || credentials.kind === 'identity-token' ? {} : { authorization: authorizationOf(credentials) };
}
