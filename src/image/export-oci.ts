/** An image of the store as an OCI image layout (image-spec: image-layout.md). */
import { createHash } from 'node:crypto';
import { closeSync, copyFileSync, constants, mkdirSync, openSync, renameSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { RktError } from '../error.ts';
import type { ByteSource } from '../rootfs/bytes.ts';
import { entriesOfDisk, writeTar } from '../rootfs/index.ts';
import type { TarEntry } from '../rootfs/index.ts';
import { labelValue } from '../schema/appc.ts';
import type { App, ImageManifest } from '../schema/appc.ts';
import { MEDIA_TYPES, parseOciConfig, parseOciManifest } from '../schema/oci.ts';
import type { Descriptor, OciRunConfig } from '../schema/oci.ts';
import { goPlatformOfAppc } from '../schema/platform.ts';
import { fileError } from '../store/fs-error.ts';
import type { Store } from '../store/store.ts';
import { STOP_SIGNAL_ANNOTATION } from '../wire/app-settings.ts';
import { requireDigest, utf8Text } from './bytes.ts';
import type { OpenedImage } from './image-archive.ts';
import { goOnUnless } from './interruption.ts';
import { hasRecipe, tarFromRecipe } from './recipe-file.ts';

/** `manifest`: importing gives the same image, and the manifest is the one it came with; `image`: the same image; `content`: what an app sees. */
export type Exactness = 'manifest' | 'image' | 'content';

const [MANIFEST_TYPE] = MEDIA_TYPES.manifest;
const [CONFIG_TYPE] = MEDIA_TYPES.config;
const [LAYER_TYPE] = MEDIA_TYPES.layer;
const REF_NAME = 'org.opencontainers.image.ref.name';

/** Fills an empty directory, unless `signal` ends it. Throws RktError. */
export async function exportOci(opened: OpenedImage, directory: string, { store, signal }: { store: Store; signal: AbortSignal }): Promise<Exactness> {
  const layout = openLayout(directory, signal);
  const written = (await writeExact(opened, layout, store)) ?? (await writeSquashed({ name: `image ${opened.image.id}`, manifest: opened.manifest, entries: entriesOfDisk(opened.disk) }, layout));
  const version = labelValue(opened.manifest.labels, 'version');
  layout.finish(written.manifest, version);
  return written.exactness;
}

/** What an app sees, without the layers it came from. */
export interface ImageContent {
  /** For messages. */
  name: string;
  manifest: ImageManifest;
  /** The root file system, the root first and called './'. */
  entries: AsyncIterable<TarEntry>;
}

/** Fills an empty directory with an image of one layer, unless `signal` ends it. Throws RktError. */
export async function exportOciContent(content: ImageContent, directory: string, signal: AbortSignal): Promise<void> {
  const layout = openLayout(directory, signal);
  const written = await writeSquashed(content, layout);
  layout.finish(written.manifest, labelValue(content.manifest.labels, 'version'));
}

interface Written {
  manifest: Descriptor;
  exactness: Exactness;
}

interface Layout {
  addBytes(bytes: Uint8Array, mediaType: string): Descriptor;
  addFile(path: string, descriptor: Descriptor): Promise<void>;
  addStream(source: ByteSource, mediaType: string): Promise<Descriptor>;
  finish(manifest: Descriptor, version: string | undefined): void;
}

function openLayout(directory: string, signal: AbortSignal): Layout {
  const blobs = join(directory, 'blobs/sha256');
  const attempt = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      throw fileError(error, `cannot write ${directory}`);
    }
  };
  attempt(() => mkdirSync(blobs, { recursive: true }));
  const pathOf = (digest: string): string => join(directory, 'blobs', digest.replace(':', '/'));

  return {
    addBytes: (bytes, mediaType) => {
      const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
      attempt(() => writeFileSync(pathOf(digest), bytes));
      return { mediaType, digest, size: bytes.length };
    },
    addFile: async (path, { digest }) => {
      await goOnUnless(signal);
      attempt(() => {
        mkdirSync(join(directory, 'blobs', digest.split(':')[0] ?? ''), { recursive: true });
        copyFileSync(path, pathOf(digest), constants.COPYFILE_FICLONE);
      });
    },
    addStream: async (source, mediaType) => {
      const unfinished = join(blobs, '.unfinished');
      const hash = createHash('sha256');
      let size = 0;
      const fd = attempt(() => openSync(unfinished, 'w'));
      try {
        for await (const chunk of source) {
          await goOnUnless(signal);
          hash.update(chunk);
          size += chunk.length;
          attempt(() => {
            for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at);
          });
        }
      } finally {
        closeSync(fd);
      }
      const digest = `sha256:${hash.digest('hex')}`;
      attempt(() => renameSync(unfinished, pathOf(digest)));
      return { mediaType, digest, size };
    },
    finish: (manifest, version) =>
      attempt(() => {
        const annotations = version === undefined ? {} : { annotations: { [REF_NAME]: version } };
        writeFileSync(join(directory, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, ...annotations }] }));
        writeFileSync(join(directory, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
      }),
  };
}

