/** Detached OpenPGP signatures over files that are read as a stream. */
import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import { config, enums, readSignature } from 'openpgp';
import type { SignaturePacket } from 'openpgp';
import { RktError } from '../../error.ts';
import { fileError } from '../../store/fs-error.ts';
import { reasonOf } from '../trust/public-key.ts';
import type { ParsedPublicKey } from '../trust/public-key.ts';
import { checkUsable, signersOf, VERIFY_CONFIG } from './openpgp-trust.ts';
import type { Signer } from './openpgp-trust.ts';

export const SIGNATURE_LIMIT_BYTES = 1 << 20;
/** Each one costs reading the file once. */
const MAX_SIGNATURES = 16;
const CHUNK_BYTES = 1 << 20;

/** rkt's words for a signature by somebody who is not trusted. */
export const UNKNOWN_SIGNER = 'openpgp: signature made by unknown entity';

/** Parses an armored or binary signature file. Throws RktError BAD_SIGNATURE. */
export async function parseDetachedSignature(bytes: Uint8Array): Promise<SignaturePacket[]> {
  if (bytes.length > SIGNATURE_LIMIT_BYTES) throw new RktError('LIMIT', `openpgp: a signature file of more than ${SIGNATURE_LIMIT_BYTES} bytes`);
  let packets: SignaturePacket[];
  try {
    const isBinary = (bytes[0] ?? 0) >= 0x80;
    packets = (isBinary ? await readSignature({ binarySignature: bytes }) : await readSignature({ armoredSignature: Buffer.from(bytes).toString('latin1') })).packets;
  } catch (cause) {
    throw new RktError('BAD_SIGNATURE', `keystore: no valid signatures found in signature file: ${reasonOf(cause)}`, { cause });
  }
  if (packets.length === 0) throw new RktError('BAD_SIGNATURE', 'keystore: no valid signatures found in signature file');
  if (packets.length > MAX_SIGNATURES) throw new RktError('LIMIT', `openpgp: more than ${MAX_SIGNATURES} signatures in one file`);
  return packets;
}

/**
 * Verifies that one of the signatures covers exactly the bytes of the file and was made by one of the keys, which may be used
 * today. A signature of somebody unknown does no harm beside a good one; a bad one of somebody known does not either.
 * Throws RktError BAD_SIGNATURE that says why the last candidate failed.
 */
export async function verifyDetached<K extends ParsedPublicKey>(file: string, options: { packets: readonly SignaturePacket[]; keys: readonly K[]; now: Date }): Promise<K> {
  let failure: unknown;
  for (const packet of options.packets) {
    for (const signer of signersOf(packet, options.keys)) {
      try {
        await checkUsable(signer, options.now);
        await verifyPacket(file, packet, { signer, now: options.now });
        return signer.owner;
      } catch (error) {
        if (!(error instanceof RktError) || error.code !== 'BAD_SIGNATURE') throw error;
        failure = error;
      }
    }
  }
  throw failure ?? new RktError('BAD_SIGNATURE', UNKNOWN_SIGNER);
}

async function verifyPacket(file: string, packet: SignaturePacket, { signer, now }: { signer: Signer; now: Date }): Promise<void> {
  if (packet.signatureType !== enums.signature.binary) throw new RktError('BAD_SIGNATURE', 'openpgp: invalid signature: not a signature over a binary document (made with --textmode?)');
  const stream = createReadStream(file, { highWaterMark: CHUNK_BYTES });
  let readError: unknown;
  stream.on('error', (error) => (readError = error));
  // What the packet asks of a document: its bytes, here as they are read.
  const document = { text: null, getBytes: () => Readable.toWeb(stream) };
  try {
    await packet.verify(signer.keyPacket, enums.signature.binary, document, now, true, { ...config, ...VERIFY_CONFIG });
  } catch (cause) {
    if (readError !== undefined) throw fileError(readError, file);
    throw new RktError('BAD_SIGNATURE', `openpgp: invalid signature: ${reasonOf(cause)}`, { cause });
  } finally {
    stream.destroy();
  }
  if (packet.created !== null && signer.keyPacket.getCreationTime() > packet.created) throw new RktError('BAD_SIGNATURE', 'openpgp: invalid signature: older than the key that made it');
}
