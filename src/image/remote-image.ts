/** Images with a place elsewhere: what the store remembers of them answers, as far as the pull policy lets it. */
import { RktError } from '../error.ts';
import type { RemoteRecord } from '../store/remote-table.ts';
import { policyOf, stillThere } from './fetch-types.ts';
import type { FetchContext, Imported } from './fetch-types.ts';

export interface RemoteImage {
  /** In its canonical form, with everything that makes the answer another. */
  key: string;
  /** As the user wrote it. */
  text: string;
  /** Whether what was fetched then need not be asked for again, whatever the policy says. */
  isFresh: (record: RemoteRecord) => boolean;
}

/** What was fetched the last time and is still in the store. */
export interface Known {
  record: RemoteRecord;
  found: Imported;
}

/** Calls `fetchNow` unless the store has the image and may answer; only one process at a time does so for one key. */
export async function fetchRemote(remote: RemoteImage, context: FetchContext, fetchNow: (last: Known | undefined) => Promise<Imported>): Promise<Imported> {
  const { store } = context;
  const { key, text } = remote;
  const policy = policyOf(context);
  const known = recall(key, context);
  if (known !== undefined && policy !== 'update') {
    context.log?.(`using image from local store for url ${text}`);
    return known.found;
  }
  if (policy === 'never') throw new RktError('NOT_FOUND', `${text}: not in the store`, { hint: 'the pull policy "never" does not allow to fetch it' });

  const waitingSinceMs = Date.now();
  return await store.withRemoteLock(key, async () => {
    const last = recall(key, context);
    // Whoever had the lock before may have asked after this one wanted to.
    if (last !== undefined && (policy === 'new' || last.record.downloadTimeMs >= waitingSinceMs)) return last.found;
    if (last !== undefined && remote.isFresh(last.record)) {
      context.log?.(`image for ${text} isn't expired, not fetching.`);
      return last.found;
    }
    return await fetchNow(last);
  });
}

function recall(key: string, context: FetchContext): Known | undefined {
  const { store } = context;
  const record = store.recallRemote(key);
  const found = stillThere(record, store);
  if (record === undefined || found === undefined) return undefined;
  // What nobody vouched for is not taken by someone who wants to know who did.
  const isEnough = !record.unverified || context.network?.insecure.image === true || policyOf(context) === 'never';
  return isEnough ? { record, found } : undefined;
}
