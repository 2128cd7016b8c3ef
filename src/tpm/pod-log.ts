/** A pod's event log with the meaning of each event: what `rkt attest log` prints and the verifier reads. */
import { RktError } from '../error.ts';
import { equalBytes, toHex } from './bytes.ts';
import { parseEventLog, type EventLog, type LogEvent } from './event-log.ts';
import { eventTypeName } from './event-types.ts';
import { digestsOf, POD_BANKS, type BankHashes } from './hash-algorithms.ts';
import { explain, isSeparator, measurementOf, type Measurement } from './measurements.ts';

export type EventMeaning =
  | { kind: 'measurement'; measurement: Measurement }
  | { kind: 'separator' }
  /** Not one of ours, or not as we write it. */
  | { kind: 'foreign'; reason: string };

export interface PodLogEntry {
  /** Position in the log, from 0. */
  index: number;
  event: LogEvent;
  meaning: EventMeaning;
  /** Banks whose digest is not the hash of the event's data: what the event says is not what was measured. */
  uncoveredBanks: readonly string[];
}

export interface PodLog {
  log: EventLog;
  entries: readonly PodLogEntry[];
}

/** @throws RktError BAD_INPUT, LIMIT when the bytes are no log with the banks of a pod */
export function parsePodLog(bytes: Uint8Array, hashes?: BankHashes): PodLog {
  const log = parseEventLog(bytes);
  for (const bank of POD_BANKS) if (!log.algorithms.includes(bank)) throw new RktError('BAD_INPUT', `event log: no digests for the ${bank} bank`);
  return { log, entries: log.events.map((event, index) => ({ index, event, meaning: meaningOf(event), uncoveredBanks: uncoveredBanks(event, hashes) })) };
}

function meaningOf(event: LogEvent): EventMeaning {
  if (isSeparator(event)) return { kind: 'separator' };
  try {
    return { kind: 'measurement', measurement: measurementOf(event) };
  } catch (error) {
    if (error instanceof RktError) return { kind: 'foreign', reason: error.message };
    throw error;
  }
}

function uncoveredBanks(event: LogEvent, hashes?: BankHashes): string[] {
  const expected = digestsOf(event.data, hashes);
  return event.digests
    .filter(({ algorithm, digest }) => !expected.some((computed) => computed.algorithm === algorithm && equalBytes(computed.digest, digest)))
    .map(({ algorithm }) => algorithm);
}

/** The event in words, on one line. */
export function describeEntry({ event, meaning, uncoveredBanks }: PodLogEntry): string {
  const warning = uncoveredBanks.length === 0 ? '' : ` (NOT MEASURED: the digest in ${uncoveredBanks.join(', ')} is not that of this text)`;
  switch (meaning.kind) {
    case 'measurement': return `${explain(meaning.measurement)}${warning}`;
    case 'separator': return `end of what the host measures${warning}`;
    case 'foreign': return `${eventTypeName(event.type)}, ${event.data.length} bytes: ${meaning.reason}${warning}`;
  }
}

/** A table for people: number, PCR, first digits of the SHA-256 digest, meaning. */
export function podLogText({ entries }: PodLog): string {
  return entries.map((entry) => {
    const digest = toHex(entry.event.digests.find(({ algorithm }) => algorithm === 'sha256')?.digest ?? new Uint8Array(0));
    return `${String(entry.index + 1).padStart(3)}  PCR ${String(entry.event.pcr).padStart(2)}  ${digest.slice(0, 16)}  ${describeEntry(entry)}\n`;
  }).join('');
}
