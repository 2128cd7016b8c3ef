/** TPM2_Quote: a signed statement about PCRs. */
import { ByteWriter } from '../bytes.ts';
import { NO_PASSWORD, tpmCommand, type TpmCommand } from '../command.ts';
import { TPM_ALG } from '../constants.ts';
import { encodePcrSelections, type PcrSelection } from '../pcr-selection.ts';

export interface QuoteRequest {
  keyHandle: number;
  /** Becomes `extraData`; at most 66 bytes. */
  qualifyingData: Uint8Array;
  selections: readonly PcrSelection[];
}

export interface QuoteBytes {
  /** TPMS_ATTEST: what is signed. */
  attest: Uint8Array;
  /** TPMT_SIGNATURE. */
  signature: Uint8Array;
}

/** Signs with the key's own scheme. */
export function quote({ keyHandle, qualifyingData, selections }: QuoteRequest): TpmCommand<QuoteBytes> {
  const parameters = new ByteWriter('big').sized16(qualifyingData).u16(TPM_ALG.null).raw(encodePcrSelections(selections)).bytes;
  return tpmCommand('Quote', { handles: [keyHandle], authorizations: [NO_PASSWORD], parameters }, ({ parameters: answer }) => ({
    attest: answer.sized16(),
    signature: answer.take(answer.leftBytes),
  }));
}
