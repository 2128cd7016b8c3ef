/** TPMS_ATTEST of a quote: what a TPM signed (TPM 2.0 Library, part 2, 10.12). */
import { ByteReader } from './bytes.ts';
import { TPM_GENERATED_VALUE, TPM_ST } from './constants.ts';
import { readPcrSelections, type PcrSelection } from './pcr-selection.ts';

export interface AttestedQuote {
  /** Name of the signing key's ancestors. */
  qualifiedSigner: Uint8Array;
  /** What the quote was asked with. */
  extraData: Uint8Array;
  clock: {
    /** Milliseconds since the TPM's clock began. */
    clockMs: bigint;
    resetCount: number;
    restartCount: number;
    safe: boolean;
  };
  firmwareVersion: bigint;
  selections: PcrSelection[];
  /** Hash of the selected values, in the order of the selections. */
  pcrDigest: Uint8Array;
}

/**
 * Refuses everything that is not a quote, and every quote that no TPM made: a restricted key signs other structures of a TPM
 * too, and an unrestricted one whatever it is given.
 * @throws RktError BAD_INPUT
 */
export function parseAttestedQuote(bytes: Uint8Array): AttestedQuote {
  const reader = new ByteReader(bytes, 'big', 'quote');
  const magic = reader.u32();
  if (magic !== TPM_GENERATED_VALUE) reader.fail(`begins with 0x${magic.toString(16)}, not with 0x${TPM_GENERATED_VALUE.toString(16)}: no TPM made it`);
  const type = reader.u16();
  if (type !== TPM_ST.attestQuote) reader.fail(`structure of type 0x${type.toString(16)}, expected 0x${TPM_ST.attestQuote.toString(16)} (quote)`);
  const qualifiedSigner = reader.sized16();
  const extraData = reader.sized16();
  const clockMs = reader.u64();
  const resetCount = reader.u32();
  const restartCount = reader.u32();
  const safe = reader.u8();
  if (safe > 1) reader.fail(`clock.safe is ${safe}, expected 0 or 1`);
  const firmwareVersion = reader.u64();
  const selections = readPcrSelections(reader);
  const pcrDigest = reader.sized16();
  reader.expectEnd();
  return { qualifiedSigner, extraData, clock: { clockMs, resetCount, restartCount, safe: safe === 1 }, firmwareVersion, selections, pcrDigest };
}
