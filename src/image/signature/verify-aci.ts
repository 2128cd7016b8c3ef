/** Detached OpenPGP signatures of ACIs, against the keys that are trusted for the image's name. */
import { RktError } from '../../error.ts';
import { addKeys } from '../trust/add-keys.ts';
import { hasKeysForPrefix, keysFor, readKeyFile } from '../trust/keystore.ts';
import type { StoredKey } from '../trust/keystore.ts';
import { parsePublicKeys } from '../trust/public-key.ts';
import type { ParsedPublicKey } from '../trust/public-key.ts';
import { canAskTerminal, printable, readLineOfInput } from '../trust/review.ts';
import type { AciSubject, VerificationOptions, VerifyAci } from '../verification.ts';
import { parseDetachedSignature, UNKNOWN_SIGNER, verifyDetached } from './openpgp-detached.ts';

interface KeystoreKey extends ParsedPublicKey {
  prefix: string;
}

export const verifyAci: VerifyAci = async (subject, options) => {
  const refuse = (error: unknown): never => {
    throw explained(error, subject);
  };
  const packets = await parseDetachedSignature(subject.signature).catch(refuse);
  await maybeAddKeys(subject, options);
  const keys = await loadKeys(subject.name, options.configDirs);
  const signer = await verifyDetached(subject.file, { packets, keys, now: new Date() }).catch(refuse);
  options.onMessage(['signature verified:', ...signer.userIds.map((userId) => `  ${printable(userId)}`)].join('\n'));
  return { kind: 'openpgp', fingerprint: signer.fingerprint, identity: signer.userIds[0] ?? '', prefix: signer.prefix };
};

/**
 * Keys found by discovery are taken up only while nobody has chosen any for this very name. It is no error when that does
 * not work: a key that is trusted already may have made the signature.
 */
async function maybeAddKeys({ name, publicKeyUrls }: AciSubject, options: VerificationOptions): Promise<void> {
  const { insecure } = options;
  if (publicKeyUrls.length === 0 || hasKeysForPrefix(name, options.configDirs)) return;
  if (insecure.pubkey) options.onMessage('signing keys may be downloaded from an insecure connection');
  else if (insecure.tls) return;
  try {
    await addKeys(publicKeyUrls, {
      prefix: name,
      localConfigDir: options.localConfigDir,
      // All of them are URLs.
      cwd: '/',
      review: true,
      trustKeysFromHttps: options.trustKeysFromHttps,
      allowHttp: insecure.pubkey && insecure.http,
      fetchDocument: options.fetchDocument,
      // Standard output is the command's: an image ID, or an app's own output.
      reviewer: { show: options.onMessage, log: options.onMessage, canAsk: canAskTerminal, readLine: readLineOfInput },
    });
  } catch (error) {
    if (!(error instanceof RktError)) throw error;
    options.onMessage(`error adding keys: ${error.message}`);
  }
}

async function loadKeys(name: string, configDirs: readonly string[]): Promise<KeystoreKey[]> {
  const keys: KeystoreKey[] = [];
  for (const stored of keysFor(name, configDirs)) keys.push(await loadKey(stored));
  return keys;
}

/** The file may hold more keys than the one it is named after, which alone was chosen. */
async function loadKey(stored: StoredKey): Promise<KeystoreKey> {
  const keys = await parsePublicKeys(readKeyFile(stored), stored.path);
  const key = keys.find(({ fingerprint }) => fingerprint === stored.fingerprint);
  if (key === undefined) throw new RktError('BAD_INPUT', `${stored.path}: fingerprint mismatch: ${JSON.stringify(stored.fingerprint)}:${JSON.stringify(keys[0]?.fingerprint)}`);
  return { ...key, prefix: stored.prefix };
}

function explained(error: unknown, { name, origin }: AciSubject): unknown {
  if (!(error instanceof RktError) || error.code !== 'BAD_SIGNATURE') return error;
  const hint = error.message === UNKNOWN_SIGNER ? `if you expected the signing key to change, try running: rkt trust --prefix ${JSON.stringify(name)}` : error.hint;
  return new RktError('BAD_SIGNATURE', `${origin}: image ${JSON.stringify(name)} verification failed: ${error.message}`, { cause: error, ...(hint === undefined ? {} : { hint }) });
}
