export type TarEntryType = 'file' | 'hardlink' | 'symlink' | 'character' | 'block' | 'directory' | 'fifo';

export interface TarTime {
  /** Since 1970; may be negative. */
  seconds: number;
  /** 0–999 999 999, counted upwards from `seconds`. */
  nanoseconds: number;
}

/** A range of a file. */
export interface Extent {
  offsetBytes: number;
  lengthBytes: number;
}

/** A piece of a file's content. `data` is valid until the next piece is asked for. */
export interface TarData {
  offsetBytes: number;
  data: Uint8Array;
}

/** One member of an archive. `path`, `linkPath` and names of xattrs are byte strings (see bytes.ts). */
export interface TarEntry {
  type: TarEntryType;
  /** As the archive says it; at least one byte, no NUL. Not checked for `..` or a leading `/`. */
  path: string;
  /** Permission bits with setuid, setgid and sticky: 0–0o7777. */
  mode: number;
  /** 0 … 2^32-2 */
  uid: number;
  gid: number;
  mtime: TarTime;
  /** Target of a symlink or hard link, else empty. */
  linkPath: string;
  /** 0:0 for all but devices. */
  device: { major: number; minor: number };
  xattrs: ReadonlyMap<string, Uint8Array>;
  /** Size of the file's content, holes included. 0 for all but files. */
  sizeBytes: number;
  /** Where data is, ascending and apart, of a file stored as sparse; undefined: everywhere. */
  extents: readonly Extent[] | undefined;
  /** Where the content begins in the stream, of a file whose content lies there in one piece. */
  bodyAt?: number;
  /** The content at ascending offsets; what lies between reads as zeros. To be read before the next entry is asked for; what is not read is skipped. */
  body: AsyncIterable<TarData>;
}
