/** The same observations on every engine; no platform modules. */
import { createSha256, eventOf, fromHex, guestMay, hostEvents, launchMeasurements, measurementOf, parseEventLog, pcrExtend, podLogText, parsePodLog, quoteBinding, replay, sha256, sha384, toHex, buildEvidence, type HostFacts, type JsonObject, type PodDisk } from '../../src/tpm/index.ts';

export interface Observed {
  values: Record<string, unknown>;
  /** Milliseconds. */
  times: Record<string, number>;
}

const HASHED_BYTES = 64 << 10;

/** @param input JSON of the sample pod and its log */
export function observeTpm(input: string, clockMs: () => number): Observed {
  const { host, disks, logHex } = JSON.parse(input) as { host: HostFacts; disks: PodDisk[]; logHex: string };
  const values: Record<string, unknown> = {};
  const times: Record<string, number> = {};
  const timed = (name: string, work: () => unknown): void => {
    const start = clockMs();
    values[name] = work();
    times[name] = clockMs() - start;
  };
  const data = new Uint8Array(HASHED_BYTES).map((_, i) => (i * 131) & 255);
  const log = fromHex(logHex, 'log');
  timed('sha256', () => toHex(sha256(data)));
  timed('sha384', () => toHex(sha384(data)));
  timed('pieces', () => toHex(createSha256().update(data.subarray(0, 77)).update(data.subarray(77)).digest()));
  timed('host', () => hostEvents(host).map(({ record }) => toHex(record)));
  timed('launch', () => launchMeasurements({ manifest: host.manifest, disks, policy: host }).map((measurement) => toHex(eventOf(measurement).record)));
  timed('replay', () => [...replay(parseEventLog(log))].map(([bank, pcrs]) => [bank, [...pcrs].map(([pcr, value]) => [pcr, toHex(value)])]));
  timed('text', () => podLogText(parsePodLog(log)));
  timed('binding', () => toHex(quoteBinding(data.subarray(0, 16), { uuid: 'u', dataHex: '00' })));
  timed('policy', () => [0, 13].map((pcr) => guestMay(pcrExtend(pcr, [{ algorithm: 'sha256', digest: data.subarray(0, 32) }]).bytes)));
  timed('refusals', () => [
    refusal(() => parseEventLog(log.subarray(0, -1))),
    refusal(() => measurementOf({ pcr: 0, type: 6, digests: [], data: log.subarray(0, 20) })),
    refusal(() => fromHex('0g', 'field')),
  ]);
  const empty = new Uint8Array(0);
  const parts = { attest: empty, signature: empty };
  timed('evidence', () => buildEvidence({ runtimeData: { uuid: 'ü', dataHex: '' }, quote: { ...parts, keyPublic: empty, keyName: empty }, endorsement: { ...parts, certificatesPem: '', endorsementKeyCertificatesPem: '' }, pcrs: replay(parseEventLog(log)), eventLog: log }) as JsonObject);
  return { values, times };
}

function refusal(work: () => unknown): string {
  try {
    work();
    return 'no error';
  } catch (error) {
    return String(error);
  }
}
