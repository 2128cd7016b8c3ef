import { removeUnusedTrees } from '../../stage0/trees.ts';
import { openStore } from '../../store/index.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { findStoredImage } from '../find-image.ts';
import { usage } from '../flags/flag.ts';
import { failure, NOTHING, success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

export function run({ positional }: ArgumentInput, context: CommandContext): Outcome {
  if (positional.length === 0) throw usage('must provide at least one image ID');
  const { reporter } = context;
  const store = openStore(context.dataDir());
  // The same image named twice counts once.
  const wanted = new Set<string>();
  let failed = 0;
  for (const text of positional) {
    try {
      wanted.add(findStoredImage(store, text).id);
    } catch (error) {
      reporter.error(error);
      failed++;
    }
  }
  let removed = 0;
  for (const id of wanted) {
    try {
      // Pods that have it go on using its tree, which is removed below when there are none.
      store.removeImage(id, { keepTree: true });
      reporter.print(`successfully removed aci for image: ${JSON.stringify(id)}`);
      removed++;
    } catch (error) {
      reporter.error(error, `error removing aci for image ${JSON.stringify(id)}`);
      failed++;
    }
  }
  removeUnusedTrees(store);
  if (removed > 0) reporter.note(`${removed} image(s) successfully removed`);
  if (failed === 0) return success(NOTHING);
  reporter.note(`${failed} image(s) cannot be removed`);
  return failure();
}
