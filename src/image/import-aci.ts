/** An ACI into the store, wherever it comes from, together with the images it depends on. */
import { RktError } from '../error.ts';
import type { ByteSource } from '../rootfs/bytes.ts';
import type { ImageManifest } from '../schema/appc.ts';
import { labelValue } from '../schema/appc.ts';
import type { VerifiedBy } from '../schema/verified-by.ts';
import { renderAci } from './aci.ts';
import { observed } from './bytes.ts';
import { openDependencies, resolveDependencies } from './dependencies.ts';
import { platformOf, warnings } from './fetch-types.ts';
import type { FetchContext, Imported } from './fetch-types.ts';
import type { OnRead } from './render-image.ts';
import type { AppcName } from './verification.ts';

export interface AciSource {
  /** Path or URL: begins messages. */
  name: string;
  /** As far as it is known. */
  sizeBytes: number | undefined;
  /** The ACI as stored, from its beginning. Called a second time when the image turns out to depend on others. */
  open(): ByteSource;
}

export interface AciImport {
  source: AciSource;
  /** What it was looked for by: its manifest has to say the same. */
  expected?: AppcName;
  /** Who says that an image of this name is what it should be. Called when all of it was read, before anything is done with it. */
  vouch(name: string): Promise<VerifiedBy[]>;
  /** It was asked for by a name without a version. */
  latest?: boolean;
  onRead?: OnRead;
}

/** Throws RktError; then the store is as it was. */
export async function importAci(aci: AciImport, context: FetchContext): Promise<Imported> {
  const { source, expected } = aci;
  const { store } = context;
  const workspace = store.openWorkspace();
  const options = { name: source.name, directory: workspace.path, platform: platformOf(context), ...warnings(context) };
  try {
    let rendered = await renderAci(counted(aci), { ...options, below: [] });
    const { id, manifest } = rendered;
    if (expected !== undefined) requireName(manifest, expected);
    const verifiedBy = await aci.vouch(manifest.name);
    context.accept?.(id, manifest);
    const dependencies = await resolveDependencies({ id, manifest, origin: source.name }, context);
    if (dependencies.length > 0) {
      workspace.clear();
      const below = openDependencies(dependencies, store);
      try {
        rendered = await renderAci(source.open(), { ...options, below: below.layers });
      } finally {
        below.close();
      }
    }
    const newImage = { id, manifest, source: 'aci' as const, verifiedBy, dependencies: dependencies.flatMap(({ renderOrder }) => renderOrder), latest: aci.latest ?? false };
    return await store.withImageLock(id, async () => ({ image: store.commitImage(newImage, rendered.disk), manifest }));
  } finally {
    workspace.remove();
  }
}

function counted({ source, onRead }: AciImport): ByteSource {
  if (onRead === undefined) return source.open();
  let doneBytes = 0;
  return observed(source.open(), (chunk) => {
    doneBytes += chunk.length;
    onRead({ doneBytes, totalBytes: source.sizeBytes ?? doneBytes });
  });
}

/** rkt's words. */
function requireName(manifest: ImageManifest, expected: AppcName): void {
  if (manifest.name !== expected.name) throw new RktError('BAD_IMAGE', `error when reading the app name: ${JSON.stringify(expected.name)} expected but ${JSON.stringify(manifest.name)} found`);
  for (const [label, wanted] of Object.entries(expected.labels)) {
    const found = labelValue(manifest.labels, label);
    if (found === undefined) throw new RktError('BAD_IMAGE', `requested label ${JSON.stringify(label)} not provided by the image manifest`);
    if (found !== wanted) throw new RktError('BAD_IMAGE', `requested value for label ${JSON.stringify(label)}: ${JSON.stringify(wanted)} differs from fetched aci label value: ${JSON.stringify(found)}`);
  }
}
