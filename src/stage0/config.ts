/**
 * Configuration files: three layers of directories (system, local, user), in each `KIND.d/*.json` with `rktKind` and
 * `rktVersion`. A later layer overrides an earlier one field by field; within one layer a field is set once.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { RktError } from '../error.ts';
import { isErrno } from '../linux/errno.ts';

export type ConfigObject = Readonly<Record<string, unknown>>;

export interface Config {
  /** Absolute directories. */
  paths: { data?: string; stage1Images?: string; cniPlugins?: string };
  stage1: { name?: string; version?: string; location?: string };
  store: { keepLayers?: boolean };
  /** Kinds that other parts read, merged: one entry per domain or registry. */
  credentials: ConfigObject[];
}

/** What may stand in which directory. */
const KINDS_OF_DIRECTORY: Readonly<Record<string, readonly string[]>> = {
  'auth.d': ['auth', 'dockerAuth'],
  'paths.d': ['paths'],
  'stage1.d': ['stage1'],
  'store.d': ['store'],
};

interface ConfigFile {
  path: string;
  kind: string;
  content: ConfigObject;
}

/** Reads the layers, lowest first; directories that do not exist are empty. Throws RktError BAD_INPUT that names the file. */
export function readConfig(layers: readonly string[]): Config {
  const config: Config = { paths: {}, stage1: {}, store: {}, credentials: [] };
  const credentials = new Map<string, ConfigObject>();
  for (const layer of layers) {
    const setHere = new Map<string, string>();
    for (const file of filesOf(layer)) applyFile(file, { config, credentials, setHere });
  }
  config.credentials = [...credentials.keys()].sort().map((key) => credentials.get(key) ?? {});
  return config;
}

interface Merging {
  config: Config;
  credentials: Map<string, ConfigObject>;
  /** What this layer has set already, and where. */
  setHere: Map<string, string>;
}

function applyFile(file: ConfigFile, merging: Merging): void {
  const { config } = merging;
  const setOnce = (what: string): void => {
    const earlier = merging.setHere.get(what);
    if (earlier !== undefined) throw bad(file.path, `${what} is already set in ${earlier}`);
    merging.setHere.set(what, file.path);
  };
  const field = (name: string, check: (value: string) => string | undefined): string | undefined => {
    const value = file.content[name];
    if (value === undefined || value === '') return undefined;
    if (typeof value !== 'string') throw bad(file.path, `${name}: expected a string`);
    const complaint = check(value);
    if (complaint !== undefined) throw bad(file.path, `${name}: ${complaint}`);
    setOnce(name);
    return value;
  };

  switch (file.kind) {
    case 'paths': {
      const data = field('data', absolutePath);
      const stage1Images = field('stage1-images', absolutePath);
      const cniPlugins = field('cni-plugins', absolutePath);
      config.paths = { ...config.paths, ...(data === undefined ? {} : { data }), ...(stage1Images === undefined ? {} : { stage1Images }), ...(cniPlugins === undefined ? {} : { cniPlugins }) };
      break;
    }
    case 'stage1': {
      const name = field('name', anything);
      const version = field('version', anything);
      const location = field('location', stage1Location);
      if ((name === undefined) !== (version === undefined)) throw bad(file.path, 'name and version of the stage1 image must be set together');
      config.stage1 = { ...config.stage1, ...(name === undefined ? {} : { name, version }), ...(location === undefined ? {} : { location }) };
      break;
    }
    case 'store': {
      const { keepLayers } = file.content;
      if (keepLayers === undefined) break;
      if (typeof keepLayers !== 'boolean') throw bad(file.path, 'keepLayers: expected true or false');
      setOnce('keepLayers');
      config.store = { ...config.store, keepLayers };
      break;
    }
    default:
      applyCredentials(file, merging.credentials, setOnce);
  }
}

/** One entry per domain (`auth`) or registry (`dockerAuth`). What is in the credentials is for the transport to judge. */
function applyCredentials(file: ConfigFile, credentials: Map<string, ConfigObject>, setOnce: (what: string) => void): void {
  const listName = file.kind === 'auth' ? 'domains' : 'registries';
  const list = file.content[listName];
  if (!Array.isArray(list) || list.length === 0 || !list.every((entry) => typeof entry === 'string' && entry !== '')) throw bad(file.path, `${listName}: expected a list of names`);
  for (const entry of list as string[]) {
    setOnce(`${file.kind} ${entry}`);
    const { rktKind, rktVersion, ...rest } = file.content;
    credentials.set(`${file.kind} ${entry}`, { rktVersion, rktKind, ...rest, [listName]: [entry] });
  }
}

function anything(): undefined {
  return undefined;
}

function absolutePath(value: string): string | undefined {
  return isAbsolute(value) ? undefined : 'expected an absolute path';
}

function stage1Location(value: string): string | undefined {
  if (isAbsolute(value) || /^(file|http|https|docker):/.test(value)) return undefined;
  return 'default stage1 image location is either a relative path or a URL without scheme';
}

function filesOf(layer: string): ConfigFile[] {
  return Object.entries(KINDS_OF_DIRECTORY).flatMap(([directory, kinds]) => {
    const directoryPath = join(layer, directory);
    return namesIn(directoryPath).map((name) => readConfigFile(join(directoryPath, name), kinds));
  });
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).filter((name) => name.endsWith('.json')).sort();
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return [];
    throw new RktError('IO', `cannot read the configuration directory ${directory}`, { cause: error });
  }
}

function readConfigFile(path: string, kinds: readonly string[]): ConfigFile {
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new RktError('BAD_INPUT', `cannot read the configuration file ${path}`, { cause });
  }
  if (typeof content !== 'object' || content === null || Array.isArray(content)) throw bad(path, 'expected a JSON object');
  const object = content as ConfigObject;
  const { rktKind: kind, rktVersion: version } = object;
  if (typeof kind !== 'string' || kind === '') throw new RktError('BAD_INPUT', `no rktKind specified in "${path}"`);
  if (typeof version !== 'string' || version === '') throw new RktError('BAD_INPUT', `no rktVersion specified in "${path}"`);
  if (!kinds.includes(kind) || version !== 'v1') throw new RktError('BAD_INPUT', `no parser available for configuration of kind ${JSON.stringify(kind)} and version ${JSON.stringify(version)} in "${path}"`);
  return { path, kind, content: object };
}

function bad(path: string, message: string): RktError {
  return new RktError('BAD_INPUT', `${path}: ${message}`);
}
