/**
 * Event logs in TCG's crypto-agile format (PC Client Platform Firmware Profile, 10.2 and 10.4): a first record in the SHA-1
 * layout that lists the algorithms, then TCG_PCR_EVENT2 records. The rule of what is written here: each digest is the hash of
 * the whole event data, so anybody can recompute it without knowing what the event means.
 */
import { RktError } from '../error.ts';
import { ByteReader, ByteWriter, equalBytes } from './bytes.ts';
import { PCR_COUNT } from './constants.ts';
import { EV_EVENT_TAG, EV_NO_ACTION } from './event-types.ts';
import { HASH_ALGORITHMS, hashNameOf, POD_BANKS, type HashName, type TaggedDigest } from './hash-algorithms.ts';

export interface LogEvent {
  pcr: number;
  type: number;
  digests: readonly TaggedDigest[];
  data: Uint8Array;
}

export interface EventLog {
  /** In the order of the header. */
  algorithms: readonly HashName[];
  /** Without the header. */
  events: readonly LogEvent[];
}

/** Larger than any sensible manifest, small enough to be held in memory several times. */
export const EVENT_DATA_LIMIT_BYTES = 4 << 20;
export const EVENT_LOG_LIMIT_BYTES = 32 << 20;
const MAX_EVENTS = 65_536;
const MAX_ALGORITHMS = 8;

const SIGNATURE = new TextEncoder().encode('Spec ID Event03\0');
const SHA1_BYTES = 20;
const SPEC_VERSION = { minor: 0, major: 2, errata: 106 };
/** In the unit of the format: 1 is 32 bits, 2 is 64. */
const UINTN_64_BIT = 2;

/** The first record of every log of a pod. */
export function encodeLogHeader(algorithms: readonly HashName[] = POD_BANKS): Uint8Array<ArrayBuffer> {
  const PLATFORM_CLASS_CLIENT = 0;
  const specId = new ByteWriter('little').raw(SIGNATURE).u32(PLATFORM_CLASS_CLIENT).u8(SPEC_VERSION.minor).u8(SPEC_VERSION.major).u8(SPEC_VERSION.errata).u8(UINTN_64_BIT).u32(algorithms.length);
  for (const name of algorithms) specId.u16(HASH_ALGORITHMS[name].id).u16(HASH_ALGORITHMS[name].sizeBytes);
  const NO_VENDOR_INFO = 0;
  specId.u8(NO_VENDOR_INFO);
  return new ByteWriter('little').u32(0).u32(EV_NO_ACTION).raw(new Uint8Array(SHA1_BYTES)).sized32(specId.bytes).bytes;
}

/** One record. Without ByteWriter, which costs a guest under emulation several times as much: a record is made before each `enter`. @throws RktError LIMIT */
export function encodeLogEvent({ pcr, type, digests, data }: LogEvent): Uint8Array<ArrayBuffer> {
  if (data.length > EVENT_DATA_LIMIT_BYTES) throw new RktError('LIMIT', `an event of ${data.length} bytes does not fit the event log, at most ${EVENT_DATA_LIMIT_BYTES} do`);
  let sizeBytes = 12 + 4 + data.length;
  for (const { digest } of digests) sizeBytes += 2 + digest.length;
  const record = new Uint8Array(sizeBytes);
  const view = new DataView(record.buffer);
  view.setUint32(0, pcr, true);
  view.setUint32(4, type, true);
  view.setUint32(8, digests.length, true);
  let at = 12;
  for (const { algorithm, digest } of digests) {
    view.setUint16(at, HASH_ALGORITHMS[algorithm].id, true);
    record.set(digest, at + 2);
    at += 2 + digest.length;
  }
  view.setUint32(at, data.length, true);
  record.set(data, at + 4);
  return record;
}

/**
 * Reads a log of any maker. A log that ends inside a record is refused, one that lists an algorithm of unknown size too:
 * nothing behind such a digest could be read.
 * @throws RktError BAD_INPUT, LIMIT
 */
export function parseEventLog(bytes: Uint8Array): EventLog {
  if (bytes.length > EVENT_LOG_LIMIT_BYTES) throw new RktError('LIMIT', `event log of ${bytes.length} bytes, at most ${EVENT_LOG_LIMIT_BYTES} are read`);
  const reader = new ByteReader(bytes, 'little', 'event log');
  const algorithms = readHeader(reader);
  const events: LogEvent[] = [];
  while (reader.leftBytes > 0) {
    if (events.length === MAX_EVENTS) throw new RktError('LIMIT', `event log: more than ${MAX_EVENTS} events`);
    events.push(readEvent(reader, algorithms));
  }
  return { algorithms, events };
}

