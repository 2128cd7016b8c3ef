import { RktError } from '../error.ts';
import { byteStringOfText, quoteName } from './bytes.ts';
import type { DirectoryInode } from './inode.ts';
import { splitPath } from './path.ts';
import type { Tree } from './tree.ts';

/** A whitelist as a tree of names. */
interface Allowed {
  isListed: boolean;
  children: Map<string, Allowed>;
}

/**
 * Removes what an appc `pathWhitelist` does not list. Paths are absolute and each stands for itself: a directory on the list
 * does not bring its content along, but the parents of what is kept stay.
 */
export function applyWhitelist(tree: Tree, pathWhitelist: readonly string[]): void {
  if (pathWhitelist.length === 0) return;
  const root = newAllowed();
  for (const text of pathWhitelist) {
    const path = byteStringOfText(text);
    const components = path.startsWith('/') ? splitPath(path) : 'path is not absolute';
    if (typeof components === 'string') throw new RktError('BAD_IMAGE', `pathWhitelist: ${quoteName(path)}: ${components}`);
    let at = root;
    for (const component of components) {
      let next = at.children.get(component);
      if (next === undefined) at.children.set(component, (next = newAllowed()));
      at = next;
    }
    at.isListed = true;
  }
  filter(tree, tree.root, root);
}

function newAllowed(): Allowed {
  return { isListed: false, children: new Map() };
}

function filter(tree: Tree, directory: DirectoryInode, allowed: Allowed): void {
  for (const [name, { inode }] of [...directory.children]) {
    const here = allowed.children.get(name);
    if (here !== undefined && inode.type === 'directory') filter(tree, inode, here);
    const keepsContent = here !== undefined && inode.type === 'directory' && inode.children.size > 0;
    if (here?.isListed !== true && !keepsContent) tree.remove(directory, name);
  }
}
