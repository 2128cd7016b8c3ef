import { RktError, type ErrorCode } from '../error.ts';
import { quoteName } from './bytes.ts';
import type { BlockWriter } from './block-writer.ts';
import { storeContent } from './content.ts';
import { roomBehindInode } from './erofs-inode.ts';
import type { Attributes, Inode } from './inode.ts';
import type { TarLimits } from './limits.ts';
import { splitPath } from './path.ts';
import type { TarEntry } from './tar-entry.ts';
import type { TarRecorder } from './tar-recipe.ts';
import { TreeError, type Tree } from './tree.ts';
import { encodeXattrs, reasonToDropXattr } from './xattr.ts';

/** What layers are merged into. */
export interface Merge {
  tree: Tree;
  writer: BlockWriter;
  limits: TarLimits;
  tails: TailBudget;
  onWarning: (message: string) => void;
}

/** Short ends of files are kept in memory to be stored behind their inodes, as long as there is room. */
export interface TailBudget {
  leftBytes: number;
}

/** Larger ends would rather leave gaps in the blocks of the inode table than save a block. */
const MAX_TAIL_BYTES = 2048;

/** The layer that is being merged. Layers count from 1, the lowest. */
export interface LayerContext {
  number: number;
  name: string;
  /** Names beginning with `.wh.` remove what is below (OCI image-spec, layer.md, "Whiteouts"). */
  hasWhiteouts: boolean;
  /** Told where the contents of its files go. */
  recorder: TarRecorder | undefined;
  /** Dropped xattrs that were already warned about. */
  warned: Set<string>;
}

const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';
/** Left by AUFS in old images; nothing of the image. */
const AUFS_PRIVATE = '.wh..wh.';

export function entryError(layer: LayerContext, entry: { path: string }, problem: { code: ErrorCode; message: string }): RktError {
  return new RktError(problem.code, `${layer.name}: entry ${quoteName(entry.path)}: ${problem.message}`);
}

/**
 * Merges one entry. `path`: its components below the image's root; `linkRoot`: components that a hard link's target must begin
 * with (`rootfs` in an ACI).
 */
export async function mergeEntry(merge: Merge, layer: LayerContext, placed: { entry: TarEntry; path: string[]; linkRoot: string[] }): Promise<void> {
  try {
    await place(merge, layer, placed);
    for (const orphan of merge.tree.takeOrphans()) await merge.writer.erase(orphan.firstBlock, orphan.blocks);
  } catch (error) {
    if (error instanceof TreeError) throw entryError(layer, placed.entry, { code: error.kind, message: error.message });
    throw error;
  }
}

async function place(merge: Merge, layer: LayerContext, placed: { entry: TarEntry; path: string[]; linkRoot: string[] }): Promise<void> {
  const { tree } = merge;
  const { entry, path, linkRoot } = placed;
  const name = path[path.length - 1];
  if (name === undefined) {
    if (entry.type !== 'directory') throw new TreeError('BAD_IMAGE', 'the root of the image is not a directory');
    Object.assign(tree.root, attributesOf(merge, layer, entry));
    return;
  }
  const parentPath = path.slice(0, -1);
  if (layer.hasWhiteouts && path.some((component) => component.startsWith(WHITEOUT))) {
    applyWhiteout(tree, layer, { parentPath, name });
    return;
  }
  if (entry.type === 'hardlink') {
    const target = findLinkTarget(tree, entry, linkRoot);
    tree.put(tree.makeDirectory(parentPath, layer.number), name, { inode: target, layer: layer.number });
    return;
  }
  const attributes = attributesOf(merge, layer, entry);
  if (entry.type === 'directory') {
    tree.putDirectory(tree.makeDirectory(parentPath, layer.number), name, { attributes, layer: layer.number });
    return;
  }
  const recorded = layer.recorder?.expect(entry);
  const inode = await newInode(merge, entry, attributes);
  if (recorded !== undefined && inode.type === 'file') recorded.inode = inode;
  tree.put(tree.makeDirectory(parentPath, layer.number), name, { inode, layer: layer.number });
}

