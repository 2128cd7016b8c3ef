/** The detached signature of an ACI: where it is, and who checks it. */
import { RktError } from '../error.ts';
import type { VerifiedBy } from '../schema/verified-by.ts';
import { networkOf } from './fetch-types.ts';
import type { FetchOptions } from './fetch-types.ts';
import { openRegularFile, readSmall, wholeFile } from './file-slice.ts';
import { openNetwork } from './network.ts';
import type { Network } from './network.ts';

export const SIGNATURE_MAX_BYTES = 1 << 20;

export interface SignedAci {
  /** appc image name. */
  name: string;
  /** Path or URL: begins messages. */
  origin: string;
  /** The ACI as it was downloaded. */
  file: string;
  /** Path or URL, or the signature itself. */
  signature: string | Uint8Array;
  publicKeyUrls: readonly string[];
}

/** Throws RktError BAD_SIGNATURE. */
export async function verifyAciFile(aci: SignedAci, options: FetchOptions): Promise<VerifiedBy[]> {
  const settings = networkOf(options, aci.origin);
  if (settings.insecure.image) return [{ kind: 'none', reason: 'insecure-option' }];
  const network = openNetwork(settings);
  try {
    const signature = typeof aci.signature === 'string' ? await readSignature(aci.signature, network) : aci.signature;
    const { verifyAci } = await import('./signature/verify-aci.ts');
    return [await verifyAci({ name: aci.name, origin: aci.origin, file: aci.file, signature, publicKeyUrls: aci.publicKeyUrls }, network.verification)];
  } finally {
    network.close();
  }
}

/** rkt's words. */
export async function readSignature(location: string, network: Network): Promise<Uint8Array> {
  if (/^https?:\/\//.test(location)) {
    try {
      return (await network.verification.fetchDocument(location, { limitBytes: SIGNATURE_MAX_BYTES })).bytes;
    } catch (error) {
      throw new RktError(error instanceof RktError ? error.code : 'NETWORK', 'error downloading the signature file', { cause: error, hint: 'an unsigned image can be fetched with --insecure-options=image' });
    }
  }
  try {
    const file = openRegularFile(location);
    try {
      return readSmall(wholeFile(file), SIGNATURE_MAX_BYTES);
    } finally {
      file.close();
    }
  } catch (error) {
    throw new RktError(error instanceof RktError ? error.code : 'IO', 'error opening signature file', { cause: error });
  }
}
