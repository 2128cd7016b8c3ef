/** Reading and extending PCRs. */
import { RktError } from '../../error.ts';
import { ByteWriter } from '../bytes.ts';
import { execute, NO_PASSWORD, nothing, tpmCommand, type TpmCommand, type TpmTransport } from '../command.ts';
import { TPM_ST } from '../constants.ts';
import { HASH_ALGORITHMS, type HashName, type TaggedDigest } from '../hash-algorithms.ts';
import { encodePcrSelections, readPcrSelections, type PcrSelection } from '../pcr-selection.ts';
import { TPM_RC } from '../response-code.ts';

/** Values by bank and PCR. */
export type PcrBanks = Map<HashName, Map<number, Uint8Array>>;

/** What TPML_DIGEST holds. */
const MAX_DIGESTS = 8;

export interface PcrReadResult {
  /** Counts the changes of PCRs: two answers with the same counter belong together. */
  updateCounter: number;
  /** What the TPM chose to answer; may be less than asked for. */
  values: PcrBanks;
}

export function pcrRead(selections: readonly PcrSelection[]): TpmCommand<PcrReadResult> {
  return tpmCommand('PCR_Read', { parameters: encodePcrSelections(selections) }, ({ parameters: answer }) => {
    const updateCounter = answer.u32();
    const answered = readPcrSelections(answer);
    const values: PcrBanks = new Map();
    let left = answer.count(MAX_DIGESTS, 'digests');
    for (const { bank, pcrs } of answered) {
      for (const pcr of pcrs) {
        if (left-- === 0) answer.fail('fewer digests than PCRs');
        const digest = answer.sized16();
        if (digest.length !== HASH_ALGORITHMS[bank].sizeBytes) answer.fail(`PCR ${pcr} of ${bank} has ${digest.length} bytes`);
        bankOf(values, bank).set(pcr, digest);
      }
    }
    if (left !== 0) answer.fail('more digests than PCRs');
    return { updateCounter, values };
  });
}

/** Header, size of the parameters, an empty nonce, attributes, an empty authorization. */
const BARE_SUCCESS_BYTES = 10 + 4 + 2 + 1 + 2;

/** Extends all banks that are given at once: never one without the other. */
export function pcrExtend(pcr: number, digests: readonly TaggedDigest[]): TpmCommand<void> {
  return preparePcrExtend(pcr, digests.map(({ algorithm }) => algorithm))(digests);
}

/** For one that extends the same PCR often, where encoding a command takes longer than its execution. @returns takes digests of these algorithms, in this order */
export function preparePcrExtend(pcr: number, algorithms: readonly HashName[]): (digests: readonly TaggedDigest[]) => TpmCommand<void> {
  const parameters = new ByteWriter('big').u32(algorithms.length);
  for (const algorithm of algorithms) parameters.u16(HASH_ALGORITHMS[algorithm].id).raw(new Uint8Array(HASH_ALGORITHMS[algorithm].sizeBytes));
  const blank = tpmCommand('PCR_Extend', { handles: [pcr], authorizations: [NO_PASSWORD], parameters: parameters.bytes }, nothing);
  return (digests) => {
    if (digests.length !== algorithms.length) throw new RangeError(`${digests.length} digests for ${algorithms.length} algorithms`);
    const bytes = blank.bytes.slice();
    // The digests are the end of the command, an algorithm's number before each.
    let end = bytes.length;
    for (let i = algorithms.length - 1; i >= 0; i--) {
      const { algorithm, digest } = digests[i]!;
      const { sizeBytes } = HASH_ALGORITHMS[algorithms[i]!];
      if (algorithm !== algorithms[i] || digest.length !== sizeBytes) throw new RangeError(`a digest of ${algorithms[i]} has ${sizeBytes} bytes; got ${digest.length} of ${algorithm}`);
      bytes.set(digest, end - sizeBytes);
      end -= 2 + sizeBytes;
    }
    return { ...blank, bytes, decode: (response) => (isBareSuccess(response) ? undefined : blank.decode(response)) };
  };
}

/** The one answer to a successful command with an empty password that returns nothing; read at once, it is the most frequent. */
function isBareSuccess(response: Uint8Array): boolean {
  if (response.length !== BARE_SUCCESS_BYTES) return false;
  const view = new DataView(response.buffer, response.byteOffset);
  return view.getUint16(0) === TPM_ST.sessions && view.getUint32(2) === BARE_SUCCESS_BYTES && view.getUint32(6) === TPM_RC.success && view.getUint32(10) === 0 && view.getUint16(14) === 0 && view.getUint16(17) === 0;
}

/** Only 16 and 23 can be reset from the locality that a guest has. */
export function pcrReset(pcr: number): TpmCommand<void> {
  return tpmCommand('PCR_Reset', { handles: [pcr], authorizations: [NO_PASSWORD] }, nothing);
}

const MAX_READ_ATTEMPTS = 8;

/**
 * Values of one moment, however many commands it takes to read them.
 * @throws RktError IO when a bank or PCR does not exist, BUSY when they change faster than they can be read
 */
export async function readPcrs(transport: TpmTransport, selections: readonly PcrSelection[]): Promise<PcrBanks> {
  for (let attempt = 0; attempt < MAX_READ_ATTEMPTS; attempt++) {
    const values: PcrBanks = new Map();
    const counters = new Set<number>();
    for (;;) {
      const missing = missingOf(selections, values);
      if (missing.length === 0) break;
      const answer = await execute(transport, pcrRead(missing));
      counters.add(answer.updateCounter);
      if (answer.values.size === 0) throw new RktError('IO', `the TPM has no PCR ${missing[0]!.pcrs.join(', ')} in bank ${missing[0]!.bank}`);
      for (const [bank, read] of answer.values) for (const [pcr, digest] of read) bankOf(values, bank).set(pcr, digest);
    }
    if (counters.size <= 1) return values;
  }
  throw new RktError('BUSY', 'PCRs change faster than they can be read');
}

function missingOf(selections: readonly PcrSelection[], values: PcrBanks): PcrSelection[] {
  return selections
    .map(({ bank, pcrs }) => ({ bank, pcrs: pcrs.filter((pcr) => values.get(bank)?.has(pcr) !== true) }))
    .filter(({ pcrs }) => pcrs.length > 0);
}

/** The map of a bank, made when it is asked for first. */
export function bankOf(banks: PcrBanks, bank: HashName): Map<number, Uint8Array> {
  const known = banks.get(bank);
  if (known !== undefined) return known;
  const values = new Map<number, Uint8Array>();
  banks.set(bank, values);
  return values;
}
