import { RktError } from '../error.ts';
import { byteStringFrom, copyByteString } from './bytes.ts';

/** Name prefixes the file system knows by number (linux/fs/erofs/erofs_fs.h, EROFS_XATTR_INDEX_*); the two ACLs are whole names. */
const PREFIXES = [
  { prefix: 'user.', index: 1, whole: false },
  { prefix: 'system.posix_acl_access', index: 2, whole: true },
  { prefix: 'system.posix_acl_default', index: 3, whole: true },
  { prefix: 'trusted.', index: 4, whole: false },
  { prefix: 'security.', index: 6, whole: false },
] as const;

/** overlayfs's own marks say something about the overlay they were copied from; in a lower layer they would change what the guest sees. */
const OVERLAY_MARKS = ['trusted.overlay.', 'user.overlay.'];

const HEADER_BYTES = 12;
const ENTRY_HEADER_BYTES = 4;
export const MAX_XATTR_VALUE_BYTES = 0xffff;

/** Whether the disk can and should hold an xattr of this name; if not, why. */
export function reasonToDropXattr(name: string): string | undefined {
  if (OVERLAY_MARKS.some((mark) => name.startsWith(mark))) return 'marks of overlayfs are not part of an image';
  const known = PREFIXES.some(({ prefix, whole }) => (whole ? name === prefix : name.startsWith(prefix) && name.length > prefix.length));
  return known ? undefined : 'Linux has no such xattr on a read-only file system';
}

/**
 * The xattr area behind an inode (struct erofs_xattr_ibody_header and entries), sorted by name so that the order in the
 * archive does not matter. Undefined if there is none. All names must have no reason to be dropped.
 */
export function encodeXattrs(xattrs: ReadonlyMap<string, Uint8Array>): Uint8Array | undefined {
  if (xattrs.size === 0) return undefined;
  const entries = [...xattrs].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, value]) => encodeEntry(name, value));
  const area = new Uint8Array(entries.reduce((sum, entry) => sum + entry.length, HEADER_BYTES));
  let at = HEADER_BYTES;
  for (const entry of entries) {
    area.set(entry, at);
    at += entry.length;
  }
  return area;
}

function encodeEntry(name: string, value: Uint8Array): Uint8Array {
  const known = PREFIXES.find(({ prefix }) => name.startsWith(prefix));
  const suffix = name.slice(known?.prefix.length);
  const sizeBytes = ENTRY_HEADER_BYTES + suffix.length + value.length;
  const entry = new Uint8Array(Math.ceil(sizeBytes / 4) * 4);
  entry[0] = suffix.length;
  entry[1] = known?.index ?? 0;
  entry[2] = value.length & 0xff;
  entry[3] = value.length >> 8;
  copyByteString(suffix, entry, ENTRY_HEADER_BYTES);
  entry.set(value, ENTRY_HEADER_BYTES + suffix.length);
  return entry;
}

/** The inode field i_xattr_icount for an area of this size. */
export function xattrCountField(area: Uint8Array | undefined): number {
  return area === undefined ? 0 : (area.length - HEADER_BYTES) / 4 + 1;
}

/** Size of the area that a field i_xattr_icount tells. */
export function xattrAreaBytes(countField: number): number {
  return countField === 0 ? 0 : HEADER_BYTES + (countField - 1) * 4;
}

/** The opposite of `encodeXattrs`. Throws RktError IO. */
export function decodeXattrs(area: Uint8Array, name: string): Map<string, Uint8Array> {
  const xattrs = new Map<string, Uint8Array>();
  for (let at = HEADER_BYTES; at < area.length; ) {
    const [nameBytes = 0, index = 0, low = 0, high = 0] = area.subarray(at, at + ENTRY_HEADER_BYTES);
    const valueAt = at + ENTRY_HEADER_BYTES + nameBytes;
    const endAt = valueAt + low + high * 256;
    const known = PREFIXES.find((prefix) => prefix.index === index);
    if (known === undefined || endAt > area.length) throw new RktError('IO', `${name}: damaged: xattrs`);
    xattrs.set(known.prefix + byteStringFrom(area.subarray(at + ENTRY_HEADER_BYTES, valueAt)), area.slice(valueAt, endAt));
    at = Math.ceil(endAt / 4) * 4;
  }
  return xattrs;
}
