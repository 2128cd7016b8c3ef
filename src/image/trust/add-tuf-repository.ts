/** From the URL of a TUF repository to one that is trusted: its root metadata is reviewed once, and pinned. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { RktError } from '../../error.ts';
import { arrayOf, integerBetween, mapOf, objectOf, oneOf, parseDocument, stringValue } from '../../schema/check.ts';
import { fileError } from '../../store/fs-error.ts';
import type { VerificationOptions } from '../verification.ts';
import { isNamePrefix } from './image-identity.ts';
import { askForTrust, printable } from './review.ts';
import type { Reviewer } from './review.ts';
import { refreshTufRepository } from './tuf-client.ts';
import { checkedRepositoryUrl, storeTufRepository } from './tuf-repositories.ts';
import type { TufRepository } from './tuf-repositories.ts';

export interface AddTufRepositoryOptions {
  /** Images that must be in the repository: a host, namespace or repository; empty: all; absent: none. */
  prefix?: string;
  /** The root metadata. Without it the repository's own is shown and asked about. */
  rootFile?: string;
  review: boolean;
  verification: VerificationOptions;
  reviewer: Reviewer;
}

const ROOT_LIMIT_BYTES = 512_000;

interface RootMetadata {
  signed: {
    _type: 'root';
    version: number;
    expires: string;
    roles: Record<string, { keyids: string[]; threshold: number }>;
  };
}

const rootMetadata = objectOf<RootMetadata>({
  signed: objectOf<RootMetadata['signed']>({
    _type: oneOf(['root']),
    version: integerBetween(1, Number.MAX_SAFE_INTEGER),
    expires: stringValue,
    roles: mapOf(objectOf<{ keyids: string[]; threshold: number }>({ keyids: arrayOf(stringValue), threshold: integerBetween(1, 1000) })),
  }),
});

/** Throws RktError; then nothing is trusted that was not before. */
export async function addTufRepository(urlText: string, options: AddTufRepositoryOptions): Promise<void> {
  const { prefix, rootFile, reviewer, verification } = options;
  const url = checkedRepositoryUrl(urlText);
  if (prefix !== undefined && prefix !== '' && !isNamePrefix(prefix)) throw new RktError('USAGE', `--prefix: expected a registry, namespace or repository in full, such as docker.io/library, found ${JSON.stringify(prefix)}`);
  const root = rootFile === undefined ? await fetchRoot(url, verification) : readRoot(rootFile);
  const repository: TufRepository = { url, root, ...(prefix === undefined ? {} : { prefix }) };
  showRoot(repository, { origin: rootFile ?? url, reviewer });
  // Whoever gives the file has chosen it.
  if (rootFile === undefined && options.review && !consent(url, reviewer)) return;
  await refreshTufRepository(repository, verification);
  const path = storeTufRepository(verification.localConfigDir, repository);
  const scope = prefix === undefined ? 'no images, only for keys in policies' : prefix === '' ? 'all images' : `images below ${JSON.stringify(prefix)}`;
  reviewer.show(`Trusting ${JSON.stringify(url)} for ${scope}.`);
  reviewer.show(`Added TUF repository at ${JSON.stringify(path)}`);
}

async function fetchRoot(url: string, { fetchDocument }: VerificationOptions): Promise<Uint8Array> {
  for (const name of ['1.root.json', 'root.json']) {
    try {
      return (await fetchDocument(`${url}/${name}`, { limitBytes: ROOT_LIMIT_BYTES })).bytes;
    } catch (error) {
      if (!(error instanceof RktError) || error.code !== 'NOT_FOUND') throw error;
    }
  }
  throw new RktError('NOT_FOUND', `${url}: there is neither 1.root.json nor root.json`, { hint: 'give the root metadata as a file: rkt trust --tuf=URL ROOT.json' });
}

function readRoot(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    throw fileError(error, `cannot read ${path}`);
  }
}

function showRoot({ url, root }: TufRepository, { origin, reviewer }: { origin: string; reviewer: Reviewer }): void {
  const { signed } = parseDocument(Buffer.from(root).toString('utf8'), rootMetadata, { origin, code: 'BAD_INPUT' });
  const role = signed.roles['root'];
  reviewer.log(`TUF repository: ${JSON.stringify(url)}`);
  reviewer.show(`root metadata version ${signed.version}, expires ${printable(signed.expires)}, SHA-256 ${createHash('sha256').update(root).digest('hex')}`);
  for (const keyId of role?.keyids ?? []) reviewer.show(`    Root key: ${printable(keyId)}`);
  reviewer.show(`    ${role?.threshold ?? 0} of them must sign a new root`);
}

function consent(url: string, reviewer: Reviewer): boolean {
  if (!reviewer.canAsk()) throw new RktError('USAGE', 'error reviewing root metadata: unable to ask user due to lack of tty', { hint: 'give the root metadata as a file: rkt trust --tuf=URL ROOT.json' });
  const answer = askForTrust(reviewer, 'Are you sure you want to trust this root (yes/no)?');
  if (answer !== true) reviewer.log(`not trusting ${JSON.stringify(url)}`);
  return answer === true;
}
