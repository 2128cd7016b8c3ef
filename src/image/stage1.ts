/** Stage1 images: found again by their file, or unpacked. */
import { realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileError } from '../store/fs-error.ts';
import { manifestHash } from '../store/store.ts';
import type { SourceFile, Stage1Image, Store } from '../store/store.ts';
import { openRegularFile, streamOf, wholeFile } from './file-slice.ts';

/** The same file is another thing as a stage1 than as an app. */
const SELECTOR = 'stage1';

/** Unpacks a stage1 ACI into the store, unless the same file was before. Throws RktError; then the store is as it was. */
export async function importStage1(aciPath: string, store: Store): Promise<Stage1Image> {
  const path = canonical(aciPath);
  const known = remembered(sourceOf(path), store);
  if (known !== undefined) return known;
  return await store.withSourceLock(sourceOf(path), async () => {
    const readAtMs = Date.now();
    const file = openRegularFile(path);
    const workspace = store.openWorkspace();
    try {
      const source = { ...sourceOf(path), stats: file.stats };
      const image = remembered(source, store) ?? (await unpackNew());
      store.rememberSource(source, { imageID: image.id, manifestHash: manifestHash(image.manifest) }, readAtMs);
      return image;
    } finally {
      file.close();
      workspace.remove();
    }

    async function unpackNew(): Promise<Stage1Image> {
      const { unpackStage1 } = await import('./stage1-unpack.ts');
      const directory = join(workspace.path, 'stage1');
      return store.commitStage1(await unpackStage1({ name: file.path, open: () => streamOf(wholeFile(file)) }, directory), directory);
    }
  });
}

function canonical(path: string): string {
  try {
    return realpathSync(path);
  } catch (error) {
    throw fileError(error, path);
  }
}

function sourceOf(path: string): SourceFile {
  return { path, stats: statSync(path, { bigint: true }), selector: SELECTOR };
}

function remembered(source: SourceFile, store: Store): Stage1Image | undefined {
  const known = store.recallSource(source);
  return known === undefined ? undefined : store.stage1Image(known.imageID);
}
