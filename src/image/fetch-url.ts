/** `https://…/NAME.aci` as an image for apps. */
import { partProgress, stillThere } from './fetch-types.ts';
import type { FetchContext, Imported } from './fetch-types.ts';
import { fetchAci } from './fetch-aci.ts';
import type { WantedAci } from './fetch-aci.ts';
import { importAci } from './import-aci.ts';
import type { AppcName } from './verification.ts';

export interface WantedUrl extends WantedAci {
  /** The name that led here. */
  expected?: AppcName;
  /** The name had no version. */
  latest?: boolean;
}

/** Throws RktError; then the store is as it was. */
export async function importFromUrl(wanted: WantedUrl, context: FetchContext): Promise<Imported> {
  const { expected, latest = false } = wanted;
  return await fetchAci<Imported>({ ...wanted, isDependency: context.chain.length > 0 }, {
    kind: 'aci',
    find: (record) => stillThere(record, context.store),
    identify: ({ image, manifest }) => ({ id: image.id, manifest }),
    // Images that depend on others are read a second time, from the file.
    take: async ({ source, vouch }) => await importAci({ source, vouch, ...(expected === undefined ? {} : { expected }), latest, ...partProgress(wanted.text, context, wanted.url) }, context),
  }, context);
}
