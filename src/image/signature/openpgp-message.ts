/** OpenPGP messages that hold what they sign (`gpg --sign`), as simple signing uses them. */
import { readMessage, verify } from 'openpgp';
import type { KeyID, Message } from 'openpgp';
import { RktError } from '../../error.ts';
import { reasonOf } from '../trust/public-key.ts';
import type { ParsedPublicKey } from '../trust/public-key.ts';
import { UNKNOWN_SIGNER } from './openpgp-detached.ts';
import { checkUsable, VERIFY_CONFIG } from './openpgp-trust.ts';

/** Gives the content that one of the keys has signed, and that key. Throws RktError BAD_SIGNATURE. */
export async function openSignedMessage<K extends ParsedPublicKey>(bytes: Uint8Array, keys: readonly K[], now: Date): Promise<{ content: Uint8Array; signer: K }> {
  const signingKeyIds = (await parseMessage(bytes)).getSigningKeyIDs();
  const candidates = keys.flatMap((owner) => signingKeyIds.flatMap((keyId) => owner.key.getKeys(keyId).map(({ keyPacket }) => ({ owner, keyPacket, keyId }))));
  let failure: unknown = new RktError('BAD_SIGNATURE', UNKNOWN_SIGNER);
  for (const { owner, keyPacket, keyId } of candidates) {
    try {
      await checkUsable({ owner, keyPacket }, now);
      return { content: await contentSignedBy(bytes, { owner, keyId, now }), signer: owner };
    } catch (cause) {
      failure = cause instanceof RktError ? cause : new RktError('BAD_SIGNATURE', `openpgp: invalid signature: ${reasonOf(cause)}`, { cause });
    }
  }
  throw failure;
}

async function parseMessage(bytes: Uint8Array): Promise<Message<Uint8Array>> {
  try {
    return await readMessage({ binaryMessage: bytes, config: VERIFY_CONFIG });
  } catch (cause) {
    throw new RktError('BAD_SIGNATURE', `openpgp: not a signed message: ${reasonOf(cause)}`, { cause });
  }
}

/** Verifying uses a message up: it is parsed anew for each key. */
async function contentSignedBy(bytes: Uint8Array, { owner, keyId, now }: { owner: ParsedPublicKey; keyId: KeyID; now: Date }): Promise<Uint8Array> {
  const { data, signatures } = await verify({ message: await parseMessage(bytes), verificationKeys: owner.key, format: 'binary', date: now, config: VERIFY_CONFIG });
  const made = signatures.find(({ keyID }) => keyID.equals(keyId));
  if (made === undefined) throw new Error('not signed');
  await made.verified;
  return data;
}
