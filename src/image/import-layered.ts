/** An OCI or Docker image into the store, wherever its layers are. */
import { join } from 'node:path';
import { RktError } from '../error.ts';
import type { VerifiedBy } from '../schema/verified-by.ts';
import { manifestHash, treeStoreIdOf } from '../store/store.ts';
import type { NewDisk, NewImage, Store } from '../store/store.ts';
import type { Workspace } from '../store/workspace.ts';
import { convertImage } from './convert.ts';
import { partProgress, warnings } from './fetch-types.ts';
import type { FetchContext, Imported } from './fetch-types.ts';
import { streamOfFile } from './file-slice.ts';
import type { LayerBlob, LayeredImage } from './layered-image.ts';

export interface LayeredOrigin {
  /** As the user wrote it. */
  text: string;
  verifiedBy?: readonly VerifiedBy[];
  /** Layers come over a network: so many of them at a time. */
  parallelDownloads?: number;
}

/** Nothing is read of the layers when the store has the image. */
export async function importLayered(image: LayeredImage, origin: LayeredOrigin, context: FetchContext): Promise<Imported> {
  const { store } = context;
  const manifest = convertImage(image, context.onWarning);
  const verifiedBy = origin.verifiedBy ?? [];
  const newImage: NewImage = { id: image.id, manifest, source: image.source, verifiedBy, documents: image.documents };
  const unchanged = (): Imported | undefined => {
    const stored = store.completeImage(image.id);
    if (stored === undefined || manifestHash(store.imageManifest(image.id)) !== manifestHash(manifest) || lacksLayers(image, context)) return undefined;
    store.addVerifiedBy(image.id, verifiedBy);
    return { image: store.findImage(image.id), manifest };
  };
  const known = unchanged();
  if (known !== undefined) return known;
  context.accept?.(image.id, manifest);
  return await store.withImageLock(image.id, async () => {
    const isRendered = store.hasTree(treeStoreIdOf([image.id])) && !lacksLayers(image, context);
    if (isRendered) return unchanged() ?? { image: store.commitImage(newImage, undefined), manifest };
    const workspace = store.openWorkspace();
    try {
      const disk = await renderLayered(image, { origin, context, workspace });
      return { image: store.commitImage(newImage, disk), manifest };
    } finally {
      workspace.remove();
    }
  });
}

function lacksLayers({ layers }: LayeredImage, { store, keepLayers }: FetchContext): boolean {
  return keepLayers === true && layers.some(({ digest }) => digest !== undefined && store.keptBlob(digest) === undefined);
}

interface Rendering {
  origin: LayeredOrigin;
  context: FetchContext;
  workspace: Workspace;
}

async function renderLayered(image: LayeredImage, rendering: Rendering): Promise<NewDisk> {
  const { store } = rendering.context;
  const kept = image.layers.filter(({ digest }) => digest !== undefined && store.keptBlob(digest) !== undefined);
  try {
    return await renderFrom(image.layers.map((layer) => withKeptBlob(layer, store)), rendering);
  } catch (error) {
    if (kept.length === 0 || !(error instanceof RktError) || error.code !== 'DIGEST') throw error;
    // What was kept may be damaged; where the image comes from it may be sound.
    for (const { digest } of kept) if (digest !== undefined) store.removeBlob(digest);
    rendering.workspace.clear();
    return await renderFrom(image.layers, rendering);
  }
}

/** The layer as it was kept, if it was. Its digest is checked like any other. */
function withKeptBlob(layer: LayerBlob, store: Store): LayerBlob {
  const path = layer.digest === undefined ? undefined : store.keptBlob(layer.digest);
  return path === undefined ? layer : { ...layer, open: () => streamOfFile(path) };
}

async function renderFrom(layers: readonly LayerBlob[], { origin, context, workspace }: Rendering): Promise<NewDisk> {
  const { renderLayers } = await import('./render-image.ts');
  const keep = context.keepLayers === true;
  if (origin.parallelDownloads === undefined && !keep) return await renderLayers(workspace.path, layers, { ...partProgress(origin.text, context), ...warnings(context) });

  const { prefetch, spoolName } = await import('./prefetch.ts');
  const { onProgress } = context;
  const prefetched = prefetch(layers, {
    directory: workspace.path,
    parallel: origin.parallelDownloads ?? 1,
    keep,
    ...(onProgress === undefined ? {} : { onProgress: (layer, doneBytes) => onProgress({ image: origin.text, part: layer.digest ?? layer.name, doneBytes, totalBytes: layer.sizeBytes }) }),
  });
  try {
    const disk = await renderLayers(workspace.path, prefetched.layers, warnings(context));
    if (keep) layers.forEach(({ digest }, index) => digest !== undefined && context.store.keptBlob(digest) === undefined && context.store.keepBlob(digest, join(workspace.path, spoolName(index))));
    return disk;
  } finally {
    await prefetched.close();
  }
}
