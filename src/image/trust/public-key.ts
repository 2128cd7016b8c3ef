/** OpenPGP public keys, as files and web servers have them. */
import { config, readKeys } from 'openpgp';
import type { Key, PublicKey } from 'openpgp';
import { RktError } from '../../error.ts';

export const KEY_FILE_LIMIT_BYTES = 4 << 20;
const MAX_KEYS = 64;

const ARMOR_HEADER = '-----BEGIN PGP PUBLIC KEY BLOCK-----';
const ARMOR_PREFIX = '-----BEGIN PGP ';

/** A key with its certificates, as parsed: nothing says yet that it may be used. */
export interface ParsedPublicKey {
  key: PublicKey;
  /** Of the primary key, lower case hexadecimal: 40 digits, or 64 of a version 6 key. */
  fingerprint: string;
  subkeyFingerprints: string[];
  userIds: string[];
}

/**
 * Parses all keys of a file: any number of armored blocks, or binary packets. `origin` begins the messages.
 * Throws RktError BAD_INPUT, also for a private key.
 */
export async function parsePublicKeys(bytes: Uint8Array, origin: string): Promise<ParsedPublicKey[]> {
  if (bytes.length > KEY_FILE_LIMIT_BYTES) throw new RktError('LIMIT', `${origin}: more than ${KEY_FILE_LIMIT_BYTES} bytes are no OpenPGP key`);
  const keys: Key[] = [];
  try {
    for (const block of armoredBlocks(bytes) ?? [bytes]) {
      keys.push(...(typeof block === 'string' ? await readKeys({ armoredKeys: block }) : await readKeys({ binaryKeys: block })));
    }
  } catch (cause) {
    throw new RktError('BAD_INPUT', `${origin}: not an OpenPGP public key: ${reasonOf(cause)}`, { cause });
  }
  if (keys.length === 0) throw new RktError('BAD_INPUT', `${origin}: holds no OpenPGP public key`);
  if (keys.length > MAX_KEYS) throw new RktError('LIMIT', `${origin}: more than ${MAX_KEYS} keys in one file`);
  return keys.map((key) => describeKey(key, origin));
}

/** The text of each armored block; undefined when the file is not text. */
function armoredBlocks(bytes: Uint8Array): string[] | undefined {
  // The first byte of a packet has its highest bit set, so binary keys never look like text.
  if ((bytes[0] ?? 0) >= 0x80) return undefined;
  const text = Buffer.from(bytes).toString('latin1');
  const starts = [...text.matchAll(/^-----BEGIN PGP /gm)].map(({ index }) => index);
  const blocks = starts.map((start, position) => text.slice(start, starts[position + 1]));
  const other = blocks.find((block) => !block.startsWith(ARMOR_HEADER));
  if (other !== undefined) throw new Error(`expected ${ARMOR_HEADER}, found ${JSON.stringify(other.slice(0, other.indexOf('\n')).slice(0, 60))}`);
  if (blocks.length === 0) throw new Error(`expected ${ARMOR_PREFIX}… or binary packets`);
  return blocks;
}

function describeKey(key: Key, origin: string): ParsedPublicKey {
  if (key.isPrivate()) throw new RktError('BAD_INPUT', `${origin}: a private key; only the public one is needed here`, { hint: 'export it with `gpg --armor --export`' });
  return {
    key,
    fingerprint: key.getFingerprint(),
    subkeyFingerprints: key.subkeys.map((subkey) => subkey.getFingerprint()),
    userIds: key.getUserIDs(),
  };
}

/** The key armored, without comments of the program that makes it. */
export function armorKey({ key }: ParsedPublicKey): string {
  return key.armor({ ...config, showVersion: false, showComment: false });
}

/** `8B86 DE38 890D DB72 9186  7B02 5210 BD88 8818 2190`, as gpg writes fingerprints. */
export function fingerprintText(fingerprint: string): string {
  const groups = fingerprint.toUpperCase().match(/.{1,4}/g) ?? [];
  const half = Math.ceil(groups.length / 2);
  return `${groups.slice(0, half).join(' ')}  ${groups.slice(half).join(' ')}`;
}

export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
