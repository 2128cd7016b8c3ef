/**
 * Images an ACI is put on top of (appc spec/aci.md, "Dependency Matching"). In the list a later one is above an earlier one,
 * and each is above what it depends on itself.
 */
import { RktError } from '../error.ts';
import { entriesOfDisk } from '../rootfs/index.ts';
import type { Layer } from '../rootfs/index.ts';
import type { Dependency, ImageManifest } from '../schema/appc.ts';
import type { StoredImage } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import type { FetchContext } from './fetch-types.ts';
import { openDisk } from './image-archive.ts';
import type { AppcName } from './verification.ts';

export interface ResolvedDependency {
  image: StoredImage;
  /** IDs of the image and of all below it, the uppermost first. */
  renderOrder: string[];
}

const CHAIN_MAX = 32;

/** Uppermost first. All are in the store afterwards. Throws RktError. */
export async function resolveDependencies(dependent: { id: string; manifest: ImageManifest; origin: string }, context: FetchContext): Promise<ResolvedDependency[]> {
  const { id, manifest, origin } = dependent;
  if (context.chain.includes(id)) throw new RktError('BAD_IMAGE', `${origin}: recursion error, image with key ${id} already referenced by a parent image`);
  const chain = [...context.chain, id];
  if (chain.length > CHAIN_MAX) throw new RktError('LIMIT', `${origin}: images that depend on one another more than ${CHAIN_MAX} deep`);
  const resolved: ResolvedDependency[] = [];
  for (const [index, dependency] of (manifest.dependencies ?? []).entries()) {
    const image = await resolveOne(dependency, `${origin}: manifest: dependencies[${index}]`, { ...context, chain });
    const renderOrder = [image.id, ...(image.dependencies ?? [])];
    const loop = renderOrder.find((lower) => chain.includes(lower));
    if (loop !== undefined) throw new RktError('BAD_IMAGE', `${origin}: recursion error, image with key ${loop} already referenced by a parent image`);
    resolved.unshift({ image, renderOrder });
  }
  return resolved;
}

async function resolveOne(dependency: Dependency, place: string, context: FetchContext): Promise<StoredImage> {
  const { imageName, imageID } = dependency;
  const app: AppcName = { name: imageName, labels: Object.fromEntries((dependency.labels ?? []).map(({ name, value }) => [name, value])) };
  const shown = describe(app);
  if (context.chain.includes(shown)) throw new RktError('BAD_IMAGE', `${place}: recursion error, image ${shown} already referenced by a parent image`);
  const named = imageID === undefined ? undefined : context.store.completeImage(imageID);
  if (named !== undefined) {
    if (named.name !== imageName) throw new RktError('BAD_IMAGE', `${place}: the image ${named.id} is called ${named.name}, expected ${imageName}`);
    return named;
  }
  // What one depends on is taken from the store if it is there, unless the store alone may answer.
  const { signature, accept, ...rest } = context;
  void signature;
  void accept;
  const { image } = await context.fetchDependency(app, { ...rest, pullPolicy: context.pullPolicy === 'never' ? 'never' : 'new', chain: [...context.chain, shown] });
  if (imageID !== undefined && !image.id.startsWith(imageID)) throw new RktError('BAD_IMAGE', `${place}: imageID: expected ${imageID}, found ${image.id} under the name ${shown}`);
  return image;
}

function describe({ name, labels }: AppcName): string {
  return [name, ...Object.keys(labels).sort().map((label) => `${label}=${labels[label] ?? ''}`)].join(',');
}

/** The disks of dependencies as layers, lowest first. */
export function openDependencies(dependencies: readonly ResolvedDependency[], store: Store): { layers: Layer[]; close(): void } {
  const opened = dependencies.map(({ image }) => ({ image, ...openDisk(store.disk(image.id).path) }));
  const layers = opened.map(({ image, disk }): Layer => ({ kind: 'tree', entries: entriesOfDisk(disk), name: `${image.name} (${image.id})` }));
  return { layers: layers.reverse(), close: () => opened.forEach(({ close }) => close()) };
}
