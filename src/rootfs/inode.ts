import type { Content } from './content.ts';

/** What all kinds of files have. */
export interface Attributes {
  /** Permission bits: 0–0o7777. */
  mode: number;
  uid: number;
  gid: number;
  mtimeSeconds: number;
  mtimeNanoseconds: number;
  /** As it stands on the disk (see xattr.ts). */
  xattrs: Uint8Array | undefined;
}

/** Files of the merged image. `links` counts names; `nid` is where the inode lies on the disk, known once that is laid out. */
export type Inode = DirectoryInode | FileInode | SymlinkInode | DeviceInode | FifoInode;

export interface DirectoryInode extends Attributes {
  type: 'directory';
  links: number;
  nid: number;
  /** By name, a byte string. */
  children: Map<string, Link>;
  /** The root is its own parent. */
  parent: DirectoryInode;
  depth: number;
  /** The last layer in which everything from below that layer was removed. */
  prunedInLayer: number;
}

export interface FileInode extends Attributes {
  type: 'file';
  links: number;
  nid: number;
  content: Content;
}

export interface SymlinkInode extends Attributes {
  type: 'symlink';
  links: number;
  nid: number;
  /** A byte string. */
  target: string;
}

export interface DeviceInode extends Attributes {
  type: 'character' | 'block';
  links: number;
  nid: number;
  major: number;
  minor: number;
}

export interface FifoInode extends Attributes {
  type: 'fifo';
  links: number;
  nid: number;
}

/** A name in a directory, and the layer that set it last. */
export interface Link {
  inode: Inode;
  layer: number;
}

/** For directories that no entry describes. */
export const DEFAULT_DIRECTORY: Attributes = { mode: 0o755, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanoseconds: 0, xattrs: undefined };
