/**
 * `registries.conf` of the containers tools, version 2 (containers-registries.conf(5)): where registries really are,
 * which are blocked, their mirrors, and names without a registry.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { RktError } from '../../error.ts';
import { arrayOf, booleanValue, fail, mapOf, objectOf, oneOf, optional, stringValue } from '../../schema/check.ts';
import type { Check } from '../../schema/check.ts';
import { errnoName, fileError } from '../../store/fs-error.ts';

export interface Mirror {
  /** `HOST[:PORT][/PATH]`, takes the place of the prefix. */
  location: string;
  insecure: boolean;
  pullFromMirror: 'all' | 'digest-only' | 'tag-only';
}

export interface RegistryRule {
  /** `HOST[:PORT][/PATH]` or `*.DOMAIN`. */
  prefix: string;
  location: string;
  insecure: boolean;
  blocked: boolean;
  mirrors: Mirror[];
}

export interface RegistriesConf {
  rules: RegistryRule[];
  /** Registries that a name without one is looked for in. */
  searchRegistries: string[];
  /** Names without a registry → `HOST/REPOSITORY`. */
  aliases: Record<string, string>;
  /** Names of credential helpers, in order. */
  credentialHelpers: string[];
}

interface MirrorTable {
  location?: string;
  insecure?: boolean;
  'pull-from-mirror'?: 'all' | 'digest-only' | 'tag-only';
}

interface RegistryTable {
  prefix?: string;
  location?: string;
  insecure?: boolean;
  blocked?: boolean;
  'mirror-by-digest-only'?: boolean;
  mirror?: MirrorTable[];
}

interface ConfigFile {
  'unqualified-search-registries'?: string[];
  'short-name-mode'?: string;
  'credential-helpers'?: string[];
  registry?: RegistryTable[];
  aliases?: Record<string, string>;
}

const mirrorTable: Check<MirrorTable> = objectOf<MirrorTable>({ location: optional(stringValue), insecure: optional(booleanValue), 'pull-from-mirror': optional(oneOf(['all', 'digest-only', 'tag-only'])) });

const registryTable: Check<RegistryTable> = objectOf<RegistryTable>({
  prefix: optional(stringValue),
  location: optional(stringValue),
  insecure: optional(booleanValue),
  blocked: optional(booleanValue),
  'mirror-by-digest-only': optional(booleanValue),
  mirror: optional(arrayOf(mirrorTable)),
});

const configFile: Check<ConfigFile> = objectOf<ConfigFile>({
  'unqualified-search-registries': optional(arrayOf(stringValue)),
  'short-name-mode': optional(stringValue),
  'credential-helpers': optional(arrayOf(stringValue)),
  registry: optional(arrayOf(registryTable)),
  aliases: optional(mapOf(stringValue)),
});

const VERSION_1_TABLES = ['registries.search', 'registries.insecure', 'registries.block'];
export const NO_REGISTRIES_CONF: RegistriesConf = { rules: [], searchRegistries: [], aliases: {}, credentialHelpers: [] };

export interface RegistriesConfPaths {
  file: string;
  /** Directories of `*.conf`, each file overriding those before it. */
  dropIns: readonly string[];
}

/** Where the containers tools look; `CONTAINERS_REGISTRIES_CONF` is a file that stands alone. */
export function registriesConfPaths(env: Record<string, string | undefined>): RegistriesConfPaths {
  const own = env['CONTAINERS_REGISTRIES_CONF'];
  if (own !== undefined && own !== '') return { file: own, dropIns: [] };
  return { file: '/etc/containers/registries.conf', dropIns: ['/etc/containers/registries.conf.d'] };
}

/** Files that do not exist say nothing. Throws RktError BAD_INPUT that names file and field. */
export async function readRegistriesConf({ file, dropIns }: RegistriesConfPaths): Promise<RegistriesConf> {
  const files = [file, ...dropIns.flatMap((directory) => confFilesIn(directory))];
  let conf = NO_REGISTRIES_CONF;
  for (const path of files) {
    const text = textOf(path);
    if (text !== undefined && text.trim() !== '') conf = merge(conf, await parseRegistriesConf(text, path));
  }
  return conf;
}