function readHeader(reader: ByteReader): HashName[] {
  const pcr = reader.u32();
  const type = reader.u32();
  const digest = reader.take(SHA1_BYTES);
  if (pcr !== 0 || type !== EV_NO_ACTION || digest.some((byte) => byte !== 0)) reader.fail('does not begin with a Spec ID event');
  const specId = new ByteReader(takeData(reader), 'little', 'Spec ID event of the event log');
  if (!equalBytes(specId.take(SIGNATURE.length), SIGNATURE)) specId.fail('signature is not "Spec ID Event03"');
  specId.u32();
  const minor = specId.u8();
  const major = specId.u8();
  if (major !== SPEC_VERSION.major || minor !== SPEC_VERSION.minor) specId.fail(`version ${major}.${minor}, expected ${SPEC_VERSION.major}.${SPEC_VERSION.minor}`);
  specId.u8();
  specId.u8();
  const algorithms: HashName[] = [];
  for (let left = specId.count(MAX_ALGORITHMS, 'hash algorithms'); left > 0; left--) {
    const id = specId.u16();
    const sizeBytes = specId.u16();
    const name = hashNameOf(id) ?? specId.fail(`unknown hash algorithm 0x${id.toString(16)}`);
    if (sizeBytes !== HASH_ALGORITHMS[name].sizeBytes) specId.fail(`digests of ${name} with ${sizeBytes} bytes`);
    if (algorithms.includes(name)) specId.fail(`${name} is listed twice`);
    algorithms.push(name);
  }
  if (algorithms.length === 0) specId.fail('no hash algorithm');
  specId.take(specId.u8());
  specId.expectEnd();
  return algorithms;
}

function readEvent(reader: ByteReader, algorithms: readonly HashName[]): LogEvent {
  const pcr = reader.u32();
  if (pcr >= PCR_COUNT) reader.fail(`PCR ${pcr} does not exist`);
  const type = reader.u32();
  const count = reader.u32();
  if (count !== algorithms.length) reader.fail(`event with ${count} digests, the log's header lists ${algorithms.length} algorithms`);
  const digests: TaggedDigest[] = [];
  for (let i = 0; i < count; i++) {
    const id = reader.u16();
    const algorithm = hashNameOf(id);
    if (algorithm === undefined || !algorithms.includes(algorithm)) reader.fail(`digest of algorithm 0x${id.toString(16)}, which the log's header does not list`);
    if (digests.some((digest) => digest.algorithm === algorithm)) reader.fail(`two digests of ${algorithm} in one event`);
    digests.push({ algorithm, digest: reader.take(HASH_ALGORITHMS[algorithm].sizeBytes) });
  }
  return { pcr, type, digests, data: takeData(reader) };
}

function takeData(reader: ByteReader): Uint8Array {
  return reader.take(reader.count(EVENT_DATA_LIMIT_BYTES, 'bytes of event data'));
}

export interface TaggedEvent {
  tag: number;
  content: Uint8Array;
}

/** TCG_PCClientTaggedEvent: the data of EV_EVENT_TAG. */
export function encodeTaggedEvent({ tag, content }: TaggedEvent): Uint8Array<ArrayBuffer> {
  const data = new Uint8Array(8 + content.length);
  const view = new DataView(data.buffer);
  view.setUint32(0, tag, true);
  view.setUint32(4, content.length, true);
  data.set(content, 8);
  return data;
}

/** Null: the event is of another type, or its data has not this form. */
export function parseTaggedEvent({ type, data }: LogEvent): TaggedEvent | null {
  if (type !== EV_EVENT_TAG || data.length < 8) return null;
  const reader = new ByteReader(data, 'little', 'tagged event');
  const tag = reader.u32();
  return reader.u32() === reader.leftBytes ? { tag, content: reader.take(reader.leftBytes) } : null;
}

export function digestIn(event: LogEvent, algorithm: HashName): Uint8Array | undefined {
  return event.digests.find((digest) => digest.algorithm === algorithm)?.digest;
}
