/** From image arguments to images in the store. */
import { fetchImage, parseImageString } from '../image/index.ts';
import type { FetchedImage, FetchOptions } from '../image/index.ts';
import type { Store } from '../store/index.ts';
import type { CommandContext } from './context.ts';
import { usage } from './flags/flag.ts';
import type { FlagValues } from './flags/flag.ts';
import * as flags from './flags/table.ts';
import { createProgressLine } from './progress.ts';

export interface WantedImage {
  /** As the user wrote it. */
  text: string;
  accept?: FetchOptions['accept'];
}

/** One after the other, in the order given: they would only compete for the same disk. */
export async function fetchImages(wanted: readonly WantedImage[], options: { store: Store; context: CommandContext }): Promise<FetchedImage[]> {
  const { store, context } = options;
  const progress = createProgressLine(context.reporter);
  const images: FetchedImage[] = [];
  try {
    for (const { text, accept } of wanted) {
      const image = await fetchImage(parseImageString(text, context.cwd), {
        store,
        ...(accept === undefined ? {} : { accept }),
        insecure: { image: context.insecure.image },
        onProgress: ({ doneBytes, totalBytes }) => progress.update(text, { doneBytes, totalBytes }),
        onWarning: (message) => context.reporter.note(message),
      });
      context.reporter.debug('image', `using image ${image.id} for ${text}`);
      images.push(image);
    }
  } finally {
    progress.clear();
  }
  return images;
}

/** Where images may come from. Files are read anew whatever the policy says, and nothing is fetched over a network yet. */
export function pullPolicyOf(values: FlagValues, fallback: 'never' | 'new' | 'update'): 'never' | 'new' | 'update' {
  const storeOnly = values.last(flags.storeOnly) ?? false;
  const noStore = values.last(flags.noStore) ?? false;
  if (storeOnly && noStore) throw usage('both --store-only and --no-store specified');
  if (storeOnly) return 'never';
  return noStore ? 'update' : (values.last(flags.pullPolicy) ?? fallback);
}
