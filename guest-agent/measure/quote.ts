/** A quote that an app has asked for, as the document a verifier reads. */
import { NATIVE_HASHES } from '../../runtime/linux/hashes.ts';
import { RktError } from '../../src/error.ts';
import { fromHex } from '../../src/tpm/bytes.ts';
import { readPcrs } from '../../src/tpm/commands/pcr.ts';
import { buildEvidence, type PodKeyEndorsement } from '../../src/tpm/evidence.ts';
import { parseNonce, podKeyName, QUOTE_SELECTIONS, quoteBinding, quotePod, type RuntimeData } from '../../src/tpm/pod-key.ts';
import { BadRequest } from './attest-server.ts';
import type { Measurer } from './measurer.ts';

export interface QuoteRequest {
  uuid: string;
  nonceHex: string;
  dataHex: string;
}

/**
 * @param endorse the host's word for the pod's key, by its name
 * @throws BadRequest for a nonce or data that cannot be bound; what `endorse` and the TPM throw
 */
export async function evidenceFor({ uuid, nonceHex, dataHex }: QuoteRequest, measurer: Measurer, endorse: (keyName: Uint8Array) => Promise<PodKeyEndorsement>): Promise<string> {
  const runtimeData: RuntimeData = { uuid, dataHex };
  const binding = bindingOf(nonceHex, runtimeData);
  const endorsement = await endorse(await podKeyName(measurer.transport));
  // Nothing is measured in between: the agent does one thing at a time, and these never wait.
  const quote = await quotePod(measurer.transport, binding);
  const pcrs = await readPcrs(measurer.transport, QUOTE_SELECTIONS);
  return `${JSON.stringify(buildEvidence({ runtimeData, quote, endorsement, pcrs, eventLog: measurer.log }))}\n`;
}

function bindingOf(nonceHex: string, runtimeData: RuntimeData): Uint8Array {
  try {
    fromHex(runtimeData.dataHex, 'data');
    return quoteBinding(parseNonce(nonceHex), runtimeData, NATIVE_HASHES.sha256);
  } catch (error) {
    if (error instanceof RktError) throw new BadRequest(error.message);
    throw error;
  }
}
