/** From what a person types to an image in the store: names, archives, conversion. */
export { parseImageString, type ImageReference } from './reference.ts';
export { fetchImage, type FetchedImage, type FetchOptions, type FetchProgress } from './fetch.ts';
export { importStage1 } from './stage1.ts';
export { hostPlatform } from './platform.ts';
