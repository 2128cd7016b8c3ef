/** Which keys may vouch for something: not revoked, not expired, strong enough, today. */
import { enums } from 'openpgp';
import type { AnyKeyPacket, PartialConfig, PublicKey, SignaturePacket, Subkey } from 'openpgp';
import { RktError } from '../../error.ts';
import { fingerprintText, reasonOf } from '../trust/public-key.ts';
import type { ParsedPublicKey } from '../trust/public-key.ts';

/** Decompressed size of what a signature may cover inside one message. */
export const MESSAGE_LIMIT_BYTES = 4 << 20;

/** Hashes and keys that no signature of an image may rest on any more. */
export const VERIFY_CONFIG: PartialConfig = {
  rejectMessageHashAlgorithms: new Set([enums.hash.md5, enums.hash.sha1, enums.hash.ripemd]),
  minRSABits: 2047,
  maxDecompressedMessageSize: MESSAGE_LIMIT_BYTES,
};

/** The key or subkey that made a signature, and the key it belongs to. */
export interface Signer<K extends ParsedPublicKey = ParsedPublicKey> {
  owner: K;
  keyPacket: AnyKeyPacket;
}

/** Finds who signed among the keys given. A 64-bit key ID is no proof: several keys can have the same. */
export function signersOf<K extends ParsedPublicKey>(packet: SignaturePacket, keys: readonly K[]): Signer<K>[] {
  return keys.flatMap((owner) => owner.key.getKeys(packet.issuerKeyID).map((part) => ({ owner, keyPacket: part.keyPacket })));
}

/**
 * Refuses a key that is revoked, expired or too weak now, whenever the signature says it was made: that date is the word of
 * whoever holds the key. Throws RktError BAD_SIGNATURE.
 */
export async function checkUsable({ owner, keyPacket }: Signer, now: Date): Promise<void> {
  const { key } = owner;
  const refuse = (what: string, cause?: unknown): never => {
    throw new RktError('BAD_SIGNATURE', `openpgp: signature made by ${what}`, { cause, hint: `key ${fingerprintText(owner.fingerprint)}; get a new key of the signer, and trust it with \`rkt trust\`` });
  };
  if (await isRevoked(key, keyPacket, now)) refuse('a revoked key');
  const expires = await expirationOf(key, keyPacket, now);
  if (expires !== undefined && expires <= now) refuse(`a key that has expired on ${expires.toISOString().slice(0, 10)}`);
  try {
    await key.getSigningKey(keyPacket.getKeyID(), now);
  } catch (cause) {
    refuse(`a key that may not sign: ${reasonOf(cause)}`, cause);
  }
}

async function isRevoked(key: PublicKey, keyPacket: AnyKeyPacket, now: Date): Promise<boolean> {
  if (await key.isRevoked(undefined, undefined, now)) return true;
  const subkey = subkeyOf(key, keyPacket);
  if (subkey === undefined) return false;
  const [binding] = subkey.bindingSignatures;
  return binding !== undefined && (await subkey.isRevoked(binding, key.keyPacket, now));
}

/** The earlier of the primary key's and the subkey's expiry. Undefined: never, or not to be told. */
async function expirationOf(key: PublicKey, keyPacket: AnyKeyPacket, now: Date): Promise<Date | undefined> {
  const subkey = subkeyOf(key, keyPacket);
  const times = [await key.getExpirationTime(), ...(subkey === undefined ? [] : [await subkey.getExpirationTime(now)])];
  return times.filter((time) => time instanceof Date).sort((a, b) => a.getTime() - b.getTime())[0];
}

function subkeyOf(key: PublicKey, keyPacket: AnyKeyPacket): Subkey | undefined {
  return key.subkeys.find((subkey) => subkey.keyPacket === keyPacket);
}
