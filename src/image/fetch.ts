/** From a reference to an image in the store, rendered and ready to run. */
import { importLocal } from './import-local.ts';
import type { FetchContext, FetchedImage, FetchOptions, Imported } from './fetch-types.ts';
import type { ImageReference } from './reference.ts';
import type { AppcName } from './verification.ts';

/** Gets an image into the store unless it is there, and marks it as used. Throws RktError; then the store is as it was. */
export async function fetchImage(reference: ImageReference, options: FetchOptions): Promise<FetchedImage> {
  const { store } = options;
  const { image, manifest } = await importImage(reference, { ...options, chain: [], fetchDependency });
  store.touch(image.id);
  return { ...image, lastUsedMs: Date.now(), manifest, disk: store.disk(image.id) };
}

async function importImage(reference: ImageReference, context: FetchContext): Promise<Imported> {
  const { store } = context;
  switch (reference.kind) {
    case 'id': {
      const image = store.findImage(reference.id);
      context.log?.(`using image from the store with hash ${image.id}`);
      return { image, manifest: store.imageManifest(image.id) };
    }
    case 'docker': {
      const { importFromRegistry } = await import('./fetch-docker.ts');
      return await importFromRegistry(reference, context);
    }
    case 'url': {
      const { importFromUrl } = await import('./fetch-url.ts');
      return await importFromUrl(reference, context);
    }
    case 'appc': {
      const { importUnqualified } = await import('./short-name.ts');
      return await importUnqualified(reference, context);
    }
    default:
      context.log?.(`using image from file ${reference.path}`);
      return await importLocal(reference, context);
  }
}

async function fetchDependency(app: AppcName, context: FetchContext): Promise<Imported> {
  const { importByName } = await import('./fetch-appc.ts');
  return await importByName(app, app.name, context);
}
