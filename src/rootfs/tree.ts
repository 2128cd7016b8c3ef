import type { Content } from './content.ts';
import { DEFAULT_DIRECTORY, type Attributes, type DirectoryInode, type Inode } from './inode.ts';
import type { TarLimits } from './limits.ts';
import { splitTarget } from './path.ts';

/** As many symlinks as Linux follows in one path. */
const MAX_SYMLINKS = 40;

/** Why something could not be done to the tree; the caller knows which entry asked for it. */
export class TreeError extends Error {
  readonly kind: 'BAD_IMAGE' | 'LIMIT';

  constructor(kind: 'BAD_IMAGE' | 'LIMIT', message: string) {
    super(message);
    this.kind = kind;
  }
}

/**
 * The merged image: a tree of inodes in memory. Paths are resolved as by a process whose root directory is the image:
 * symlinks in the parent of an entry are followed, absolute ones and `..` never lead out of the tree.
 */
export class Tree {
  readonly root: DirectoryInode;
  readonly #limits: TarLimits;
  readonly #orphans: Content[] = [];
  #inodes = 1;
  #lookups = 0;
  #metadataBytes = 0;

  constructor(limits: TarLimits) {
    this.#limits = limits;
    this.root = newDirectory(undefined, DEFAULT_DIRECTORY, 0);
  }

  /** Contents whose last name is gone since the last call. */
  takeOrphans(): Content[] {
    return this.#orphans.splice(0);
  }

  /** Counts what must be kept in memory until the disk is complete. */
  chargeMetadata(sizeBytes: number): void {
    this.#metadataBytes += sizeBytes;
    if (this.#metadataBytes > this.#limits.metadataBytes) {
      throw new TreeError('LIMIT', `names, links and xattrs of the image exceed ${this.#limits.metadataBytes} bytes`);
    }
  }

  /** The directory at a path; what is missing is made. Throws TreeError if something else is in the way. */
  makeDirectory(path: readonly string[], layer: number): DirectoryInode {
    const found = this.#walk(path, layer);
    if (typeof found === 'string') throw new TreeError('BAD_IMAGE', found);
    return found;
  }

  /** The directory at a path, or undefined if there is none. */
  findDirectory(path: readonly string[]): DirectoryInode | undefined {
    const found = this.#walk(path, undefined);
    return typeof found === 'string' ? undefined : found;
  }

  /** What the name at the end of a path stands for (a symlink there is not followed), or undefined. */
  find(path: readonly string[]): Inode | undefined {
    const name = path[path.length - 1];
    if (name === undefined) return this.root;
    return this.findDirectory(path.slice(0, -1))?.children.get(name)?.inode;
  }

  /** Describes the directory `name` in `parent` anew, or makes it; whatever else had the name goes. */
  putDirectory(parent: DirectoryInode, name: string, options: { attributes: Attributes; layer: number }): DirectoryInode {
    const { attributes, layer } = options;
    const existing = parent.children.get(name);
    if (existing?.inode.type === 'directory') {
      existing.layer = layer;
      Object.assign(existing.inode, attributes);
      return existing.inode;
    }
    const directory = newDirectory(parent, attributes, layer);
    if (directory.depth > this.#limits.pathDepth) throw new TreeError('LIMIT', `directories are nested deeper than ${this.#limits.pathDepth}`);
    this.put(parent, name, { inode: directory, layer });
    return directory;
  }

  /** Gives an inode that is no directory in the tree yet a name; whatever had the name goes. */
  put(parent: DirectoryInode, name: string, link: { inode: Inode; layer: number }): void {
    const existing = parent.children.get(name);
    if (existing?.inode === link.inode) {
      existing.layer = link.layer;
      return;
    }
    if (link.inode.links === 0 && ++this.#inodes > this.#limits.entries) throw new TreeError('LIMIT', `image has more than ${this.#limits.entries} files`);
    this.chargeMetadata(name.length);
    link.inode.links++;
    if (existing !== undefined) this.#drop(existing.inode);
    parent.children.set(name, { inode: link.inode, layer: link.layer });
  }

  remove(parent: DirectoryInode, name: string): void {
    const link = parent.children.get(name);
    if (link === undefined) return;
    parent.children.delete(name);
    this.#drop(link.inode);
  }

  /** Removes what layers below `layer` put under a name; what `layer` itself put there stays. */
  whiteOut(parent: DirectoryInode, name: string, layer: number): void {
    const link = parent.children.get(name);
    if (link === undefined) return;
    if (link.inode.type === 'directory') this.whiteOutChildren(link.inode, layer);
    const isInUse = link.inode.type === 'directory' && link.inode.children.size > 0;
    if (link.layer !== layer && !isInUse) this.remove(parent, name);
  }

  /** Removes what layers below `layer` put into a directory. */
  whiteOutChildren(directory: DirectoryInode, layer: number): void {
    // Once is enough: from then on only this layer puts anything in. It also keeps thousands of markers from costing more than one.
    if (directory.prunedInLayer === layer) return;
    directory.prunedInLayer = layer;
    for (const name of [...directory.children.keys()]) this.whiteOut(directory, name, layer);
  }

  #walk(path: readonly string[], layerToMake: number | undefined): DirectoryInode | string {
    let directory = this.root;
    let symlinks = 0;
    const pending = path.slice().reverse();
    for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
      if (++this.#lookups > this.#limits.lookups) throw new TreeError('LIMIT', `image takes more than ${this.#limits.lookups} name look-ups`);
      if (name === '..') {
        directory = directory.parent;
        continue;
      }
      const inode = directory.children.get(name)?.inode;
      if (inode === undefined) {
        if (layerToMake === undefined) return 'no such directory';
        directory = this.putDirectory(directory, name, { attributes: DEFAULT_DIRECTORY, layer: layerToMake });
      } else if (inode.type === 'directory') {
        directory = inode;
      } else if (inode.type === 'symlink') {
        const target = splitTarget(inode.target);
        if (target === undefined) return 'a symlink in its path has a component longer than any name';
        if (++symlinks > MAX_SYMLINKS) return `its path leads through more than ${MAX_SYMLINKS} symlinks`;
        if (inode.target.startsWith('/')) directory = this.root;
        for (const component of target.reverse()) pending.push(component);
      } else {
        return 'a parent of it is not a directory';
      }
    }
    return directory;
  }

  /** One name less. */
  #drop(inode: Inode): void {
    inode.links--;
    if (inode.links > 0) return;
    this.#inodes--;
    if (inode.type === 'file' && inode.content.blocks > 0) this.#orphans.push(inode.content);
    if (inode.type === 'directory') for (const link of inode.children.values()) this.#drop(link.inode);
  }
}

function newDirectory(parent: DirectoryInode | undefined, attributes: Attributes, layer: number): DirectoryInode {
  const directory = {
    type: 'directory' as const,
    ...attributes,
    links: 0,
    nid: 0,
    children: new Map<string, never>(),
    depth: parent === undefined ? 0 : parent.depth + 1,
    prunedInLayer: layer,
  };
  const self: DirectoryInode = Object.assign(directory, { parent: parent ?? (undefined as never) });
  if (parent === undefined) self.parent = self;
  return self;
}
