/** Reading and extending PCRs. */
import { RktError } from '../../error.ts';
import { ByteWriter, toHex } from '../bytes.ts';
import { execute, NO_PASSWORD, nothing, TPM_HEADER_BYTES, tpmCommand, type TpmCommand, type TpmTransport } from '../command.ts';
import { HASH_ALGORITHMS, type HashName, type TaggedDigest } from '../hash-algorithms.ts';
import { encodePcrSelections, readPcrSelections, type PcrSelection } from '../pcr-selection.ts';

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

/** Extends all banks that are given at once: never one without the other. */
export function pcrExtend(pcr: number, digests: readonly TaggedDigest[]): TpmCommand<void> {
  const blank = blankExtend(digests.map(({ algorithm }) => algorithm));
  const bytes = blank.bytes.slice();
  new DataView(bytes.buffer).setUint32(TPM_HEADER_BYTES, pcr);
  let at = BLANK_DIGESTS_AT;
  for (const { algorithm, digest } of digests) {
    const { sizeBytes } = HASH_ALGORITHMS[algorithm];
    if (digest.length !== sizeBytes) throw new RangeError(`a digest of ${algorithm} has ${sizeBytes} bytes, not ${digest.length}`);
    bytes.set(digest, at + 2);
    at += 2 + sizeBytes;
  }
  return { name: blank.name, bytes, decode: blank.decode };
}

/** By the algorithms in their order, of which a program uses one or two lists. */
const blanks = new Map<string, TpmCommand<void>>();

/** Behind handle, authorization (its size, session, no nonce, attributes, no password) and the number of digests. */
const BLANK_DIGESTS_AT = TPM_HEADER_BYTES + 4 + 4 + 9 + 4;

/** For PCR 0, with digests of zeros: in a guest under emulation encoding a command takes longer than its execution. */
function blankExtend(algorithms: readonly HashName[]): TpmCommand<void> {
  const key = algorithms.join(' ');
  const known = blanks.get(key);
  if (known !== undefined) return known;
  const parameters = new ByteWriter('big').u32(algorithms.length);
  for (const algorithm of algorithms) parameters.u16(HASH_ALGORITHMS[algorithm].id).raw(new Uint8Array(HASH_ALGORITHMS[algorithm].sizeBytes));
  const blank = tpmCommand('PCR_Extend', { handles: [0], authorizations: [NO_PASSWORD], parameters: parameters.bytes }, nothing);
  const command = { ...blank, decode: oncePerAnswer(blank.decode) };
  blanks.set(key, command);
  return command;
}

/** What was a good answer once is one again: there are no values in it, and reading it costs as much as encoding. */
function oncePerAnswer(decode: (response: Uint8Array) => void): (response: Uint8Array) => void {
  let good: string | undefined;
  return (response) => {
    const answer = toHex(response);
    if (answer === good) return;
    decode(response);
    good = answer;
  };
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
