/**
 * Repositories of The Update Framework that are trusted: in each configuration directory `tuf.d/<name>.json` (where it is
 * and which images it speaks for) beside `tuf.d/<name>.root.json` (the root metadata that was reviewed, never changed by
 * a download). A file of the same name in a higher directory replaces a lower one, an empty one removes it.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { RktError } from '../../error.ts';
import { oneOf, optional, parseDocument, refined, stringValue, objectOf } from '../../schema/check.ts';
import { sanitizeACName } from '../../schema/names.ts';
import { writeFileAtomic } from '../../store/atomic-write.ts';
import { errnoName, fileError } from '../../store/fs-error.ts';

export interface TufRepository {
  /** Where its metadata is, without a slash at the end. */
  url: string;
  /** `HOST[/NAMESPACE…]` whose images must be in it; empty: all images; absent: none, it only hands out keys. */
  prefix?: string;
  /** The pinned root metadata. */
  root: Uint8Array;
}

interface RepositoryFile {
  rktKind: 'tuf';
  rktVersion: 'v1';
  url: string;
  prefix?: string;
}

const repositoryFile = objectOf<RepositoryFile>({
  rktKind: oneOf(['tuf']),
  rktVersion: oneOf(['v1']),
  url: refined(stringValue, (url) => (isRepositoryUrl(url) ? undefined : 'expected an http or https URL')),
  prefix: optional(stringValue),
});

const CONFIG_MODE = 0o644;

/** Repositories that speak for an image (`HOST/REPOSITORY`). Throws RktError naming a file that is not understood. */
export function tufRepositoriesFor(imageName: string, configDirs: readonly string[]): TufRepository[] {
  return tufRepositories(configDirs).filter(({ prefix }) => prefix !== undefined && (prefix === '' || imageName === prefix || imageName.startsWith(`${prefix}/`)));
}

export function tufRepositories(configDirs: readonly string[]): TufRepository[] {
  const repositories = new Map<string, TufRepository>();
  for (const configDir of configDirs) {
    const directory = directoryOf(configDir);
    for (const name of namesIn(directory)) {
      const text = readText(join(directory, name));
      if (text === '') repositories.delete(name);
      else repositories.set(name, readRepository(join(directory, name), text));
    }
  }
  return [...repositories.values()];
}

function readRepository(path: string, text: string): TufRepository {
  const { url, prefix } = parseDocument(text, repositoryFile, { origin: path, code: 'BAD_INPUT' });
  const root = Buffer.from(readText(path.replace(/\.json$/, '.root.json')));
  return { url, root, ...(prefix === undefined ? {} : { prefix }) };
}

/** Trusts a repository; gives the path of its description. The root metadata must have been reviewed. */
export function storeTufRepository(localConfigDir: string, { url, prefix, root }: TufRepository): string {
  const directory = directoryOf(localConfigDir);
  const path = join(directory, `${fileNameOf(url)}.json`);
  const file: RepositoryFile = { rktKind: 'tuf', rktVersion: 'v1', url, ...(prefix === undefined ? {} : { prefix }) };
  try {
    mkdirSync(directory, { recursive: true, mode: 0o755 });
  } catch (error) {
    throw fileError(error, `cannot make ${directory}`);
  }
  // The root first: the description makes the repository count.
  writeFileAtomic(path.replace(/\.json$/, '.root.json'), root, CONFIG_MODE);
  writeFileAtomic(path, `${JSON.stringify(file, undefined, 2)}\n`, CONFIG_MODE);
  return path;
}

/** Throws RktError USAGE. */
export function checkedRepositoryUrl(text: string): string {
  if (!isRepositoryUrl(text)) throw new RktError('USAGE', `${text}: expected the http or https URL of a TUF repository`);
  return text.replace(/\/+$/, '');
}

function isRepositoryUrl(text: string): boolean {
  return /^https?:\/\//.test(text) && URL.canParse(text);
}

/** Readable, and different for different URLs. */
function fileNameOf(url: string): string {
  const readable = sanitizeACName(url.replace(/^https?:\/\//, '')) ?? 'tuf';
  return `${readable.slice(0, 80)}-${createHash('sha256').update(url).digest('hex').slice(0, 8)}`;
}

function directoryOf(configDir: string): string {
  return join(configDir, 'tuf.d');
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).filter((name) => name.endsWith('.json') && !name.endsWith('.root.json')).sort();
  } catch (error) {
    if (errnoName(error) === 'ENOENT' || errnoName(error) === 'ENOTDIR') return [];
    throw fileError(error, `cannot read ${directory}`);
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw fileError(error, `cannot read ${path}`);
  }
}
