/** What the store remembers, in the shape of its JSON files. */
import { arrayOf, booleanValue, fail, integerValue, mapOf, objectOf, oneOf, optional, parseDocument, stringValue } from '../schema/check.ts';
import type { Check } from '../schema/check.ts';
import { verifiedBy } from '../schema/verified-by.ts';
import type { VerifiedBy } from '../schema/verified-by.ts';

export type ImageSource = 'aci' | 'oci' | 'docker';

/** The part of `cas/image/<imageID>.json` that is in the file. */
export interface ImageRecord {
  id: string;
  /** appc image name. */
  name: string;
  labels: Record<string, string>;
  importTimeMs: number;
  /** Bytes of the rendered disk and the manifest. */
  sizeBytes: number;
  treeStoreID: string;
  source: ImageSource;
  /** IDs of the images rendered below this one, the uppermost first. */
  dependencies?: string[];
  /** Who vouched for it, at whichever fetch; empty for a local file. */
  verifiedBy?: VerifiedBy[];
  /** Imported by a name without a version: what that name without a version means. */
  latest?: boolean;
}

export interface StoredImage extends ImageRecord {
  /** When a pod was last made of it: the mtime of the record. */
  lastUsedMs: number;
}

/** A rendered image: EROFS file system, verity superblock, hash tree in one file. */
export interface DiskDescription {
  path: string;
  sizeBytes: number;
  dataBlocks: number;
  hashStartBlock: number;
  rootHashHex: string;
  inodes: number;
  formatVersion: 1;
}

/** What a local file was like when it was read: the same again means the same image. */
export interface SourceRecord {
  path: string;
  dev: string;
  ino: string;
  sizeBytes: number;
  mtimeNs: string;
  ctimeNs: string;
  imageID: string;
  /** Of the image manifest made from this file: the same image gets another name from another file. */
  manifestHash: string;
}

const record: Check<ImageRecord> = objectOf<ImageRecord>({
  id: stringValue,
  name: stringValue,
  labels: mapOf(stringValue),
  importTimeMs: integerValue,
  sizeBytes: integerValue,
  treeStoreID: stringValue,
  source: oneOf(['aci', 'oci', 'docker']),
  dependencies: optional(arrayOf(stringValue)),
  verifiedBy: optional(arrayOf(verifiedBy)),
  latest: optional(booleanValue),
});

const disk: Check<DiskDescription> = objectOf<DiskDescription>({
  path: stringValue,
  sizeBytes: integerValue,
  dataBlocks: integerValue,
  hashStartBlock: integerValue,
  rootHashHex: stringValue,
  inodes: integerValue,
  formatVersion: (value, place) => (value === 1 ? 1 : fail(place, 'expected format version 1')),
});

const source: Check<SourceRecord> = objectOf<SourceRecord>({
  path: stringValue,
  dev: stringValue,
  ino: stringValue,
  sizeBytes: integerValue,
  mtimeNs: stringValue,
  ctimeNs: stringValue,
  imageID: stringValue,
  manifestHash: stringValue,
});

export function parseImageRecord(text: string, origin: string): ImageRecord {
  return parseDocument(text, record, { origin, code: 'IO' });
}

export function parseDiskDescription(text: string, origin: string): DiskDescription {
  return parseDocument(text, disk, { origin, code: 'IO' });
}

export function parseSourceRecord(text: string, origin: string): SourceRecord {
  return parseDocument(text, source, { origin, code: 'IO' });
}
