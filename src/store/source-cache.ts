/** Which image a local file was, so that the same file is not read again. */
import { mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import type { BigIntStats } from 'node:fs';
import { join } from 'node:path';
import { writeFileAtomic } from './atomic-write.ts';
import { digestHex } from './digest.ts';
import { errnoName } from './fs-error.ts';
import { parseSourceRecord } from './records.ts';
import type { SourceRecord } from './records.ts';

/** A file changed less than this before it was read may change again without its times telling. */
const SETTLED_MS = 100;

/** `selector` tells apart images in one file (reference, platform); empty for a file that is one image. */
export function sourceKey(canonicalPath: string, selector: string): string {
  return digestHex('sha256', selector === '' ? canonicalPath : `${canonicalPath}\0${selector}`);
}

export interface FileIdentity {
  path: string;
  stats: BigIntStats;
}

export interface RememberedSource {
  imageID: string;
  manifestHash: string;
}

export function recallSource(sourcesDir: string, key: string, file: FileIdentity): RememberedSource | undefined {
  const path = join(sourcesDir, `${key}.json`);
  let known: SourceRecord;
  try {
    known = parseSourceRecord(readFileSync(path, 'utf8'), path);
  } catch {
    // Absent or damaged: the file is read anew, and the record with it.
    return undefined;
  }
  const now = identityFields(file);
  const same = (Object.keys(now) as (keyof typeof now)[]).every((field) => known[field] === now[field]);
  return same ? { imageID: known.imageID, manifestHash: known.manifestHash } : undefined;
}

export interface RememberOptions {
  key: string;
  file: FileIdentity;
  image: RememberedSource;
  /** When reading the file began. */
  readAtMs: number;
}

export function rememberSource(sourcesDir: string, options: RememberOptions): void {
  const changedMs = Number(options.file.stats.ctimeNs / 1_000_000n);
  if (options.readAtMs - changedMs < SETTLED_MS) return;
  const record: SourceRecord = { ...identityFields(options.file), ...options.image };
  mkdirSync(sourcesDir, { recursive: true, mode: 0o750 });
  writeFileAtomic(join(sourcesDir, `${options.key}.json`), JSON.stringify(record));
}

export function forgetSourcesOf(sourcesDir: string, imageID: string): void {
  let names: string[];
  try {
    names = readdirSync(sourcesDir);
  } catch (error) {
    if (errnoName(error) === 'ENOENT') return;
    throw error;
  }
  for (const name of names) {
    const path = join(sourcesDir, name);
    try {
      if (parseSourceRecord(readFileSync(path, 'utf8'), path).imageID !== imageID) continue;
    } catch {
      continue;
    }
    rmSync(path, { force: true });
  }
}

function identityFields({ path, stats }: FileIdentity): Omit<SourceRecord, 'imageID' | 'manifestHash'> {
  return {
    path,
    dev: String(stats.dev),
    ino: String(stats.ino),
    sizeBytes: Number(stats.size),
    mtimeNs: String(stats.mtimeNs),
    ctimeNs: String(stats.ctimeNs),
  };
}
