/** Where the files of a tar archive are, found by reading headers only. */
import { posix } from 'node:path';
import { RktError } from '../error.ts';
import { parsePaxRecords } from '../rootfs/pax.ts';
import { TAR_BLOCK_BYTES, hasValidChecksum, isZeroBlock, parseHeader } from '../rootfs/tar-header.ts';
import type { TarHeader } from '../rootfs/tar-header.ts';
import { parseDecimal } from '../rootfs/tar-number.ts';
import { readAt } from './file-slice.ts';
import type { FileSlice, OpenedFile } from './file-slice.ts';

/** Image archives hold a few files for each layer. */
const ENTRIES_MAX = 100_000;
const EXTENDED_HEADER_MAX_BYTES = 1 << 20;
const LINK_CHAIN_MAX = 8;

type IndexEntry = { kind: 'file'; offsetBytes: number; sizeBytes: number } | { kind: 'link'; target: string } | { kind: 'other' };

export interface TarIndex {
  /** Normalised names of all members, in order. */
  readonly names: readonly string[];
  /** A regular file, links inside the archive followed; undefined when there is none. */
  find(name: string): FileSlice | undefined;
}

/** Name of the first member that is not the archive's own root, or undefined; never throws for what is no tar. */
export function firstName(file: OpenedFile): string | undefined {
  try {
    for (const { name } of members(file)) if (name !== '') return name;
  } catch (error) {
    if (!(error instanceof RktError)) throw error;
  }
  return undefined;
}

/** Throws RktError BAD_IMAGE for what is no tar, or has a name twice; LIMIT for too much of something. */
export function indexTar(file: OpenedFile): TarIndex {
  const entries = new Map<string, IndexEntry>();
  for (const { name, entry } of members(file)) {
    if (name === '') continue;
    // Two files under one name are two images for two readers.
    if (entries.has(name) && entry.kind !== 'other') throw new RktError('BAD_IMAGE', `${file.path}: "${name}" occurs twice in the archive`);
    entries.set(name, entry);
    if (entries.size > ENTRIES_MAX) throw new RktError('LIMIT', `${file.path}: more than ${ENTRIES_MAX} files in an archive of an image`);
  }
  const find = (name: string, chain = 0): FileSlice | undefined => {
    const entry = entries.get(name);
    if (entry?.kind === 'file') return { name: `${file.path}: ${name}`, file, offsetBytes: entry.offsetBytes, sizeBytes: entry.sizeBytes };
    return entry?.kind === 'link' && chain < LINK_CHAIN_MAX ? find(entry.target, chain + 1) : undefined;
  };
  return { names: [...entries.keys()], find: (name) => find(normalise(name)) };
}

function* members(file: OpenedFile): Generator<{ name: string; entry: IndexEntry }> {
  const extended = new Map<string, string>();
  for (let at = 0; at + TAR_BLOCK_BYTES <= file.sizeBytes; ) {
    const block = readAt(file, at, TAR_BLOCK_BYTES);
    if (isZeroBlock(block)) return;
    if (!hasValidChecksum(block)) throw new RktError('BAD_IMAGE', at === 0 ? `${file.path}: not an image: no tar archive, plain or compressed` : `${file.path}: no valid tar header at byte ${at}`);
    const header = parseHeader(block);
    const dataOffset = at + TAR_BLOCK_BYTES;
    const sizeBytes = contentBytes(header, extended);
    if (sizeBytes === undefined || sizeBytes > file.sizeBytes - dataOffset) throw new RktError('BAD_IMAGE', `${file.path}: truncated, or a wrong size in the tar header at byte ${at}`);
    at = dataOffset + Math.ceil(sizeBytes / TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES;
    if ('xLKg'.includes(header.flag)) {
      readExtended(file, { flag: header.flag, offsetBytes: dataOffset, sizeBytes }, extended);
      continue;
    }
    const name = normalise(extended.get('path') ?? header.path);
    const linkPath = extended.get('linkpath') ?? header.linkPath;
    extended.clear();
    yield { name, entry: entryOf({ header, name, linkPath }, dataOffset, sizeBytes) };
  }
}

function contentBytes(header: TarHeader, extended: ReadonlyMap<string, string>): number | undefined {
  // Links, devices, FIFOs and directories have no content, whatever their size field says.
  if ('123456'.includes(header.flag)) return 0;
  const size = extended.get('size');
  return 'xLKg'.includes(header.flag) || size === undefined ? header.sizeBytes : parseDecimal(size);
}

function entryOf(member: { header: TarHeader; name: string; linkPath: string }, offsetBytes: number, sizeBytes: number): IndexEntry {
  switch (member.header.flag) {
    case '0':
    case '7':
      return { kind: 'file', offsetBytes, sizeBytes };
    case '1':
      return { kind: 'link', target: normalise(member.linkPath) };
    case '2':
      return { kind: 'link', target: normalise(posix.join(posix.dirname(member.name), member.linkPath)) };
    default:
      return { kind: 'other' };
  }
}

function readExtended(file: OpenedFile, part: { flag: string; offsetBytes: number; sizeBytes: number }, extended: Map<string, string>): void {
  if (part.flag === 'g') return;
  if (part.sizeBytes > EXTENDED_HEADER_MAX_BYTES) throw new RktError('LIMIT', `${file.path}: extended tar header of ${part.sizeBytes} bytes, at most ${EXTENDED_HEADER_MAX_BYTES} are accepted`);
  const bytes = readAt(file, part.offsetBytes, part.sizeBytes);
  if (part.flag === 'L' || part.flag === 'K') {
    extended.set(part.flag === 'L' ? 'path' : 'linkpath', Buffer.from(bytes).toString('utf8').replace(/\0[^]*$/, ''));
    return;
  }
  const records = parsePaxRecords(bytes);
  if (records === undefined) throw new RktError('BAD_IMAGE', `${file.path}: damaged extended tar header at byte ${part.offsetBytes}`);
  for (const { key, value } of records) if (['path', 'linkpath', 'size'].includes(key)) extended.set(key, Buffer.from(value).toString('utf8'));
}

/** `./blobs//x/` → `blobs/x`; names that leave the archive stay distinguishable (`../x`), and match nothing that is looked for. */
function normalise(name: string): string {
  return posix.normalize(name).replace(/^(\.?\/)+|\/+$/g, '').replace(/^\.$/, '');
}
