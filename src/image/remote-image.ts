/** Images with a place elsewhere: what the store remembers of them answers, as far as the pull policy lets it. */
import { RktError } from '../error.ts';
import type { RemoteRecord } from '../store/remote-table.ts';
import { policyOf } from './fetch-types.ts';
import type { FetchOptions } from './fetch-types.ts';

export interface RemoteImage<T> {
  /** In its canonical form, with everything that makes the answer another. */
  key: string;
  /** As the user wrote it. */
  text: string;
  /** What was fetched then, if it is still in the store. */
  find: (record: RemoteRecord) => T | undefined;
  /** Whether what was fetched then need not be asked for again, whatever the policy says. */
  isFresh: (record: RemoteRecord) => boolean;
  /** Whether to wait for others that fetch the same. Who fetches for the sake of another image must not: two that wait for each other would wait for ever. */
  mayWait: boolean;
}

/** What was fetched the last time and is still in the store. */
export interface Known<T> {
  record: RemoteRecord;
  found: T;
}

/** Calls `fetchNow` unless the store has the image and may answer; of those that may wait, one at a time for one key. */
export async function fetchRemote<T>(remote: RemoteImage<T>, options: FetchOptions, fetchNow: (last: Known<T> | undefined) => Promise<T>): Promise<T> {
  const { store } = options;
  const { key, text } = remote;
  const policy = policyOf(options);
  const known = recall(remote, options);
  if (known !== undefined && policy !== 'update') {
    options.log?.(`using image from local store for url ${text}`);
    return known.found;
  }
  if (policy === 'never') throw new RktError('NOT_FOUND', `${text}: not in the store`, { hint: 'the pull policy "never" does not allow to fetch it' });

  const waitingSinceMs = Date.now();
  const fetch = async (): Promise<T> => {
    const last = recall(remote, options);
    // Whoever had the lock before may have asked after this one wanted to.
    if (last !== undefined && (policy === 'new' || last.record.downloadTimeMs >= waitingSinceMs)) return last.found;
    if (last !== undefined && remote.isFresh(last.record)) {
      options.log?.(`image for ${text} isn't expired, not fetching.`);
      return last.found;
    }
    return await fetchNow(last);
  };
  return remote.mayWait ? await store.withRemoteLock(key, fetch) : await fetch();
}

function recall<T>({ key, find }: RemoteImage<T>, options: FetchOptions): Known<T> | undefined {
  const record = options.store.recallRemote(key);
  const found = record === undefined ? undefined : find(record);
  if (record === undefined || found === undefined) return undefined;
  // What nobody vouched for is not taken by someone who wants to know who did.
  const isEnough = !record.unverified || options.network?.insecure.image === true || policyOf(options) === 'never';
  return isEnough ? { record, found } : undefined;
}
