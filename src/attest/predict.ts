/** The PCRs of a pod before it runs: the same lists of measurements that host and guest make, replayed. */
import { toHex } from '../tpm/bytes.ts';
import { canonicalJson, type JsonObject } from '../tpm/canonical-json.ts';
import type { PcrBanks } from '../tpm/commands/pcr.ts';
import { POD_BANKS, type PodBank } from '../tpm/hash-algorithms.ts';
import { hostMeasurements, type HostFacts } from '../tpm/host-measurements.ts';
import { launchMeasurements, type PodDisk } from '../tpm/measured-manifest.ts';
import { eventOf, hostSeparators, type MeasuredEvent, type Measurement, type Phase } from '../tpm/measurements.ts';
import { PCR, QUOTED_PCRS } from '../tpm/pcr-table.ts';
import { replay } from '../tpm/pcr.ts';
import { toBase64 } from './certificate.ts';

export interface PredictionInput {
  host: HostFacts;
  /** In manifest order. */
  disks: readonly PodDisk[];
}

export interface Prediction {
  /** Of host and agent, up to the end of a launch that went well. */
  measurements: readonly Measurement[];
  /** The same with separators and phases, as a ready pod's log has them (only the order within a PCR is sure). */
  events: readonly MeasuredEvent[];
  /** Of a ready pod that nobody has changed. Without a UUID PCR 15 is left out: it cannot be known. */
  pcrs: PcrBanks;
  /** PCR 11 in the other phases. */
  phasePcrs: Readonly<Record<Phase, PcrBanks>>;
}

/** @throws RktError BAD_INPUT */
export function predict({ host, disks }: PredictionInput): Prediction {
  const ofHost = hostMeasurements(host);
  const ofLaunch: Measurement[] = [...launchMeasurements({ manifest: host.manifest, disks, policy: host }), { kind: 'launch', error: null }];
  const common = [...ofHost.map((measurement) => eventOf(measurement)), ...hostSeparators(), ...ofLaunch.map((measurement) => eventOf(measurement))];
  const events = [...common, ...phaseEvents('enter', 'ready')];
  const quoted = QUOTED_PCRS.filter((pcr) => pcr !== PCR.rkt || host.uuid !== null);
  return {
    measurements: [...ofHost, ...ofLaunch],
    events,
    pcrs: pcrsOf(events, quoted),
    phasePcrs: {
      enter: pcrsOf(phaseEvents('enter'), [PCR.phases]),
      ready: pcrsOf(phaseEvents('enter', 'ready'), [PCR.phases]),
      exit: pcrsOf(phaseEvents('enter', 'ready', 'exit'), [PCR.phases]),
    },
  };
}

function phaseEvents(...phases: readonly Phase[]): MeasuredEvent[] {
  return phases.map((phase) => eventOf({ kind: 'phase', phase }));
}

function pcrsOf(events: readonly MeasuredEvent[], pcrs: readonly number[]): PcrBanks {
  const banks = replay({ algorithms: POD_BANKS, events });
  return new Map(POD_BANKS.map((bank) => [bank, new Map(pcrs.map((pcr) => [pcr, banks.get(bank)!.get(pcr)!]))]));
}

/** `{"sha256": {"0": "…"}}` */
export function pcrsJson(banks: PcrBanks): JsonObject {
  return Object.fromEntries([...banks].map(([bank, values]) => [bank, Object.fromEntries([...values].map(([pcr, value]) => [String(pcr), toHex(value)]))]));
}

/** A `.pcrlock` component of systemd-pcrlock(8): records in the order in which they are extended. */
export function pcrlockJson({ events }: Prediction): string {
  const records = events.map(({ pcr, digests }): JsonObject => ({ pcr, digests: digests.map(({ algorithm, digest }) => ({ hashAlg: algorithm, digest: toHex(digest) })) }));
  return canonicalJson({ records });
}

/** Name of a PCR as Trustee's claims have it; those are of the SHA-256 bank. */
function rvpsName(bank: PodBank, pcr: number): string {
  const name = `pcr${String(pcr).padStart(2, '0')}`;
  return bank === 'sha256' ? name : `${name}_${bank}`;
}

/** A message for Trustee's reference value provider, in the form of its "sample" extractor. */
export function rvpsJson({ pcrs }: Prediction): string {
  const values: Record<string, string[]> = {};
  for (const bank of POD_BANKS) for (const [pcr, value] of pcrs.get(bank) ?? []) values[rvpsName(bank, pcr)] = [toHex(value)];
  return canonicalJson({ version: '0.1.0', type: 'sample', payload: toBase64(new TextEncoder().encode(canonicalJson(values))) });
}

