/** What all ways of fetching have in common. */
import { RktError } from '../error.ts';
import type { ImageManifest } from '../schema/appc.ts';
import type { Platform } from '../schema/platform.ts';
import type { DiskDescription, StoredImage } from '../store/records.ts';
import { manifestHash } from '../store/store.ts';
import type { Store } from '../store/store.ts';
import type { NetworkSettings } from './network.ts';
import { hostPlatform } from './platform.ts';
import type { ReadProgress } from './render-image.ts';
import type { AppcName } from './verification.ts';

export interface FetchedImage extends StoredImage {
  manifest: ImageManifest;
  /** Absolute path. */
  disk: DiskDescription;
}

export interface FetchProgress extends ReadProgress {
  /** What is being imported, as the user wrote it. */
  image: string;
  /** Which of several downloads: the digest of a layer, or a URL. Absent for what is read from this machine. */
  part?: string;
}

/** Whether the store answers, or the place an image came from. Files of this machine are read anew in any case. */
export type PullPolicy = 'never' | 'new' | 'update';

export interface FetchOptions {
  store: Store;
  /** Default: the host's. */
  platform?: Platform;
  /** Default: `new`. */
  pullPolicy?: PullPolicy;
  /** Without it nothing is fetched over a network. */
  network?: NetworkSettings;
  /** Path or URL of the detached signature of an ACI. */
  signature?: string;
  /** Layers stay in the store as they came. */
  keepLayers?: boolean;
  /** Called before an image enters the store; a throw keeps it out. */
  accept?: (id: string, manifest: ImageManifest) => void;
  /** Called often while an image is read; not at all when it is in the store already. */
  onProgress?: (progress: FetchProgress) => void;
  /** One line about something in the image that is left out. */
  onWarning?: (message: string) => void;
  /** What is being done, for --debug. */
  log?: (message: string) => void;
}

/** The manifest is the one of this reference: in the store, the same image may get another name at any time. */
export interface Imported {
  image: StoredImage;
  manifest: ImageManifest;
}

/** What is passed on while one image leads to others. */
export interface FetchContext extends FetchOptions {
  /** Names of the images that are being fetched because of one another. */
  chain: readonly string[];
  /** An image that another one names. */
  fetchDependency(app: AppcName, context: FetchContext): Promise<Imported>;
}

export function platformOf({ platform }: FetchOptions): Platform {
  return platform ?? hostPlatform();
}

export function policyOf({ pullPolicy }: FetchOptions): PullPolicy {
  return pullPolicy ?? 'new';
}

/** Throws when this caller cannot fetch over a network. */
export function networkOf({ network }: FetchOptions, text: string): NetworkSettings {
  if (network === undefined) throw new RktError('UNSUPPORTED', `${text}: cannot be fetched over a network here`);
  return network;
}

/** The image of a record, if it is still there and has the name and labels it had then. */
export function stillThere(remembered: { imageID: string; manifestHash: string } | undefined, store: Store): Imported | undefined {
  const image = remembered === undefined ? undefined : store.completeImage(remembered.imageID);
  if (image === undefined) return undefined;
  const manifest = store.imageManifest(image.id);
  return manifestHash(manifest) === remembered?.manifestHash ? { image, manifest } : undefined;
}

/** The progress of one part of an image, for whoever counts its bytes. */
export function partProgress(text: string, { onProgress }: FetchOptions, part?: string): { onRead?: (progress: ReadProgress) => void } {
  if (onProgress === undefined) return {};
  return { onRead: (progress) => onProgress({ ...progress, image: text, ...(part === undefined ? {} : { part }) }) };
}

export function warnings({ onWarning }: FetchOptions): { onWarning?: (message: string) => void } {
  return onWarning === undefined ? {} : { onWarning };
}