export async function parseRegistriesConf(text: string, origin: string): Promise<RegistriesConf> {
  const { parse } = await import('smol-toml');
  let document: unknown;
  try {
    document = parse(text);
  } catch (cause) {
    throw new RktError('BAD_INPUT', `${origin}: not valid TOML: ${cause instanceof Error ? (cause.message.split('\n')[0] ?? '') : String(cause)}`, { cause });
  }
  const place = { origin, path: '', code: 'BAD_INPUT' } as const;
  if (typeof document === 'object' && document !== null && 'registries' in document) fail(place, `version 1 of this file (${VERSION_1_TABLES.join(', ')}) is not supported: use [[registry]] tables`);
  const file = configFile(document, place);
  return {
    rules: (file.registry ?? []).map((table, index) => ruleOf(table, `${origin}: registry[${index}]`)),
    searchRegistries: file['unqualified-search-registries'] ?? [],
    aliases: file.aliases ?? {},
    credentialHelpers: file['credential-helpers'] ?? [],
  };
}

function ruleOf(table: RegistryTable, origin: string): RegistryRule {
  const prefix = trimmed(table.prefix) ?? trimmed(table.location);
  if (prefix === undefined) throw new RktError('BAD_INPUT', `${origin}: neither prefix nor location is set`);
  const wildcard = prefix.startsWith('*.');
  if (prefix.includes('*') && (!wildcard || prefix.includes('/') || prefix.lastIndexOf('*') > 0)) throw new RktError('BAD_INPUT', `${origin}: prefix: a wildcard must be the first part of a host name: *.example.com, found ${JSON.stringify(prefix)}`);
  const location = trimmed(table.location);
  if (location === undefined && table.prefix !== undefined && !wildcard && (table.mirror?.length ?? 0) === 0 && table.blocked !== true && table.insecure !== true) throw new RktError('BAD_INPUT', `${origin}: location: expected where ${JSON.stringify(prefix)} really is`);
  const digestOnly = table['mirror-by-digest-only'] === true;
  return {
    prefix,
    // A wildcard without location leaves names as they are.
    location: location ?? (wildcard ? '' : prefix),
    insecure: table.insecure ?? false,
    blocked: table.blocked ?? false,
    mirrors: (table.mirror ?? []).map((mirror, index) => {
      const mirrorLocation = trimmed(mirror.location);
      if (mirrorLocation === undefined) throw new RktError('BAD_INPUT', `${origin}.mirror[${index}]: location is missing`);
      return { location: mirrorLocation, insecure: mirror.insecure ?? false, pullFromMirror: mirror['pull-from-mirror'] ?? (digestOnly ? 'digest-only' : 'all') };
    }),
  };
}

function trimmed(text: string | undefined): string | undefined {
  const bare = text?.replace(/\/+$/, '');
  if (bare === undefined || bare === '') return undefined;
  if (/^[a-z]+:\/\//.test(bare)) throw new RktError('BAD_INPUT', `registries.conf: ${JSON.stringify(bare)}: expected HOST[:PORT][/PATH] without a scheme`);
  return bare;
}

/** The later file wins: rules by prefix, aliases by name (an empty one takes the alias away), lists as a whole. */
function merge(low: RegistriesConf, high: RegistriesConf): RegistriesConf {
  const replaced = new Set(high.rules.map(({ prefix }) => prefix));
  const aliases = Object.entries({ ...low.aliases, ...high.aliases }).filter(([, target]) => target !== '');
  return {
    rules: [...low.rules.filter(({ prefix }) => !replaced.has(prefix)), ...high.rules],
    searchRegistries: high.searchRegistries.length > 0 ? high.searchRegistries : low.searchRegistries,
    aliases: Object.fromEntries(aliases),
    credentialHelpers: high.credentialHelpers.length > 0 ? high.credentialHelpers : low.credentialHelpers,
  };
}

function confFilesIn(directory: string): string[] {
  try {
    return readdirSync(directory).filter((name) => name.endsWith('.conf')).sort().map((name) => join(directory, name));
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoName(error) ?? '')) return [];
    throw fileError(error, directory);
  }
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (errnoName(error) === 'ENOENT') return undefined;
    throw fileError(error, path);
  }
}
