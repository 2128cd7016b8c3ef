/** App Container Images: a tar, mostly compressed, with `manifest` and `rootfs/` (appc spec/aci.md). */
import { RktError } from '../error.ts';
import { labelValue, parseImageManifest } from '../schema/appc.ts';
import type { ImageManifest } from '../schema/appc.ts';
import { goPlatformOfAppc } from '../schema/platform.ts';
import type { Platform } from '../schema/platform.ts';
import { imageIdOf } from '../store/store.ts';
import type { NewDisk } from '../store/store.ts';
import { observed, utf8Text } from './bytes.ts';
import { decompress } from './decompress.ts';
import { streamOf } from './file-slice.ts';
import type { FileSlice } from './file-slice.ts';
import { platformText, samePlatform, unsupportedPlatform } from './platform.ts';
import { hashed, renderTo } from './render-image.ts';
import type { OnRead } from './render-image.ts';

export interface RenderedAci {
  id: string;
  manifest: ImageManifest;
  disk: NewDisk;
}

export interface RenderAciOptions {
  /** Directory for the disk. */
  directory: string;
  platform: Platform;
  onRead?: OnRead;
  onWarning?: (message: string) => void;
}

/** Renders an ACI. Its manifest, with the path whitelist, often stands behind its files. */
export async function renderAci(file: FileSlice, options: RenderAciOptions): Promise<RenderedAci> {
  let manifest: ImageManifest | undefined;
  let doneBytes = 0;
  const stored = observed(streamOf(file), (chunk) => {
    doneBytes += chunk.length;
    options.onRead?.({ doneBytes, totalBytes: file.sizeBytes });
  });
  const { stream, sha512Hex } = hashed(decompress(stored, file.name));
  const disk = await renderTo(options.directory, [{ kind: 'aci', tar: stream, name: file.name }], {
    onAciManifest: (bytes) => {
      manifest = checkedManifest(bytes, file.name, options.platform);
    },
    pathWhitelist: () => manifest?.pathWhitelist ?? [],
    ...(options.onWarning === undefined ? {} : { onWarning: options.onWarning }),
  });
  if (manifest === undefined) throw new RktError('BAD_IMAGE', `${file.name}: no image manifest found in layout`);
  return { id: imageIdOf(sha512Hex()), manifest, disk };
}

function checkedManifest(bytes: Uint8Array, origin: string, platform: Platform): ImageManifest {
  const manifest = parseImageManifest(utf8Text(bytes, `${origin}: manifest`), `${origin}: manifest`);
  requireAciPlatform(manifest, origin, platform);
  const [dependency] = manifest.dependencies ?? [];
  if (dependency !== undefined) throw new RktError('UNSUPPORTED', `${origin}: manifest: dependencies[0]: images that depend on others are not supported: it needs ${dependency.imageName}`);
  return manifest;
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
