/** From what a person types to an image in the store: names, archives, conversion. */
export { parseAppcName, parseImageString, type ImageReference } from './reference.ts';
export { fetchImage } from './fetch.ts';
export type { FetchedImage, FetchOptions, FetchProgress, PullPolicy } from './fetch-types.ts';
export type { NetworkSettings } from './network.ts';
export { importStage1 } from './stage1.ts';
export { hostPlatform } from './platform.ts';
