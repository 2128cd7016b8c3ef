/**
 * Who to be for a registry or a web server. rkt's `auth.d` comes first, then the files of the containers tools and Docker
 * (containers-auth.json(5)) with their credential helpers.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { RktError } from '../../error.ts';
import { mapOf, objectOf, optional, parseDocument, stringValue } from '../../schema/check.ts';
import { errnoName, fileError } from '../../store/fs-error.ts';
import { DEFAULT_REGISTRY } from '../docker-reference.ts';
import type { Credentials } from './authorization.ts';
import { askHelper } from './credential-helper.ts';

/** One file of `auth.d` for one domain or registry, as `readConfig` gives it. */
export type AuthConfig = Readonly<Record<string, unknown>>;

export interface CredentialSources {
  /** rkt's own configuration. */
  authConfigs: readonly AuthConfig[];
  /** Helpers of `registries.conf`, asked last. */
  credentialHelpers: readonly string[];
  env: Record<string, string | undefined>;
}

/** Docker's name for Docker Hub in its files. */
const DOCKER_HUB_KEYS = ['docker.io', 'index.docker.io', 'registry-1.docker.io', 'https://index.docker.io/v1/'];

/** For `HOST[:PORT]` and a repository on it. Undefined: nobody in particular. Throws RktError BAD_INPUT. */
export async function registryCredentials(host: string, repository: string, sources: CredentialSources): Promise<Credentials | undefined> {
  const hosts = host === DEFAULT_REGISTRY ? DOCKER_HUB_KEYS : [host];
  const own = sources.authConfigs.find((config) => config['rktKind'] === 'dockerAuth' && listOf(config, 'registries').some((registry) => hosts.includes(registry)));
  if (own !== undefined) return basicOf(own, `auth.d: dockerAuth for ${host}`);
  const domain = domainCredentials(host, sources.authConfigs);
  if (domain !== undefined) return domain;
  for (const path of authFiles(sources.env)) {
    const found = await fromAuthFile(path, { hosts, repository, env: sources.env });
    if (found !== undefined) return found;
  }
  for (const helper of sources.credentialHelpers) {
    const found = helper === 'containers-auth.json' ? undefined : await askHelper(helper, host, sources.env);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Of `auth.d` for a web server. Throws RktError UNSUPPORTED for the kind `aws`. */
export function domainCredentials(host: string, authConfigs: readonly AuthConfig[]): Credentials | undefined {
  const config = authConfigs.find((candidate) => candidate['rktKind'] === 'auth' && listOf(candidate, 'domains').includes(host));
  if (config === undefined) return undefined;
  const origin = `auth.d: auth for ${host}`;
  switch (config['type']) {
    case 'basic':
      return basicOf(config, origin);
    case 'oauth':
      return { kind: 'bearer', token: fieldOf(config, 'token', origin) };
    case 'aws':
      throw new RktError('UNSUPPORTED', `${origin}: type "aws" is not supported: it signs requests in a way that Amazon has switched off`);
    default:
      throw new RktError('BAD_INPUT', `${origin}: type: expected basic or oauth, found ${JSON.stringify(config['type'])}`);
  }
}

function listOf(config: AuthConfig, name: string): string[] {
  const list = config[name];
  return Array.isArray(list) ? list.filter((entry) => typeof entry === 'string') : [];
}

function basicOf(config: AuthConfig, origin: string): Credentials {
  return { kind: 'basic', user: fieldOf(config, 'user', origin), password: fieldOf(config, 'password', origin) };
}

function fieldOf(config: AuthConfig, name: string, origin: string): string {
  const credentials = config['credentials'];
  const value = typeof credentials === 'object' && credentials !== null ? (credentials as Record<string, unknown>)[name] : undefined;
  if (typeof value !== 'string' || value === '') throw new RktError('BAD_INPUT', `${origin}: credentials.${name}: expected a string`);
  return value;
}

function authFiles(env: Record<string, string | undefined>): string[] {
  const own = env['REGISTRY_AUTH_FILE'];
  if (own !== undefined && own !== '') return [own];
  const home = env['HOME'];
  const runtime = env['XDG_RUNTIME_DIR'];
  const config = env['XDG_CONFIG_HOME'] ?? (home === undefined ? undefined : join(home, '.config'));
  const docker = env['DOCKER_CONFIG'] ?? (home === undefined ? undefined : join(home, '.docker'));
  return [
    ...(runtime === undefined ? [] : [join(runtime, 'containers/auth.json')]),
    '/run/containers/0/auth.json',
    ...(config === undefined ? [] : [join(config, 'containers/auth.json')]),
    ...(docker === undefined ? [] : [join(docker, 'config.json')]),
  ];
}

interface AuthEntry {
  auth?: string;
  identitytoken?: string;
  registrytoken?: string;
}

interface AuthFile {
  auths?: Record<string, AuthEntry>;
  credHelpers?: Record<string, string>;
  credsStore?: string;
}

const authFile = objectOf<AuthFile>({
  auths: optional(mapOf(objectOf<AuthEntry>({ auth: optional(stringValue), identitytoken: optional(stringValue), registrytoken: optional(stringValue) }))),
  credHelpers: optional(mapOf(stringValue)),
  credsStore: optional(stringValue),
});

interface Wanted {
  hosts: readonly string[];
  repository: string;
  env: Record<string, string | undefined>;
}

async function fromAuthFile(path: string, { hosts, repository, env }: Wanted): Promise<Credentials | undefined> {
  const text = textOf(path);
  if (text === undefined || text.trim() === '') return undefined;
  const { auths = {}, credHelpers = {}, credsStore } = parseDocument(text, authFile, { origin: path, code: 'BAD_INPUT' });
  for (const host of hosts) {
    const helper = Object.hasOwn(credHelpers, host) ? credHelpers[host] : undefined;
    if (helper !== undefined) return await askHelper(helper, host, env);
  }
  const entries = new Map(Object.entries(auths).map(([key, entry]) => [normalizedKey(key), entry]));
  for (const host of hosts) {
    for (const key of keysOf(normalizedKey(host), repository)) {
      const found = entries.get(key);
      const credentials = found === undefined ? undefined : credentialsOf(found, `${path}: auths[${JSON.stringify(key)}]`);
      if (credentials !== undefined) return credentials;
    }
  }
  if (credsStore === undefined || credsStore === '') return undefined;
  for (const host of hosts) {
    const credentials = await askHelper(credsStore, host, env);
    if (credentials !== undefined) return credentials;
  }
  return undefined;
}

/** `host/a/b`, `host/a`, `host`: the longest that has an entry counts. */
function keysOf(host: string, repository: string): string[] {
  const parts = repository.split('/');
  return [...parts.map((_, index) => `${host}/${parts.slice(0, parts.length - index).join('/')}`), host];
}

/** Older files have URLs where newer ones have hosts. */
function normalizedKey(key: string): string {
  return key.replace(/^https?:\/\//, '').replace(/\/v[12]\/?$/, '').replace(/\/$/, '');
}

function credentialsOf(entry: AuthEntry, origin: string): Credentials | undefined {
  if (entry.identitytoken !== undefined && entry.identitytoken !== '') return { kind: 'identity-token', token: entry.identitytoken };
  if (entry.registrytoken !== undefined && entry.registrytoken !== '') return { kind: 'bearer', token: entry.registrytoken };
  // Docker leaves an empty entry where the secret is in a credential store.
  if (entry.auth === undefined || entry.auth === '') return undefined;
  const decoded = Buffer.from(entry.auth, 'base64').toString('utf8');
  const colon = decoded.indexOf(':');
  if (colon <= 0) throw new RktError('BAD_INPUT', `${origin}: auth: expected USER:PASSWORD in base64`);
  return { kind: 'basic', user: decoded.slice(0, colon), password: decoded.slice(colon + 1).replace(/\0+$/, '') };
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    // A home directory that cannot be read (another user's) has nothing for this one.
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes(errnoName(error) ?? '')) return undefined;
    throw fileError(error, path);
  }
}
