/** From image arguments to images in the store. */
import { fetchImage, parseImageString } from '../image/index.ts';
import type { FetchedImage, FetchOptions, PullPolicy } from '../image/index.ts';
import type { Store } from '../store/index.ts';
import type { CommandContext } from './context.ts';
import { usage } from './flags/flag.ts';
import type { FlagValues } from './flags/flag.ts';
import * as flags from './flags/table.ts';
import { networkSettings } from './network-settings.ts';
import { createProgress } from './progress.ts';
import type { ProgressFormat } from './progress.ts';

export interface WantedImage {
  /** As the user wrote it. */
  text: string;
  accept?: FetchOptions['accept'];
  /** Path or URL of a detached signature. */
  signature?: string;
}

export interface FetchImagesOptions extends Pick<FetchOptions, 'pullPolicy' | 'keepLayers' | 'platform'> {
  store: Store;
  context: CommandContext;
  progress?: ProgressFormat;
}

/** One after the other, in the order given: they would only compete for the same disk. */
export async function fetchImages(wanted: readonly WantedImage[], options: FetchImagesOptions): Promise<FetchedImage[]> {
  const { store, context, progress: format, ...fetchOptions } = options;
  const progress = createProgress(context.reporter, format ?? 'text');
  const images: FetchedImage[] = [];
  try {
    for (const { text, accept, signature } of wanted) {
      const image = await fetchImage(parseImageString(text, context.cwd), {
        ...fetchOptions,
        store,
        ...(accept === undefined ? {} : { accept }),
        ...(signature === undefined ? {} : { signature }),
        network: networkSettings(context),
        onProgress: progress.update,
        onWarning: (message) => progress.note(message),
        log: (message) => context.reporter.debug('image', message),
      });
      context.reporter.debug('image', `using image ${image.id} for ${text}`);
      progress.done({ text, id: image.id, name: image.manifest.name });
      images.push(image);
    }
  } finally {
    progress.close();
  }
  return images;
}

/** Whether the store answers. Files of this machine are read anew whatever the policy says. */
export function pullPolicyOf(values: FlagValues, fallback: PullPolicy): PullPolicy {
  const storeOnly = values.last(flags.storeOnly) ?? false;
  const noStore = values.last(flags.noStore) ?? false;
  if (storeOnly && noStore) throw usage('both --store-only and --no-store specified');
  if (storeOnly) return 'never';
  return noStore ? 'update' : (values.last(flags.pullPolicy) ?? values.last(flags.pullPolicyOfFetch) ?? fallback);
}

/** Flags of `run`, `prepare` and `fetch` about where images come from and what is kept of them. */
export function pullOptions(values: FlagValues, context: CommandContext, fallback: PullPolicy): Pick<FetchOptions, 'pullPolicy' | 'keepLayers' | 'platform'> {
  const platform = values.last(flags.platform);
  return { pullPolicy: pullPolicyOf(values, fallback), keepLayers: values.last(flags.keepLayers) ?? context.config().store.keepLayers ?? false, ...(platform === undefined ? {} : { platform }) };
}

/** `--signature` belongs to the image before it. */
export function signatureOf(given: FlagValues): { signature?: string } {
  const signature = given.last(flags.signature);
  return signature === undefined ? {} : { signature };
}
