import { RktError } from '../error.ts';
import type { ByteSource } from '../rootfs/bytes.ts';
import type { OciConfig } from '../schema/oci.ts';
import type { Platform } from '../schema/platform.ts';
import { samePlatform, unsupportedPlatform } from './platform.ts';

/** What an image is called where it was found. */
export interface ImageNaming {
  /** Reference as written: `busybox:1.36`, `docker.io/library/busybox:latest`, or a tag alone. */
  reference?: string;
  /** Name of the file or directory without its extensions. */
  fileName: string;
}

export interface LayerBlob {
  /** Begins messages about the layer. */
  name: string;
  /** Of the blob as stored; unknown in `docker save` archives, where the diff ID alone tells. */
  digest?: string;
  mediaType?: string;
  sizeBytes: number;
  /** Digest of the uncompressed tar. */
  diffID: string;
  /** The blob as stored. Closed when the stream ends or is given up; the signal interrupts waiting for it. */
  open(signal?: AbortSignal): ByteSource;
}

/** Documents as they were found, byte for byte. */
export interface ImageDocuments {
  config: Uint8Array;
  /** `docker save` archives have none. */
  manifest?: Uint8Array;
}

/** An OCI or Docker image of which config and manifest are verified and parsed, and layers are not read yet. */
export interface LayeredImage {
  source: 'oci' | 'docker';
  origin: string;
  /** `sha512-…`, of the bytes of the config. */
  id: string;
  config: OciConfig;
  configDigest: string;
  manifestDigest?: string;
  documents: ImageDocuments;
  naming: ImageNaming;
  /** Lowest first. */
  layers: LayerBlob[];
}

export function requirePlatform(config: OciConfig, wanted: Platform, origin: string): void {
  if (!samePlatform(config, wanted)) throw unsupportedPlatform(origin, wanted, [config]);
}

/** Every layer needs its diff ID: without it, what is in the layer would not be part of the image's identity. */
export function requireDiffIDs(config: OciConfig, layerCount: number, origin: string): void {
  const count = config.rootfs.diff_ids.length;
  if (count !== layerCount) throw new RktError('BAD_IMAGE', `${origin}: the image has ${layerCount} layers, its config names ${count} (rootfs.diff_ids)`);
}
