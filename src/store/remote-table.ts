/** Which image a name or URL was when it was fetched the last time: rkt's table `remote`. */
import { mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { booleanValue, integerValue, objectOf, optional, parseDocument, stringValue } from '../schema/check.ts';
import { writeFileAtomic } from './atomic-write.ts';
import { digestHex } from './digest.ts';
import { errnoName, fileError } from './fs-error.ts';

export interface RemoteRecord {
  /** What was asked for, in its canonical form; with it everything that makes the answer another (platform). */
  key: string;
  imageID: string;
  /** Of the image manifest made from this source: the same image gets another name from another source. */
  manifestHash: string;
  downloadTimeMs: number;
  /** Signatures were switched off: such an image is not taken for one that was verified. */
  unverified: boolean;
  /** HTTP: for `If-None-Match`. */
  etag?: string;
  /** HTTP: how long nobody need ask again. */
  maxAgeSeconds?: number;
  /** Registries: of the document the name led to. */
  digest?: string;
  /** Registries: of the manifest of the image itself. */
  imageDigest?: string;
}

const record = objectOf<RemoteRecord>({
  key: stringValue,
  imageID: stringValue,
  manifestHash: stringValue,
  downloadTimeMs: integerValue,
  unverified: booleanValue,
  etag: optional(stringValue),
  maxAgeSeconds: optional(integerValue),
  digest: optional(stringValue),
  imageDigest: optional(stringValue),
});

export function remoteFileName(key: string): string {
  return digestHex('sha256', key);
}

export function recallRemote(directory: string, key: string): RemoteRecord | undefined {
  return readRecord(join(directory, `${remoteFileName(key)}.json`));
}

export function rememberRemote(directory: string, remote: RemoteRecord): void {
  mkdirSync(directory, { recursive: true, mode: 0o750 });
  writeFileAtomic(join(directory, `${remoteFileName(remote.key)}.json`), JSON.stringify(remote));
}

export function forgetRemotesOf(directory: string, imageID: string): void {
  for (const name of namesIn(directory)) {
    const path = join(directory, name);
    if (readRecord(path)?.imageID === imageID) rmSync(path, { force: true });
  }
}

/** Absent or damaged: it is fetched again, and the record made anew. */
function readRecord(path: string): RemoteRecord | undefined {
  try {
    return parseDocument(readFileSync(path, 'utf8'), record, { origin: path, code: 'IO' });
  } catch {
    return undefined;
  }
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).filter((name) => name.endsWith('.json'));
  } catch (error) {
    if (errnoName(error) === 'ENOENT') return [];
    throw fileError(error, `cannot read ${directory}`);
  }
}
