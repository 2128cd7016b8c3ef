/** What a log says the PCRs must hold. */
import { RktError } from '../error.ts';
import { concatBytes, equalBytes } from './bytes.ts';
import { PCR_COUNT } from './constants.ts';
import { bankOf, type PcrBanks } from './commands/pcr.ts';
import { digestIn, type EventLog, type LogEvent } from './event-log.ts';
import { EV_NO_ACTION } from './event-types.ts';
import { HASH_ALGORITHMS, POD_BANKS, PORTABLE_HASHES, type BankHashes, type PodBank } from './hash-algorithms.ts';

const STARTUP_LOCALITY = new TextEncoder().encode('StartupLocality\0');
/** PCRs of dynamic launches begin with ones; the others with zeros. */
const FIRST_DYNAMIC_PCR = 17;
const LAST_DYNAMIC_PCR = 22;

export function initialPcr(bank: PodBank, pcr: number): Uint8Array {
  return new Uint8Array(HASH_ALGORITHMS[bank].sizeBytes).fill(pcr >= FIRST_DYNAMIC_PCR && pcr <= LAST_DYNAMIC_PCR ? 0xff : 0);
}

/** A PCR's value after a digest is extended into it. */
export function extended(bank: PodBank, before: Uint8Array, digest: Uint8Array, hashes: BankHashes = PORTABLE_HASHES): Uint8Array {
  return hashes[bank](concatBytes(before, digest));
}

/**
 * All PCRs of the pod's banks, those without an event too.
 * @throws RktError BAD_INPUT when the log has no digests for one of the banks
 */
export function replay(log: EventLog, hashes: BankHashes = PORTABLE_HASHES): PcrBanks {
  const banks: PcrBanks = new Map();
  for (const bank of POD_BANKS) {
    const values = bankOf(banks, bank);
    for (let pcr = 0; pcr < PCR_COUNT; pcr++) values.set(pcr, initialPcr(bank, pcr));
    for (const event of log.events) replayEvent(values, event, { bank, hashes });
  }
  return banks;
}

function replayEvent(values: Map<number, Uint8Array>, event: LogEvent, { bank, hashes }: { bank: PodBank; hashes: BankHashes }): void {
  const before = values.get(event.pcr) ?? initialPcr(bank, event.pcr);
  if (event.type === EV_NO_ACTION) {
    const locality = startupLocality(event);
    if (locality !== null) values.set(0, before.map((byte, i) => (i === before.length - 1 ? locality : byte)));
    return;
  }
  const digest = digestIn(event, bank);
  if (digest === undefined) throw new RktError('BAD_INPUT', `event log: no digests for the ${bank} bank`);
  values.set(event.pcr, extended(bank, before, digest, hashes));
}

/** The locality from which a TPM was started is PCR 0's first value; the log tells it where it is not 0. */
function startupLocality({ pcr, data }: LogEvent): number | null {
  if (pcr !== 0 || data.length !== STARTUP_LOCALITY.length + 1) return null;
  return equalBytes(data.subarray(0, STARTUP_LOCALITY.length), STARTUP_LOCALITY) ? data[STARTUP_LOCALITY.length]! : null;
}
