/** TPML_PCR_SELECTION: which PCRs of which banks (TPM 2.0 Library, part 2, 10.6.2 and 10.9.7). */
import { type ByteReader, ByteWriter } from './bytes.ts';
import { PCR_COUNT } from './constants.ts';
import { HASH_ALGORITHMS, hashNameOf, type HashName } from './hash-algorithms.ts';

export interface PcrSelection {
  bank: HashName;
  /** Ascending. */
  pcrs: readonly number[];
}

/** HASH_COUNT of TPMs is below this. */
const MAX_BANKS = 16;
const SELECT_BYTES = PCR_COUNT / 8;

export function encodePcrSelections(selections: readonly PcrSelection[]): Uint8Array<ArrayBuffer> {
  const writer = new ByteWriter('big').u32(selections.length);
  for (const { bank, pcrs } of selections) {
    const bits = new Uint8Array(SELECT_BYTES);
    for (const pcr of pcrs) {
      if (!Number.isInteger(pcr) || pcr < 0 || pcr >= PCR_COUNT) throw new RangeError(`there is no PCR ${pcr}`);
      bits[pcr >> 3]! |= 1 << (pcr & 7);
    }
    writer.u16(HASH_ALGORITHMS[bank].id).u8(SELECT_BYTES).raw(bits);
  }
  return writer.bytes;
}

/** Banks without any PCR are kept: a quote that selects nothing must not look like one that names no bank. */
export function readPcrSelections(reader: ByteReader): PcrSelection[] {
  const count = reader.count(MAX_BANKS, 'PCR banks');
  const selections: PcrSelection[] = [];
  for (let i = 0; i < count; i++) {
    const algorithm = reader.u16();
    const bank = hashNameOf(algorithm) ?? reader.fail(`unknown hash algorithm 0x${algorithm.toString(16)} of a PCR bank`);
    const sizeBytes = reader.u8();
    if (sizeBytes > SELECT_BYTES) reader.fail(`PCRs beyond ${PCR_COUNT - 1} are selected`);
    const pcrs: number[] = [];
    reader.take(sizeBytes).forEach((bits, byte) => {
      for (let bit = 0; bit < 8; bit++) if ((bits & (1 << bit)) !== 0) pcrs.push(8 * byte + bit);
    });
    selections.push({ bank, pcrs });
  }
  return selections;
}
