/** App Container Images: a tar, mostly compressed, with `manifest` and `rootfs/` (appc spec/aci.md). */
import { RktError } from '../error.ts';
import type { ByteSource } from '../rootfs/bytes.ts';
import type { Layer } from '../rootfs/index.ts';
import { labelValue, parseImageManifest } from '../schema/appc.ts';
import type { ImageManifest } from '../schema/appc.ts';
import { goPlatformOfAppc } from '../schema/platform.ts';
import type { Platform } from '../schema/platform.ts';
import { imageIdOf } from '../store/store.ts';
import type { NewDisk } from '../store/store.ts';
import { utf8Text } from './bytes.ts';
import { decompress } from './decompress.ts';
import { platformText, samePlatform, unsupportedPlatform } from './platform.ts';
import { hashed, recipeWriters, renderTo } from './render-image.ts';

export interface RenderedAci {
  id: string;
  manifest: ImageManifest;
  disk: NewDisk;
}

export interface RenderAciOptions {
  /** Begins messages. */
  name: string;
  /** Directory for the disk. */
  directory: string;
  platform: Platform;
  /** What its files are put over, lowest first. */
  below: readonly Layer[];
  onWarning?: (message: string) => void;
}

/** Renders an ACI. Its manifest, with the path whitelist, often stands behind its files. */
export async function renderAci(stored: ByteSource, options: RenderAciOptions): Promise<RenderedAci> {
  const { name, platform, below } = options;
  let manifest: ImageManifest | undefined;
  const { stream, sha512Hex } = hashed(decompress(stored, name));
  const recipes = recipeWriters(options.directory);
  try {
    const disk = await renderTo(options.directory, [...below, { kind: 'aci', tar: stream, name, recorder: recipes.recorder(0) }], {
      onAciManifest: (bytes) => {
        manifest = parseImageManifest(utf8Text(bytes, `${name}: manifest`), `${name}: manifest`);
        requireAciPlatform(manifest, name, platform);
      },
      pathWhitelist: () => manifest?.pathWhitelist ?? [],
      ...(options.onWarning === undefined ? {} : { onWarning: options.onWarning }),
    });
    if (manifest === undefined) throw new RktError('BAD_IMAGE', `${name}: no image manifest found in layout`);
    return { id: imageIdOf(sha512Hex()), manifest, disk: recipes.finish(disk) };
  } finally {
    recipes.close();
  }
}

/** rkt runs only images that say what they are for. */
export function requireAciPlatform(manifest: ImageManifest, origin: string, platform: Platform): void {
  const [os, arch] = [labelValue(manifest.labels, 'os'), labelValue(manifest.labels, 'arch')];
  if (os === undefined) throw new RktError('BAD_IMAGE', `${origin}: missing os label in the image manifest`);
  if (arch === undefined) throw new RktError('BAD_IMAGE', `${origin}: missing arch label in the image manifest`);
  const offered = goPlatformOfAppc(os, arch);
  if (offered === undefined) throw new RktError('UNSUPPORTED', `${origin}: unsupported architecture: ${platformText(platform)} is needed, the image is for ${os}/${arch}`);
  if (!samePlatform(offered, platform)) throw unsupportedPlatform(origin, platform, [offered]);
}
