/** Stage1 images of web servers. What runs pods on this host needs a signature like any other image. */
import { join } from 'node:path';
import type { Stage1Image } from '../store/store.ts';
import { fetchAci } from './fetch-aci.ts';
import type { FetchOptions } from './fetch-types.ts';
import { readStage1Manifest, unpackStage1 } from './stage1-unpack.ts';

/** Throws RktError; then the store is as it was. */
export async function fetchStage1(url: string, options: FetchOptions): Promise<Stage1Image> {
  const { store } = options;
  return await fetchAci<Stage1Image>({ url, text: url }, {
    kind: 'stage1',
    find: ({ imageID }) => store.stage1Image(imageID),
    identify: (image) => image,
    take: async ({ source, vouch, workspace }) => {
      for await (const chunk of source.open()) void chunk;
      // Verified before anything is unpacked: a stage1 is unpacked on this host.
      await vouch((await readStage1Manifest(source)).name);
      const directory = join(workspace.path, 'stage1');
      return store.commitStage1(await unpackStage1(source, directory), directory);
    },
  }, options);
}
