import { removeUnusedTrees } from '../../stage0/trees.ts';
import { openStore } from '../../store/index.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { findStoredImage } from '../find-image.ts';
import { usage } from '../flags/flag.ts';
import { removeImages } from '../remove-images.ts';
import type { Outcome } from '../reporter.ts';

export function run({ positional }: ArgumentInput, context: CommandContext): Outcome {
  if (positional.length === 0) throw usage('must provide at least one image ID');
  const store = openStore(context.dataDir());
  // The same image named twice counts once.
  const wanted = new Set<string>();
  let failedBefore = 0;
  for (const text of positional) {
    try {
      wanted.add(findStoredImage(store, text).id);
    } catch (error) {
      context.reporter.error(error);
      failedBefore++;
    }
  }
  const outcome = removeImages(store, wanted, { context, failedBefore });
  removeUnusedTrees(store);
  return outcome;
}
