/** What the host measures before the guest's first instruction: the monitor does, a predictor computes. */
import type { JsonObject } from './canonical-json.ts';
import { manifestDigest, measuredPodManifest } from './measured-manifest.ts';
import { eventOf, hostSeparators, type MeasuredEvent, type Measurement } from './measurements.ts';
import type { BankHashes } from './hash-algorithms.ts';
import { sha256 as portableSha256, type Hash } from '../hash/sha2.ts';

export interface MeasuredFile {
  /** For people; no path. */
  name: string;
  /** Lower-case hexadecimal. */
  sha256: string;
}

export interface HostFacts {
  vmm: MeasuredFile;
  /** In the order the VMM was given them. */
  firmware: readonly MeasuredFile[];
  configuration: JsonObject;
  kernelSha256: string;
  initramfsSha256: string;
  commandLine: string;
  sealed: boolean;
  /** In any order; measured sorted. */
  insecureOptions: readonly string[];
  /** As parsed from the bytes that go to the guest. */
  manifest: JsonObject;
  /** Null: not known yet, then nothing is measured of it. Only a predictor may say so. */
  uuid: string | null;
}

/** In the order of the log. */
export function hostMeasurements(facts: HostFacts, sha256: Hash = portableSha256): Measurement[] {
  const { vmm, uuid } = facts;
  return [
    { kind: 'vmm', name: vmm.name, sha256: vmm.sha256 },
    ...facts.firmware.map((file): Measurement => ({ kind: 'firmware', name: file.name, sha256: file.sha256 })),
    { kind: 'vmm-configuration', configuration: facts.configuration },
    { kind: 'kernel', sha256: facts.kernelSha256 },
    { kind: 'policy', sealed: facts.sealed, insecureOptions: [...new Set(facts.insecureOptions)].sort() },
    { kind: 'initramfs', sha256: facts.initramfsSha256 },
    { kind: 'command-line', text: facts.commandLine },
    ...(uuid === null ? [] : [{ kind: 'pod', uuid, manifestSha256: manifestDigest(measuredPodManifest(facts.manifest, sha256), sha256) } as const]),
  ];
}

/** The same as events, with the separators that close the host's PCRs. */
export function hostEvents(facts: HostFacts, hashes?: BankHashes): MeasuredEvent[] {
  return [...hostMeasurements(facts, hashes?.sha256).map((measurement) => eventOf(measurement, hashes)), ...hostSeparators(hashes)];
}
