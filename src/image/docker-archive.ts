/** Archives of `docker save`: `manifest.json` names config and layers by their paths in the tar. */
import { createHash } from 'node:crypto';
import { RktError } from '../error.ts';
import { parseDockerArchive, parseOciConfig } from '../schema/oci.ts';
import type { DockerArchiveImage } from '../schema/oci.ts';
import { imageIdOf } from '../store/store.ts';
import type { ArchiveFiles } from './archive.ts';
import { requireDigest, utf8Text } from './bytes.ts';
import { sameDockerReference } from './docker-reference.ts';
import { readSmall, streamOf } from './file-slice.ts';
import { requireDiffIDs, requirePlatform } from './layered-image.ts';
import type { LayeredImage } from './layered-image.ts';
import type { ChooseOptions } from './oci-layout.ts';

const DOCUMENT_MAX_BYTES = 8 << 20;

export function isDockerArchive(files: ArchiveFiles): boolean {
  return files.has('manifest.json');
}

/** Finds the image and verifies and parses its config. The files must stay open until the layers are read. */
export function openDockerArchive(files: ArchiveFiles, options: ChooseOptions): LayeredImage {
  const listName = `${files.origin}: manifest.json`;
  const images = parseDockerArchive(utf8Text(readSmall(files.open('manifest.json'), DOCUMENT_MAX_BYTES), listName), listName);
  const image = chooseImage(images, options, files.origin);
  const configName = `${files.origin}: ${image.Config}`;
  const bytes = readSmall(files.open(image.Config), DOCUMENT_MAX_BYTES);
  const sha256Hex = createHash('sha256').update(bytes).digest('hex');
  // The file is called by its digest, which is all that vouches for it.
  const nameHex = /(?:^|\/)([0-9a-f]{64})(?:\.json)?$/.exec(image.Config)?.[1];
  if (nameHex !== undefined) requireDigest(configName, `sha256:${nameHex}`, sha256Hex);
  const config = parseOciConfig(utf8Text(bytes, configName), configName);
  requirePlatform(config, options.platform, files.origin);
  requireDiffIDs(config, image.Layers.length, files.origin);
  const reference = image.RepoTags.find((tag) => options.ref !== undefined && sameDockerReference(tag, options.ref)) ?? image.RepoTags[0];
  return {
    source: 'docker',
    origin: files.origin,
    id: imageIdOf(createHash('sha512').update(bytes).digest('hex')),
    config,
    configDigest: `sha256:${sha256Hex}`,
    documents: { config: bytes },
    naming: { fileName: options.fileName, ...(reference === undefined ? {} : { reference }) },
    layers: image.Layers.map((path, position) => {
      const slice = files.open(path);
      return {
        name: `${files.origin}: layer ${path}`,
        sizeBytes: slice.sizeBytes,
        diffID: config.rootfs.diff_ids[position] ?? '',
        open: () => streamOf(slice),
      };
    }),
  };
}

/** `@N` is the Nth image, `NAME[:TAG]` the one with that name. */
function chooseImage(images: readonly DockerArchiveImage[], options: ChooseOptions, origin: string): DockerArchiveImage {
  const { ref } = options;
  const names = images.flatMap((image) => image.RepoTags);
  if (ref === undefined) {
    const [only, ...others] = images;
    if (only !== undefined && others.length === 0) return only;
    throw new RktError('AMBIGUOUS', `${origin}: several images in it: ${names.join(', ')}`, { hint: `choose one: docker-archive:${origin}:${names[0] ?? '@0'}` });
  }
  const found = /^@\d+$/.test(ref) ? images[Number(ref.slice(1))] : images.find((image) => image.RepoTags.some((tag) => sameDockerReference(tag, ref)));
  if (found === undefined) throw new RktError('NOT_FOUND', `${origin}: no image "${ref}" in it`, { hint: `there is: ${names.join(', ')}` });
  return found;
}
