/**
 * Extending a PCR and appending to the log are two steps, and a crash may come between. So what is about to be done is
 * written down first; whoever starts again finds the note and completes what was begun, or refuses.
 * (The idea is that of the Confidential Containers attestation agent.)
 */
import { RktError } from '../error.ts';
import { ByteReader, ByteWriter, concatBytes, equalBytes, toHex } from './bytes.ts';
import { execute, type TpmTransport } from './command.ts';
import { pcrExtend, readPcrs, type PcrBanks } from './commands/pcr.ts';
import { digestIn, EVENT_DATA_LIMIT_BYTES, type LogEvent } from './event-log.ts';
import { digestsOf, HASH_ALGORITHMS, POD_BANKS, PORTABLE_HASHES, type BankHashes, type PodBank, type TaggedDigest } from './hash-algorithms.ts';
import { withRecord, type EventData, type MeasuredEvent } from './measurements.ts';
import { extended } from './pcr.ts';

/** Where log and note are kept. Writing must have reached the disk when it returns. */
export interface MeasurementFiles {
  /** Null: there is none. */
  readPending(): Uint8Array | null | Promise<Uint8Array | null>;
  writePending(bytes: Uint8Array): void | Promise<void>;
  removePending(): void | Promise<void>;
  readLog(): Uint8Array | Promise<Uint8Array>;
  logSizeBytes(): number | Promise<number>;
  appendLog(bytes: Uint8Array): void | Promise<void>;
  truncateLog(sizeBytes: number): void | Promise<void>;
}

/** The note: the state before the step, and the step. */
export interface PendingMeasurement {
  logSizeBytes: number;
  /** Values of the PCR, one a bank. */
  before: readonly TaggedDigest[];
  event: EventData;
}

const MAGIC = new TextEncoder().encode('rktWAL2\0');
const CHECKSUM_BYTES = HASH_ALGORITHMS.sha256.sizeBytes;

/** magic, u32 log size, per bank the value before, u32 PCR, u32 type, u32 size and data, SHA-256 of all that. */
export function encodePending({ logSizeBytes, before, event }: PendingMeasurement, { sha256 }: BankHashes = PORTABLE_HASHES): Uint8Array<ArrayBuffer> {
  const writer = new ByteWriter('little').raw(MAGIC).u32(logSizeBytes);
  for (const bank of POD_BANKS) writer.raw(valueOf(before, bank));
  const body = writer.u32(event.pcr).u32(event.type).sized32(event.data).bytes;
  return concatBytes(body, sha256(body));
}

/** Null: the note itself was cut short, so the step it announces was never begun. @throws RktError BAD_INPUT */
export function parsePending(bytes: Uint8Array): PendingMeasurement | null {
  if (bytes.length < CHECKSUM_BYTES) return null;
  const body = bytes.subarray(0, bytes.length - CHECKSUM_BYTES);
  if (!equalBytes(bytes.subarray(body.length), PORTABLE_HASHES.sha256(body))) return null;
  const reader = new ByteReader(body, 'little', 'note of a pending measurement');
  if (!equalBytes(reader.take(MAGIC.length), MAGIC)) reader.fail('unknown format');
  const logSizeBytes = reader.u32();
  const before = POD_BANKS.map((algorithm) => ({ algorithm, digest: reader.take(HASH_ALGORITHMS[algorithm].sizeBytes) }));
  const pcr = reader.u32();
  const type = reader.u32();
  const data = reader.take(reader.count(EVENT_DATA_LIMIT_BYTES, 'bytes of event data'));
  reader.expectEnd();
  return { logSizeBytes, before, event: { pcr, type, data } };
}

export interface Measurer {
  transport: TpmTransport;
  files: MeasurementFiles;
}

/**
 * Writes the note, extends all banks, appends to the log, removes the note. Any failure must end the pod. Before the guest
 * runs there is nothing that could be recovered: the host extends its events and writes the log once.
 */
export async function measure({ transport, files }: Measurer, event: MeasuredEvent): Promise<void> {
  if ((await files.readPending()) !== null) throw new RktError('STATE', 'an earlier measurement was not completed', { hint: 'the event log and the TPM of this pod may disagree' });
  const logSizeBytes = await files.logSizeBytes();
  const before = await readRegister(transport, event.pcr);
  await files.writePending(encodePending({ logSizeBytes, before, event }));
  await execute(transport, pcrExtend(event.pcr, event.digests));
  await files.appendLog(event.record);
  await files.removePending();
}

