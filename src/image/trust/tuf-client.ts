/**
 * Asks a repository of The Update Framework (TUF specification 1.0, section 5 "Detailed client workflow"), and remembers
 * what it said: nothing older counts the next time, and nothing that has expired ever does.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Updater } from 'tuf-js';
import type { Fetcher, TargetFile } from 'tuf-js';
import { DownloadHTTPError } from 'tuf-js/dist/error.js';
import { RktError } from '../../error.ts';
import { writeFileAtomic } from '../../store/atomic-write.ts';
import { fileError } from '../../store/fs-error.ts';
import { storeLayout } from '../../store/layout.ts';
import { withLock } from '../../store/lock.ts';
import { openWorkspace } from '../../store/workspace.ts';
import type { FetchDocument, VerificationOptions } from '../verification.ts';
import type { TufRepository } from './tuf-repositories.ts';

export interface TufTarget {
  /** `sha256:…` */
  digest: string;
  sizeBytes: number;
  /** The role whose keys have signed it, and the version of that role's metadata. */
  role: string;
  version: number;
}

export type TufOptions = Pick<VerificationOptions, 'dataDir' | 'fetchDocument'>;

/** What is remembered. Metadata of delegated roles need not be: the snapshot has their versions. */
const REMEMBERED: readonly string[] = ['root.json', 'timestamp.json', 'snapshot.json', 'targets.json'];
const FILE_MODE = 0o640;
const MAX_TARGET_BYTES = 4 << 20;

/** Brings the metadata up to date and looks a target up. Undefined: nobody in the repository knows it. Throws RktError. */
export async function findTufTarget(repository: TufRepository, path: string, options: TufOptions): Promise<TufTarget | undefined> {
  return await withUpdater(repository, options, async (updater, metadataDir) => {
    const target = await updater.getTargetInfo(path);
    return target === undefined ? undefined : describeTarget(target, metadataDir, repository);
  });
}

/** Brings the metadata up to date, no more: shows whether the root metadata leads to a repository that is alive. Throws RktError. */
export async function refreshTufRepository(repository: TufRepository, options: TufOptions): Promise<void> {
  await withUpdater(repository, options, (updater) => updater.refresh());
}

/** As `findTufTarget`, and downloads it. Throws RktError NOT_FOUND. */
export async function downloadTufTarget(repository: TufRepository, path: string, options: TufOptions): Promise<Uint8Array> {
  return await withUpdater(repository, options, async (updater, metadataDir) => {
    const target = await updater.getTargetInfo(path);
    if (target === undefined) throw new RktError('NOT_FOUND', `${repository.url}: there is no target ${JSON.stringify(path)}`);
    if (target.length > MAX_TARGET_BYTES) throw new RktError('LIMIT', `${repository.url}: the target ${path} is larger than ${MAX_TARGET_BYTES} bytes`);
    return readFileSync(await updater.downloadTarget(target, join(metadataDir, 'target'), `${repository.url}/targets`));
  });
}

/**
 * The library writes its files in place. It gets a copy of what is remembered; what it has verified, even before it refused
 * something later, is remembered file by file.
 */
async function withUpdater<T>(repository: TufRepository, options: TufOptions, work: (updater: Updater, metadataDir: string) => Promise<T>): Promise<T> {
  const layout = storeLayout(options.dataDir);
  const key = createHash('sha256').update(repository.url).update('\0').update(repository.root).digest('hex').slice(0, 32);
  const memory = join(options.dataDir, 'tuf', key);
  return await withLock(layout.locks, `tuf-${key}`, async () => {
    const workspace = openWorkspace(layout.tmp);
    const fetcher = new DocumentFetcher(options.fetchDocument, join(workspace.path, 'download'));
    try {
      copyRemembered(memory, workspace.path);
      if (!existsSync(join(workspace.path, 'root.json'))) writeFileSync(join(workspace.path, 'root.json'), repository.root);
      try {
        const updater = new Updater({ metadataDir: workspace.path, metadataBaseUrl: repository.url, fetcher });
        return await work(updater, workspace.path);
      } finally {
        remember(workspace.path, memory);
      }
    } catch (error) {
      throw failureOf(error, { url: repository.url, fetchFailure: fetcher.failure });
    } finally {
      workspace.remove();
    }
  });
}

