/**
 * Trees of files between host and guest, on a connection to STREAM_PORT whose first frame is a FilesHeader. The sender of the tree
 * sends a frame for each entry, parents before what is in them; a file's frame is followed by exactly `sizeBytes` bytes of content.
 * `end` closes the tree. Direction `out`: the agent sends. Direction `in`: the host sends, and the agent answers the host's `end`
 * with its own when all is in place. The agent may say `warning` between two frames, and `failed` instead of any.
 * See docs/wire-protocol.md.
 */

/** First frame. */
export interface FilesHeader {
  files: FilesRequest;
}

export type FilesRequest =
  | {
      direction: 'out';
      app: string;
      /** In the app's root; relative paths begin there too. */
      path: string;
      /** What a symbolic link at the end of `path` leads to, instead of the link. */
      followLink: boolean;
      /** Extended attributes, too. */
      xattrs: boolean;
    }
  | {
      direction: 'in';
      app: string;
      path: string;
      /** What the tree is called when `path` is an existing directory. Null: its content goes into `path`, which must exist or be made. */
      name: string | null;
      /** What the tree's top is. `entries`: there is none, and `path` must be a directory. */
      top: 'directory' | 'file' | 'entries';
      /** Owners and set-id bits of the entries; else everything belongs to the app's user. */
      archive: boolean;
    };

interface Attributes {
  /**
   * Relative to the top, which is `''`; no leading slash, no empty, `.` or `..` component. A byte string: one UTF-16 unit (0–255)
   * for each byte, because names need not be UTF-8.
   */
  path: string;
  /** 0–0o7777 */
  mode: number;
  uid: number;
  gid: number;
  seconds: number;
  nanoseconds: number;
  /** Name → value in hexadecimal; absent when there are none, or nobody asked. */
  xattrs?: Record<string, string>;
}

export type FileEntry =
  | (Attributes & { type: 'directory' })
  | (Attributes & { type: 'file'; sizeBytes: number })
  /** `target` is a byte string. */
  | (Attributes & { type: 'symlink'; target: string })
  /** `target`: path of an earlier file of the tree. */
  | (Attributes & { type: 'hardlink'; target: string })
  | (Attributes & { type: 'character' | 'block'; major: number; minor: number })
  | (Attributes & { type: 'fifo' });

export type FilesMessage = FileEntry | { type: 'end' } | { type: 'warning'; message: string } | { type: 'failed'; message: string };

/** Of one frame behind the header: a path, and as many attributes as Linux lets a file have. */
export const FILES_FRAME_MAX_BYTES = 192 << 10;
/** Linux's PATH_MAX and NAME_MAX, without what ends a path. */
export const PATH_MAX_BYTES = 4095;
export const NAME_MAX_BYTES = 255;

/** Why a path cannot be one of an entry; undefined: it can. */
export function complaintAboutPath(path: string): string | undefined {
  if (path.length > PATH_MAX_BYTES) return `longer than ${PATH_MAX_BYTES} bytes`;
  if (path.includes('\0')) return 'a NUL in it';
  if (path === '') return undefined;
  for (const component of path.split('/')) {
    if (component === '' || component === '.' || component === '..') return `a component "${component}"`;
    if (component.length > NAME_MAX_BYTES) return `a component longer than ${NAME_MAX_BYTES} bytes`;
  }
  return undefined;
}