function applyWhiteout(tree: Tree, layer: LayerContext, at: { parentPath: string[]; name: string }): void {
  const { parentPath, name } = at;
  if (parentPath.some((component) => component.startsWith(AUFS_PRIVATE))) return;
  if (parentPath.some((component) => component.startsWith(WHITEOUT))) throw new TreeError('BAD_IMAGE', 'a directory has the name of a whiteout');
  if (name.startsWith(AUFS_PRIVATE) && name !== OPAQUE) return;
  const directory = tree.findDirectory(parentPath);
  if (name === OPAQUE) {
    if (directory !== undefined) tree.whiteOutChildren(directory, layer.number);
    return;
  }
  const hidden = name.slice(WHITEOUT.length);
  if (hidden === '' || hidden === '.' || hidden === '..') throw new TreeError('BAD_IMAGE', 'whiteout of no name a file can have');
  if (directory !== undefined) tree.whiteOut(directory, hidden, layer.number);
}

function findLinkTarget(tree: Tree, entry: TarEntry, linkRoot: readonly string[]): Inode {
  const shown = quoteName(entry.linkPath);
  // `tar -P` writes both absolute: consistent. A relative entry linked to an absolute path is meant for the machine it is unpacked on.
  if (entry.linkPath.startsWith('/') && !entry.path.startsWith('/')) throw new TreeError('BAD_IMAGE', `hard link target ${shown} is absolute`);
  const path = splitPath(entry.linkPath);
  if (typeof path === 'string') throw new TreeError('BAD_IMAGE', `hard link target ${shown}: ${path}`);
  if (linkRoot.some((component, i) => path[i] !== component)) throw new TreeError('BAD_IMAGE', `hard link target ${shown} is not in ${quoteName(linkRoot.join('/'))}`);
  const target = tree.find(path.slice(linkRoot.length));
  if (target === undefined) throw new TreeError('BAD_IMAGE', `hard link target ${shown} does not exist`);
  if (target.type === 'directory') throw new TreeError('BAD_IMAGE', `hard link target ${shown} is a directory`);
  return target;
}

async function newInode(merge: Merge, entry: TarEntry, attributes: Attributes): Promise<Inode> {
  const common = { ...attributes, links: 0, nid: 0 };
  switch (entry.type) {
    case 'file': {
      const content = await storeContent(entry, merge.writer, Math.min(MAX_TAIL_BYTES, roomBehindInode(attributes.xattrs), merge.tails.leftBytes));
      if (content.layout === 'flat') merge.tails.leftBytes -= content.tail?.length ?? 0;
      else merge.tree.chargeMetadata(content.map.byteLength);
      return { type: 'file', ...common, content };
    }
    case 'symlink':
      merge.tree.chargeMetadata(entry.linkPath.length);
      return { type: 'symlink', ...common, mode: 0o777, target: entry.linkPath };
    case 'character':
    case 'block':
      return { type: entry.type, ...common, ...entry.device };
    case 'fifo':
      return { type: 'fifo', ...common };
    case 'hardlink':
    case 'directory':
      throw new RktError('INTERNAL', `${entry.type} is no new inode`);
  }
}

function attributesOf(merge: Merge, layer: LayerContext, entry: TarEntry): Attributes {
  return {
    mode: entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    mtimeSeconds: entry.mtime.seconds,
    mtimeNanoseconds: entry.mtime.nanoseconds,
    xattrs: entry.xattrs.size === 0 ? undefined : keepXattrs(merge, layer, entry),
  };
}

function keepXattrs(merge: Merge, layer: LayerContext, entry: TarEntry): Uint8Array | undefined {
  const kept = new Map<string, Uint8Array>();
  for (const [name, value] of entry.xattrs) {
    const reason = reasonToDropXattr(name);
    if (reason === undefined) {
      kept.set(name, value);
    } else if (!layer.warned.has(name) && layer.warned.size < MAX_WARNINGS) {
      layer.warned.add(name);
      merge.onWarning(`${layer.name}: entry ${quoteName(entry.path)}: xattr ${quoteName(name)} left out: ${reason}`);
    }
  }
  const area = encodeXattrs(kept);
  merge.tree.chargeMetadata(area?.length ?? 0);
  return area;
}

/** Of one layer, one for each name of an xattr. */
const MAX_WARNINGS = 20;