/** Undefined: the image was no OCI image, or not all of its layers can be had again. */
async function writeExact({ image, disk, recipeDir }: OpenedImage, layout: Layout, store: Store): Promise<Written | undefined> {
  const configBytes = store.document(image.id, 'config');
  if (configBytes === undefined) return undefined;
  const config = parseOciConfig(utf8Text(configBytes, 'config'), `image ${image.id}: config`);
  const manifestBytes = store.document(image.id, 'manifest');
  if (manifestBytes !== undefined) {
    const manifest = parseOciManifest(utf8Text(manifestBytes, 'manifest'), `image ${image.id}: manifest`);
    const kept = manifest.layers.map((layer) => store.keptBlob(layer.digest));
    if (kept.every((path) => path !== undefined)) {
      for (const [index, layer] of manifest.layers.entries()) await layout.addFile(kept[index] ?? '', layer);
      layout.addBytes(configBytes, manifest.config.mediaType);
      return { manifest: layout.addBytes(manifestBytes, manifest.mediaType ?? MANIFEST_TYPE), exactness: 'manifest' };
    }
  }
  const diffIDs = config.rootfs.diff_ids;
  if (!diffIDs.every((_, index) => hasRecipe(recipeDir, index))) return undefined;
  const layers: Descriptor[] = [];
  for (const [index, diffID] of diffIDs.entries()) {
    layers.push(await layout.addStream(checkedLayer(tarFromRecipe(recipeDir, index, disk), { diffID, name: `image ${image.id}: layer ${index}` }), LAYER_TYPE));
  }
  return { manifest: layout.addBytes(manifestOf(layout.addBytes(configBytes, CONFIG_TYPE), layers), MANIFEST_TYPE), exactness: 'image' };
}

async function* checkedLayer(tar: ByteSource, { diffID, name }: { diffID: string; name: string }): AsyncGenerator<Uint8Array> {
  const hash = createHash(diffID.startsWith('sha512:') ? 'sha512' : 'sha256');
  for await (const chunk of tar) {
    hash.update(chunk);
    yield chunk;
  }
  requireDigest(name, diffID, hash.digest('hex'));
}

/** One layer with what the image shows. */
async function writeSquashed({ name, manifest, entries }: ImageContent, layout: Layout): Promise<Written> {
  const layer = await layout.addStream(writeTar(entries), LAYER_TYPE);
  const [os, arch] = [labelValue(manifest.labels, 'os'), labelValue(manifest.labels, 'arch')];
  const platform = os === undefined || arch === undefined ? undefined : goPlatformOfAppc(os, arch);
  if (platform === undefined) throw new RktError('UNSUPPORTED', `${name}: OCI has no name for the platform ${os ?? '?'}/${arch ?? '?'}`);
  const config = { ...platform, ...(manifest.app === undefined ? {} : { config: { ...runConfigOf(manifest.app), ...stopSignalOf(manifest) } }), rootfs: { type: 'layers', diff_ids: [layer.digest] } };
  const configDescriptor = layout.addBytes(Buffer.from(JSON.stringify(config)), CONFIG_TYPE);
  return { manifest: layout.addBytes(manifestOf(configDescriptor, [layer], annotationsOf(manifest)), MANIFEST_TYPE), exactness: 'content' };
}

function manifestOf(config: Descriptor, layers: readonly Descriptor[], annotations: Record<string, string> = {}): Uint8Array {
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST_TYPE, config, layers, ...(Object.keys(annotations).length === 0 ? {} : { annotations }) }));
}

function annotationsOf({ annotations = [] }: ImageManifest): Record<string, string> {
  return Object.fromEntries(annotations.filter(({ name }) => !name.startsWith('appc.io/docker/')).map(({ name, value }) => [name, value]));
}

function stopSignalOf({ annotations = [] }: ImageManifest): Pick<OciRunConfig, 'StopSignal'> {
  const signal = annotations.find(({ name }) => name === STOP_SIGNAL_ANNOTATION)?.value;
  return signal === undefined ? {} : { StopSignal: signal };
}

/** The opposite of `convertImage`, as far as there is one. */
function runConfigOf(app: App): OciRunConfig {
  return {
    User: app.group === app.user ? app.user : `${app.user}:${app.group}`,
    Entrypoint: app.exec,
    Env: (app.environment ?? []).map(({ name, value }) => `${name}=${value}`),
    ...(app.workingDirectory === undefined ? {} : { WorkingDir: app.workingDirectory }),
    ...((app.mountPoints ?? []).length === 0 ? {} : { Volumes: Object.fromEntries((app.mountPoints ?? []).map(({ path }) => [path, {}])) }),
    ...((app.ports ?? []).length === 0 ? {} : { ExposedPorts: Object.fromEntries((app.ports ?? []).map(({ port, protocol, count }) => [`${count !== undefined && count > 1 ? `${port}-${port + count - 1}` : port}/${protocol}`, {}])) }),
  };
}
