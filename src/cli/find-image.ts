/** From an ID or a name to an image in the store. */
import { RktError } from '../error.ts';
import type { Store, StoredImage } from '../store/index.ts';

/** An ID (or its beginning), or `NAME[:VERSION]`; of several with that name the one imported last. */
export function findStoredImage(store: Store, text: string): StoredImage {
  if (text.startsWith('sha512-')) return store.findImage(text);
  const colon = text.lastIndexOf(':');
  const name = colon === -1 ? text : text.slice(0, colon);
  const version = colon === -1 ? undefined : text.slice(colon + 1);
  const found = store.listImages().findLast((image) => image.name === name && (version === undefined || image.labels['version'] === version));
  if (found === undefined) throw new RktError('NOT_FOUND', `image name ${JSON.stringify(text)} not found`);
  return found;
}
