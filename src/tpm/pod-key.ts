/**
 * The keys behind a pod's quote.
 *
 * The pod's key signs its quotes. It is a primary key of the pod TPM's null hierarchy, whose seed is made anew whenever a TPM
 * starts: every pod has its own, it cannot outlive the pod, and deriving it again gives the same key, so nothing is created
 * before the first quote and nothing has to be kept.
 *
 * The host's key vouches for it. It lives in a TPM of the host (a state of its own that no guest ever talks to, or the
 * machine's TPM) and has a certificate from the host's CA. It signs one kind of statement only: that a pod's key, by its name,
 * is the key of the pod with a UUID.
 */
import { RktError } from '../error.ts';
import { fromHex, toHex } from './bytes.ts';
import { canonicalJson, type JsonObject } from './canonical-json.ts';
import { execute, type TpmTransport } from './command.ts';
import { createPrimary, evictControl, flushContext, readPublic, type PrimaryKey } from './commands/key.ts';
import { quote, type QuoteBytes } from './commands/quote.ts';
import { concatBytes } from './bytes.ts';
import { KEY_HANDLES, TPM_RH } from './constants.ts';
import { POD_BANKS } from './hash-algorithms.ts';
import type { PcrSelection } from './pcr-selection.ts';
import { QUOTED_PCRS } from './pcr-table.ts';
import { attestationKeyTemplate } from './public-area.ts';
import { sha256 as portableSha256, type Hash } from '../hash/sha2.ts';

/** All banks of a pod in one quote: none can be left out. */
export const QUOTE_SELECTIONS: readonly PcrSelection[] = POD_BANKS.map((bank) => ({ bank, pcrs: QUOTED_PCRS }));

/** Long enough that none comes twice. */
export const NONCE_MIN_BYTES = 16;
export const NONCE_MAX_BYTES = 64;

/** What a quote is bound to besides the nonce. */
export interface RuntimeData {
  uuid: string;
  /** Of whoever asks for the quote: a public key to encrypt to, say. Hexadecimal; at most 4096 bytes. */
  dataHex: string;
}

export const RUNTIME_DATA_MAX_BYTES = 4096;

/** @throws RktError USAGE */
export function parseNonce(hex: string): Uint8Array {
  const nonce = fromHex(hex, 'nonce');
  if (nonce.length < NONCE_MIN_BYTES || nonce.length > NONCE_MAX_BYTES) throw new RktError('USAGE', `nonce of ${nonce.length} bytes, expected ${NONCE_MIN_BYTES} to ${NONCE_MAX_BYTES}`, { hint: 'a verifier makes a new random one for each quote' });
  return nonce;
}

/** `extraData` of a pod's quote: SHA-256 of the nonce followed by the runtime data as canonical JSON. */
export function quoteBinding(nonce: Uint8Array, { uuid, dataHex }: RuntimeData, sha256: Hash = portableSha256): Uint8Array {
  if (fromHex(dataHex, 'data').length > RUNTIME_DATA_MAX_BYTES) throw new RktError('LIMIT', `data of more than ${RUNTIME_DATA_MAX_BYTES} bytes cannot be bound to a quote`, { hint: 'bind its digest' });
  return sha256(concatBytes(nonce, canonicalBytes({ data: dataHex, uuid })));
}

/** `extraData` of the host's statement about a pod's key: SHA-256 of canonical JSON. */
export function endorsementBinding(podKeyName: Uint8Array, uuid: string, sha256: Hash = portableSha256): Uint8Array {
  return sha256(canonicalBytes({ podKeyName: toHex(podKeyName), statement: 'rkt pod key', uuid }));
}

function canonicalBytes(value: JsonObject): Uint8Array {
  return new TextEncoder().encode(canonicalJson(value));
}

export interface PodQuote extends QuoteBytes {
  /** TPMT_PUBLIC of the pod's key. */
  keyPublic: Uint8Array;
  keyName: Uint8Array;
}

/** In the pod's TPM, by host or guest. */
export async function quotePod(transport: TpmTransport, binding: Uint8Array): Promise<PodQuote> {
  return await withPodKey(transport, async (key) => {
    const signed = await execute(transport, quote({ keyHandle: key.handle, qualifyingData: binding, selections: QUOTE_SELECTIONS }));
    return { ...signed, keyPublic: key.publicArea, keyName: key.name };
  });
}

/** Name of the pod's key, for the host to vouch for. */
export async function podKeyName(transport: TpmTransport): Promise<Uint8Array> {
  return await withPodKey(transport, (key) => Promise.resolve(key.name));
}

async function withPodKey<T>(transport: TpmTransport, use: (key: PrimaryKey) => Promise<T>): Promise<T> {
  const key = await execute(transport, createPrimary(TPM_RH.null, attestationKeyTemplate('ecc-p256')));
  try {
    return await use(key);
  } finally {
    await execute(transport, flushContext(key.handle));
  }
}

/** In the host's TPM: the statement that the key of that name is the pod's. */
export async function endorsePodKey(transport: TpmTransport, podKeyName: Uint8Array, uuid: string): Promise<QuoteBytes> {
  return await execute(transport, quote({ keyHandle: KEY_HANDLES.hostKey, qualifyingData: endorsementBinding(podKeyName, uuid), selections: [] }));
}

/** Makes the host's key and keeps it; for the making of the host's state. Gives back its TPMT_PUBLIC. */
export async function createHostKey(transport: TpmTransport): Promise<Uint8Array> {
  const key = await execute(transport, createPrimary(TPM_RH.endorsement, attestationKeyTemplate('ecc-p256')));
  await execute(transport, evictControl(key.handle, KEY_HANDLES.hostKey));
  await execute(transport, flushContext(key.handle));
  return (await execute(transport, readPublic(KEY_HANDLES.hostKey))).publicArea;
}
