/** From an ID or a name to an image in the store. */
import { RktError } from '../error.ts';
import { parseAppcName } from '../image/index.ts';
import type { Store, StoredImage } from '../store/index.ts';

/** An ID (or its beginning), or `NAME[:VERSION][,LABEL=VALUE]`; of several with that name the one imported last. */
export function findStoredImage(store: Store, text: string): StoredImage {
  if (text.startsWith('sha512-')) return store.findImage(text);
  const { name, labels } = parseAppcName(text);
  const found = store.findByName(name, labels);
  if (found === undefined) throw new RktError('NOT_FOUND', `image name ${JSON.stringify(text)} not found`);
  return found;
}