function copyRemembered(memory: string, metadataDir: string): void {
  for (const name of REMEMBERED) {
    const path = join(memory, name);
    if (existsSync(path)) writeFileSync(join(metadataDir, name), readFileSync(path));
  }
}

function remember(metadataDir: string, memory: string): void {
  try {
    mkdirSync(memory, { recursive: true, mode: 0o750 });
    for (const name of REMEMBERED) {
      const bytes = readIfThere(join(metadataDir, name));
      if (bytes !== undefined && readIfThere(join(memory, name))?.equals(bytes) !== true) writeFileAtomic(join(memory, name), bytes, FILE_MODE);
    }
  } catch (error) {
    throw fileError(error, `cannot remember the state of the TUF repository in ${memory}`);
  }
}

function readIfThere(path: string): Buffer | undefined {
  return existsSync(path) ? readFileSync(path) : undefined;
}

/** Fetches with rkt's rules. The library needs to know one thing of an error: that something is not there. */
class DocumentFetcher implements Fetcher {
  readonly #fetchDocument: FetchDocument;
  readonly #downloadPath: string;
  /** The last thing that could not be fetched: the library passes on no more than its text. */
  failure: RktError | undefined;

  constructor(fetchDocument: FetchDocument, downloadPath: string) {
    this.#fetchDocument = fetchDocument;
    this.#downloadPath = downloadPath;
  }

  async downloadBytes(url: string, maxLength: number): Promise<Buffer> {
    try {
      return Buffer.from((await this.#fetchDocument(url, { limitBytes: maxLength })).bytes);
    } catch (error) {
      if (!(error instanceof RktError)) throw error;
      if (error.code === 'NOT_FOUND') throw new DownloadHTTPError(error.message, 404);
      this.failure = error;
      throw error;
    }
  }

  async downloadFile<T>(url: string, maxLength: number, handler: (file: string) => Promise<T>): Promise<T> {
    writeFileSync(this.#downloadPath, await this.downloadBytes(url, maxLength));
    return await handler(this.#downloadPath);
  }
}

function describeTarget({ path, hashes, length }: TargetFile, metadataDir: string, { url }: TufRepository): TufTarget {
  const { sha256 } = hashes;
  if (sha256 === undefined || !/^[0-9a-f]{64}$/.test(sha256)) throw new RktError('BAD_SIGNATURE', `${url}: the target ${path} has no SHA-256 hash`);
  return { digest: `sha256:${sha256}`, sizeBytes: length, ...roleOf(path, metadataDir) };
}

interface TargetsMetadata {
  signed: { version: number; targets: Record<string, unknown> };
}

/** The library does not tell the role. Of those it has loaded only the last one can have the target: it looks no further. */
function roleOf(path: string, metadataDir: string): { role: string; version: number } {
  for (const name of readdirSync(metadataDir).filter((candidate) => candidate.endsWith('.json'))) {
    if (name !== 'targets.json' && REMEMBERED.includes(name)) continue;
    const { signed } = JSON.parse(readFileSync(join(metadataDir, name), 'utf8')) as TargetsMetadata;
    if (Object.hasOwn(signed.targets, path)) return { role: decodeURIComponent(name.slice(0, -'.json'.length)), version: signed.version };
  }
  throw new RktError('INTERNAL', `no role of the TUF repository has the target ${path}`);
}

function failureOf(error: unknown, { url, fetchFailure }: { url: string; fetchFailure: RktError | undefined }): unknown {
  if (error instanceof RktError) return error;
  if (fetchFailure !== undefined) return fetchFailure;
  const reason = error instanceof Error ? error.message : String(error);
  return new RktError('BAD_SIGNATURE', `the TUF repository ${url} is not accepted: ${reason}`, { cause: error });
}
