/** Rendered trees that no image and no pod refers to any more. */
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno } from '../linux/errno.ts';
import { lockFile } from '../linux/flock.ts';
import { pathInPod, POD_FILES, walkPods } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import type { Store } from '../store/index.ts';

/** Trees that pods refer to, in whatever state they are. */
export function treesOfPods(store: Store): Set<string> {
  const used = new Set<string>();
  for (const pod of walkPods(store.dataDir)) for (const tree of treesOf(pod)) used.add(tree);
  return used;
}

/** Does nothing while a pod is being prepared (it may be about to refer to one): the next call will find them. */
export function removeUnusedTrees(store: Store): void {
  const trees = store.listTrees();
  if (trees.length === 0) return;
  const locks = join(store.dataDir, 'locks');
  mkdirSync(locks, { recursive: true, mode: 0o750 });
  const lock = lockFile(join(locks, 'prepareLock'), 'exclusive', { block: false });
  if (lock === null) return;
  try {
    const used = treesOfPods(store);
    for (const { treeStoreID } of store.listImages()) used.add(treeStoreID);
    for (const tree of trees) if (!used.has(tree)) store.removeTree(tree);
  } finally {
    lock.release();
  }
}

function treesOf(pod: PodHandle): string[] {
  let apps: string[];
  try {
    apps = readdirSync(pathInPod(pod, POD_FILES.apps));
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
  return apps.flatMap((app) => {
    try {
      return [readFileSync(pathInPod(pod, `${POD_FILES.apps}/${app}/${POD_FILES.appTreeStoreID}`), 'utf8').trim()];
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return [];
      throw error;
    }
  });
}
