/** What archives may ask for; whatever exceeds one of these ends with RktError LIMIT. */
export interface TarLimits {
  /** Entries and headers of all layers together, and files and directories of the merged tree. */
  entries: number;
  /** A path or link target. */
  pathBytes: number;
  /** Components of a path, and depth of the merged tree. */
  pathDepth: number;
  /** All PAX records, GNU long names and sparse maps of one entry. */
  headerBytes: number;
  /** The `manifest` of an ACI. */
  manifestBytes: number;
  /** Content of one file, holes included. */
  fileBytes: number;
  /** All xattrs of one entry, names and values. */
  xattrBytes: number;
  /** Uncompressed tar streams of all layers together. */
  totalBytes: number;
  /** Names, link targets, xattrs and chunk maps of the merged tree: what must be kept in memory until the disk is written. */
  metadataBytes: number;
  /** File system part of the disk, holes included. */
  diskBytes: number;
  /** Path components looked up while merging, those of symlinks included: bounds the time a hostile archive can burn. */
  lookups: number;
}

const MiB = 2 ** 20;
const GiB = 2 ** 30;

export const DEFAULT_TAR_LIMITS: TarLimits = {
  entries: 2_000_000,
  pathBytes: 4095, // PATH_MAX without its NUL
  pathDepth: 512, // fsck.erofs runs out of stack at some 600
  headerBytes: MiB,
  manifestBytes: 4 * MiB,
  fileBytes: 8192 * GiB,
  xattrBytes: MiB / 16,
  totalBytes: 128 * GiB,
  metadataBytes: 512 * MiB,
  diskBytes: 256 * GiB,
  lookups: 200_000_000,
};