/** The PCR in each bank, as a note has it. */
export async function readRegister(transport: TpmTransport, pcr: number): Promise<TaggedDigest[]> {
  const values = await readPcrs(transport, POD_BANKS.map((bank) => ({ bank, pcrs: [pcr] })));
  return POD_BANKS.map((algorithm) => ({ algorithm, digest: values.get(algorithm)!.get(pcr)! }));
}

export type Recovery =
  /** Nothing was begun, or everything was done: only the note is left. */
  | { action: 'discard' }
  /** Not extended yet. */
  | { action: 'extend'; event: MeasuredEvent }
  /** Extended, but not or only in part in the log. */
  | { action: 'append'; event: MeasuredEvent };

/**
 * What a note means for a log and a TPM as they are found.
 * @throws RktError STATE when they are in none of the states that a crash between two steps can leave
 */
export function planRecovery(pending: PendingMeasurement, found: { log: Uint8Array; current: PcrBanks }): Recovery {
  const event = withRecord({ ...pending.event, digests: digestsOf(pending.event.data) });
  const written = found.log.subarray(pending.logSizeBytes);
  if (found.log.length < pending.logSizeBytes || !equalBytes(written, event.record.subarray(0, written.length))) refuseRecovery('the event log is not the one the step was begun with');
  const states = new Set(POD_BANKS.map((bank) => stateOf(bank, { pending, event, current: found.current })));
  if (states.size !== 1) refuseRecovery('the banks of the TPM disagree');
  if (states.has('before')) {
    if (written.length > 0) refuseRecovery('the event log holds an event that the TPM does not');
    return { action: 'extend', event };
  }
  return written.length === event.record.length ? { action: 'discard' } : { action: 'append', event };
}

interface BankState {
  pending: PendingMeasurement;
  event: LogEvent;
  current: PcrBanks;
}

function stateOf(bank: PodBank, { pending, event, current }: BankState): 'before' | 'after' {
  const value = current.get(bank)?.get(event.pcr);
  const before = valueOf(pending.before, bank);
  const digest = digestIn(event, bank);
  if (value === undefined || digest === undefined) return refuseRecovery(`bank ${bank} is missing`);
  if (equalBytes(value, before)) return 'before';
  if (equalBytes(value, extended(bank, before, digest))) return 'after';
  return refuseRecovery(`PCR ${event.pcr} of ${bank} is ${toHex(value)}, which is neither its value before the step nor after it`);
}

function valueOf(digests: readonly TaggedDigest[], bank: PodBank): Uint8Array {
  return digests.find(({ algorithm }) => algorithm === bank)?.digest ?? refuseRecovery(`bank ${bank} is missing`);
}

function refuseRecovery(reason: string): never {
  throw new RktError('STATE', `a measurement was interrupted and cannot be completed: ${reason}`);
}

/** Completes an interrupted measurement. @throws RktError STATE: the pod must not go on */
export async function recover(measurer: Measurer): Promise<Recovery['action'] | 'nothing'> {
  const { files } = measurer;
  const note = await files.readPending();
  if (note === null) return 'nothing';
  const pending = parsePending(note);
  const action = pending === null ? 'discard' : await completeStep(measurer, pending);
  await files.removePending();
  return action;
}

async function completeStep({ transport, files }: Measurer, pending: PendingMeasurement): Promise<Recovery['action']> {
  const { event, logSizeBytes } = pending;
  const found = await readRegister(transport, event.pcr);
  const current: PcrBanks = new Map(found.map(({ algorithm, digest }) => [algorithm, new Map([[event.pcr, digest]])]));
  const plan = planRecovery(pending, { log: await files.readLog(), current });
  if (plan.action === 'discard') return plan.action;
  if (plan.action === 'extend') await execute(transport, pcrExtend(event.pcr, plan.event.digests));
  else await files.truncateLog(logSizeBytes);
  await files.appendLog(plan.event.record);
  return plan.action;
}
