/** Removing images from the store, as `image rm` and `image gc` tell it. */
import type { Store } from '../store/index.ts';
import type { CommandContext } from './context.ts';
import { failure, NOTHING, success } from './reporter.ts';
import type { Outcome } from './reporter.ts';

/** `failedBefore`: images that were asked for and not found. Pods that have an image go on using its tree. */
export function removeImages(store: Store, ids: Iterable<string>, { context, failedBefore = 0 }: { context: CommandContext; failedBefore?: number }): Outcome {
  const { reporter } = context;
  let removed = 0;
  let failed = failedBefore;
  for (const id of ids) {
    try {
      store.removeImage(id, { keepTree: true });
      reporter.print(`successfully removed aci for image: ${JSON.stringify(id)}`);
      removed++;
    } catch (error) {
      reporter.error(error, `error removing aci for image ${JSON.stringify(id)}`);
      failed++;
    }
  }
  if (removed > 0) reporter.note(`${removed} image(s) successfully removed`);
  if (failed === 0) return success(NOTHING);
  reporter.note(`${failed} image(s) cannot be removed`);
  return failure();
}
