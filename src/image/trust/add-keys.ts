/** From where a key is to a key in the keystore, with a person's consent. */
import { readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { RktError } from '../../error.ts';
import { fileError } from '../../store/fs-error.ts';
import type { FetchDocument } from '../verification.ts';
import { storeKey } from './keystore.ts';
import { armorKey, KEY_FILE_LIMIT_BYTES, parsePublicKeys } from './public-key.ts';
import { askForTrust, showKey } from './review.ts';
import type { Reviewer } from './review.ts';

export interface AddKeysOptions {
  /** What the keys are to be trusted for: an appc identifier, empty for all images. */
  prefix: string;
  localConfigDir: string;
  /** What relative paths start from. */
  cwd: string;
  /** False: take every key without asking. */
  review: boolean;
  /** Keys that came over https need no review. */
  trustKeysFromHttps: boolean;
  allowHttp: boolean;
  fetchDocument: FetchDocument;
  reviewer: Reviewer;
}

/** Locations are paths and http(s) URLs. What is done is told to the reviewer. Throws RktError; keys before that one are trusted. */
export async function addKeys(locations: readonly string[], options: AddKeysOptions): Promise<void> {
  const { prefix, reviewer } = options;
  for (const location of locations) {
    const { bytes, cameOverHttps } = await readKey(location, options);
    const keys = await parsePublicKeys(bytes, location);
    showKey(reviewer, { prefix, location, keys });
    const review = options.review && !(options.trustKeysFromHttps && cameOverHttps);
    if (review && !consent(location, options)) continue;
    reviewer.show(`Trusting ${JSON.stringify(location)} for prefix ${JSON.stringify(prefix)} ${review ? 'after' : 'without'} fingerprint review.`);
    for (const key of keys) {
      const path = storeKey(options.localConfigDir, { prefix, fingerprint: key.fingerprint, armored: armorKey(key) });
      reviewer.show(prefix === '' ? `Added root key at ${JSON.stringify(path)}` : `Added key for prefix ${JSON.stringify(prefix)} at ${JSON.stringify(path)}`);
    }
  }
}

function consent(location: string, { prefix, reviewer }: AddKeysOptions): boolean {
  if (!reviewer.canAsk()) {
    reviewer.log(`To trust the key for ${JSON.stringify(prefix)}, do one of the following:`);
    reviewer.log(' - call rkt with --trust-keys-from-https');
    reviewer.log(` - run: rkt trust --prefix ${JSON.stringify(prefix)}`);
    throw new RktError('USAGE', 'error reviewing key: unable to ask user to review fingerprint due to lack of tty');
  }
  const answer = askForTrust(reviewer);
  if (answer === undefined) throw new RktError('USAGE', 'error reviewing key: error reading input: EOF');
  if (!answer) reviewer.log(`not trusting ${JSON.stringify(location)}`);
  return answer;
}

async function readKey(location: string, { cwd, allowHttp, fetchDocument }: AddKeysOptions): Promise<{ bytes: Uint8Array; cameOverHttps: boolean }> {
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(location)?.[1]?.toLowerCase();
  if (scheme === undefined) return { bytes: readKeyOfPath(resolve(cwd, location)), cameOverHttps: false };
  if (scheme !== 'http' && scheme !== 'https') throw new RktError('USAGE', `error accessing the key ${location}: only local files and http or https URLs supported`);
  const requireHttps = (url: string): void => {
    if (!url.startsWith('https:') && !allowHttp) throw new RktError('USAGE', `error accessing the key ${location}: --insecure-allow-http required for http URLs`);
  };
  requireHttps(location);
  const { bytes, url } = await fetchDocument(location, { limitBytes: KEY_FILE_LIMIT_BYTES });
  // Images may come over plain http where keys may not.
  requireHttps(url);
  return { bytes, cameOverHttps: location.startsWith('https:') && url.startsWith('https:') };
}

function readKeyOfPath(path: string): Uint8Array {
  try {
    if (statSync(path).size > KEY_FILE_LIMIT_BYTES) throw new RktError('LIMIT', `${path}: more than ${KEY_FILE_LIMIT_BYTES} bytes are no OpenPGP key`);
    return readFileSync(path);
  } catch (error) {
    throw fileError(error, `error accessing the key ${path}`);
  }
}
