/**
 * A pod's log for tools that read JSON: TCG's Canonical Event Log (CEL 1.0, JSON encoding), and JSON-SEQ (RFC 7464) as systemd
 * writes its measurement log. Both carry the event data whole, so the digests can be recomputed from them.
 */
import { toHex } from './bytes.ts';
import { canonicalJson, type JsonObject } from './canonical-json.ts';
import type { EventLog, LogEvent } from './event-log.ts';
import { EV_NO_ACTION, eventTypeName } from './event-types.ts';

const RECORD_SEPARATOR = '\u001e';

/** One record an event; the header is not an event. */
export function celRecords(log: EventLog): JsonObject[] {
  return log.events.map((event, index) => ({ recnum: index, ...celContent(event) }));
}

function celContent({ pcr, type, digests, data }: LogEvent): JsonObject {
  return {
    pcr,
    digests: digests.map(({ algorithm, digest }) => ({ hashAlg: algorithm, digest: toHex(digest) })),
    content_type: 'pcclient_std',
    content: { event_type: eventTypeName(type), event_data: toHex(data) },
  };
}

/** An array of records. */
export function celJson(log: EventLog): string {
  return canonicalJson(celRecords(log));
}

/** Records without a number, each behind a record separator; only what was extended. */
export function jsonSequence(log: EventLog): string {
  return log.events.filter(({ type }) => type !== EV_NO_ACTION).map((event) => `${RECORD_SEPARATOR}${canonicalJson(celContent(event))}\n`).join('');
}
