import { removeUnusedTrees, treesOfPods } from '../../stage0/trees.ts';
import { openStore } from '../../store/index.ts';
import type { Store, StoredImage } from '../../store/index.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import * as flags from '../flags/table.ts';
import { removeImages } from '../remove-images.ts';
import type { Outcome } from '../reporter.ts';

const DEFAULT_GRACE_PERIOD_MS = 24 * 3_600_000;

export function run({ values }: ArgumentInput, context: CommandContext): Outcome {
  const store = openStore(context.dataDir());
  const gracePeriodMs = values.last(flags.imageGracePeriod) ?? DEFAULT_GRACE_PERIOD_MS;
  // A pod goes on using the tree of its image: removing that image would free nothing.
  const used = treesOfPods(store);
  const images = store.listImages().filter(({ treeStoreID }) => !used.has(treeStoreID)).sort((a, b) => a.lastUsedMs - b.lastUsedMs);
  const nowMs = Date.now();
  const unwanted = new Set(images.filter(({ lastUsedMs }) => nowMs - lastUsedMs > gracePeriodMs).map(({ id }) => id));
  const maxSizeBytes = values.last(flags.maxSize);
  if (maxSizeBytes !== undefined) for (const id of beyondSize(store, { images, unwanted, maxSizeBytes })) unwanted.add(id);
  const outcome = removeImages(store, unwanted, { context });
  removeUnusedTrees(store);
  store.removeUnusedBlobs();
  return outcome;
}

/** Those used longest ago, until what is left fits. Layers that are kept count for the image they belong to. */
function beyondSize(store: Store, { images, unwanted, maxSizeBytes }: { images: readonly StoredImage[]; unwanted: ReadonlySet<string>; maxSizeBytes: number }): string[] {
  const sizeOf = (image: StoredImage): number => image.sizeBytes + store.keptBytes(image.id);
  const left = images.filter(({ id }) => !unwanted.has(id));
  let totalBytes = store.listImages().filter(({ id }) => !unwanted.has(id)).reduce((sum, image) => sum + sizeOf(image), 0);
  const ids: string[] = [];
  for (const image of left) {
    if (totalBytes <= maxSizeBytes) break;
    totalBytes -= sizeOf(image);
    ids.push(image.id);
  }
  return ids;
}
