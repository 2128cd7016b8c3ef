/** Which stage1 runs a pod: what the command line says, else the configuration, else the one built with this rkt. */
import { existsSync } from 'node:fs';
import { basename, isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { RktError } from '../error.ts';
import { importStage1 } from '../image/index.ts';
import type { FetchOptions } from '../image/index.ts';
import { labelValue } from '../schema/index.ts';
import type { Stage1Image, Store } from '../store/index.ts';
import type { Config } from './config.ts';

export type Stage1Choice =
  | { kind: 'default' }
  | { kind: 'url'; url: string }
  | { kind: 'path'; path: string }
  | { kind: 'name'; name: string }
  | { kind: 'hash'; hash: string }
  | { kind: 'from-dir'; file: string };

export interface Stage1Environment {
  store: Store;
  config: Config;
  /** Where rkt itself is installed: the directory that holds `dist/`. */
  installDir: string;
  cwd: string;
  /** For images of web servers. */
  fetchOptions: FetchOptions;
}

export const DEFAULT_STAGE1_NAME = 'coreos.com/rkt/stage1-kvm';
const NAME_PREFIX = 'coreos.com/rkt/stage1-';

/** Those that are built with rkt; they may be named without the rest of the name. */
export const FLAVORS = ['kvm', 'fly'] as const;

export function defaultStage1Path(installDir: string): string {
  return flavorPath(installDir, 'kvm');
}

export function flavorPath(installDir: string, flavor: (typeof FLAVORS)[number]): string {
  return join(installDir, 'dist', `stage1-${flavor}.aci`);
}

/** Finds the image and imports it unless the store has it. Throws RktError when there is none. */
export async function findStage1(choice: Stage1Choice, environment: Stage1Environment): Promise<Stage1Image> {
  const { store, config, cwd } = environment;
  switch (choice.kind) {
    case 'path':
      return importFile(resolve(cwd, choice.path), environment);
    case 'url':
      return importUrl(choice.url, environment);
    case 'from-dir':
      return importFile(join(config.paths.stage1Images ?? join(environment.installDir, 'dist'), choice.file), environment);
    case 'hash':
      return findByHash(store, choice.hash);
    case 'name':
      return findByName(choice.name, environment);
    case 'default':
      return findConfigured(environment);
  }
}

function findConfigured(environment: Stage1Environment): Promise<Stage1Image> | Stage1Image {
  const { name, version, location } = environment.config.stage1;
  if (name !== undefined) {
    const stored = findStored(environment.store, name, version);
    if (stored !== undefined) return stored;
  }
  if (location !== undefined) return isAbsolute(location) ? importFile(besideRkt(location, environment), environment) : importUrl(location, environment);
  if (name !== undefined && name !== DEFAULT_STAGE1_NAME) return findByName(`${name}:${version ?? ''}`, environment);
  return importFile(defaultStage1Path(environment.installDir), environment);
}

/** A file that is not where it should be is looked for where this rkt is installed, as by rkt. */
function besideRkt(path: string, { installDir }: Stage1Environment): string {
  const beside = join(installDir, 'dist', basename(path));
  return !existsSync(path) && existsSync(beside) ? beside : path;
}

async function findByName(text: string, environment: Stage1Environment): Promise<Stage1Image> {
  const colon = text.lastIndexOf(':');
  const given = colon === -1 ? text : text.slice(0, colon);
  const version = colon === -1 ? undefined : text.slice(colon + 1);
  const flavor = FLAVORS.find((candidate) => given === candidate || given === NAME_PREFIX + candidate);
  const name = flavor === undefined ? given : NAME_PREFIX + flavor;
  // The one built with this rkt is newer than any copy of it in the store.
  if (flavor !== undefined && (version === undefined || existsSync(flavorPath(environment.installDir, flavor)))) {
    const built = await importFile(flavorPath(environment.installDir, flavor), environment);
    if (version === undefined || labelValue(built.manifest.labels, 'version') === version) return built;
  }
  const stored = findStored(environment.store, name, version);
  if (stored !== undefined) return stored;
  throw new RktError('NOT_FOUND', `stage1 image ${JSON.stringify(text)} is not in the store`, { hint: 'give its file with --stage1-path' });
}

function findStored(store: Store, name: string, version: string | undefined): Stage1Image | undefined {
  return store.listStage1Images().find(({ manifest }) => manifest.name === name && (version === undefined || labelValue(manifest.labels, 'version') === version));
}

function findByHash(store: Store, hash: string): Stage1Image {
  const matches = store.listStage1Images().filter(({ id }) => id.startsWith(hash));
  const [only] = matches;
  if (only === undefined) throw new RktError('NOT_FOUND', `no stage1 image with the hash ${JSON.stringify(hash)} in the store`);
  if (matches.length > 1) throw new RktError('AMBIGUOUS', `the hash ${JSON.stringify(hash)} fits ${matches.length} stage1 images`);
  return only;
}

async function importUrl(url: string, environment: Stage1Environment): Promise<Stage1Image> {
  const scheme = URL.parse(url)?.protocol;
  if (scheme === 'file:') return await importFile(fileURLToPath(url), environment);
  if (scheme !== 'https:' && scheme !== 'http:') throw new RktError('UNSUPPORTED', `cannot fetch the stage1 image from ${url}: expected a URL with https, http or file`);
  const { fetchStage1 } = await import('../image/stage1-url.ts');
  return await fetchStage1(url, environment.fetchOptions);
}

async function importFile(path: string, environment: Stage1Environment): Promise<Stage1Image> {
  if (!existsSync(path)) {
    const hint = FLAVORS.some((flavor) => path === flavorPath(environment.installDir, flavor)) ? 'run `npm run build`, or give another with --stage1-path' : undefined;
    throw new RktError('NOT_FOUND', `stage1 image ${path} does not exist`, hint === undefined ? {} : { hint });
  }
  return await importStage1(path, environment.store);
}
