/**
 * What a pod's log tells, in parts, with everything that does not belong. Only the order of events within one PCR is proven by
 * a quote, so each PCR is read for itself.
 */
import { canonicalJson, isJsonObject, type Json } from '../tpm/canonical-json.ts';
import { EV_NO_ACTION } from '../tpm/event-types.ts';
import { agentPolicy, manifestDigest } from '../tpm/measured-manifest.ts';
import { PHASES, stageOf, type Measurement, type MeasurementKind, type Phase } from '../tpm/measurements.ts';
import { HOST_PCRS, PCR, QUOTED_PCRS } from '../tpm/pcr-table.ts';
import { describeEntry, type PodLog, type PodLogEntry } from '../tpm/pod-log.ts';

/** Something that is wrong with a log, at an event or as a whole. */
export interface Problem {
  /** Index of the event; null: of the log as a whole. */
  event: number | null;
  text: string;
}

export interface PodStory {
  /** By host and agent up to the end of the launch, in the order of the log. */
  launch: readonly PlacedMeasurement[];
  mutations: readonly PlacedMeasurement[];
  /** The last one; null: the agent has not begun. */
  phase: Phase | null;
  problems: readonly Problem[];
}

export interface PlacedMeasurement {
  index: number;
  measurement: Measurement;
}

/** What comes next in a PCR; `many`: any number of times, also never. */
interface Step {
  kind: MeasurementKind;
  many: boolean;
}

function steps(...kinds: readonly (MeasurementKind | Step)[]): Step[] {
  return kinds.map((kind) => (typeof kind === 'string' ? { kind, many: false } : kind));
}

const HOST_ORDER: Readonly<Record<number, readonly Step[]>> = {
  [PCR.vmm]: steps('vmm', { kind: 'firmware', many: true }, 'vmm-configuration'),
  [PCR.kernel]: steps('kernel'),
  [PCR.policy]: steps('policy'),
  [PCR.initramfs]: steps('initramfs'),
  [PCR.commandLine]: steps('command-line'),
  [PCR.rkt]: steps('pod'),
};
const LAUNCH_ORDER = steps('agent-policy', 'pod-manifest', { kind: 'app', many: true }, 'launch');

export function readStory({ entries }: PodLog): PodStory {
  const problems: Problem[] = [];
  for (const entry of entries) checkEntry(entry, problems);
  const launch: PlacedMeasurement[] = [];
  const mutations: PlacedMeasurement[] = [];
  for (const { index, meaning } of entries) {
    if (meaning.kind !== 'measurement') continue;
    const stage = stageOf(meaning.measurement.kind);
    if (stage === 'host' || stage === 'launch') launch.push({ index, measurement: meaning.measurement });
    if (stage === 'mutation') mutations.push({ index, measurement: meaning.measurement });
  }
  for (const pcr of HOST_PCRS) checkHostPcr(pcr, ofPcr(entries, pcr), problems);
  checkPodPcr(ofPcr(entries, PCR.pod), problems);
  const phase = checkPhases(ofPcr(entries, PCR.phases), problems);
  checkAgreement(launch, problems);
  return { launch, mutations, phase, problems: problems.sort((a, b) => placeIn(a) - placeIn(b)) };
}

/** What is about the log as a whole comes last. */
function placeIn({ event }: Problem): number {
  return event ?? Number.MAX_SAFE_INTEGER;
}

function ofPcr(entries: readonly PodLogEntry[], pcr: number): PodLogEntry[] {
  return entries.filter(({ event }) => event.pcr === pcr && event.type !== EV_NO_ACTION);
}

/** What must hold for every event, wherever it is. That it is a known one is seen from its place in its PCR. */
function checkEntry({ index, event, uncoveredBanks }: PodLogEntry, problems: Problem[]): void {
  // Other PCRs are the guest's own, and no quote covers them.
  if (!QUOTED_PCRS.includes(event.pcr)) return;
  if (event.type === EV_NO_ACTION) problems.push({ event: index, text: 'is in the log only: no PCR covers what it says' });
  else if (uncoveredBanks.length > 0) problems.push({ event: index, text: `says what was not measured: its digest in ${uncoveredBanks.join(', ')} is not that of its text` });
}

function checkHostPcr(pcr: number, entries: readonly PodLogEntry[], problems: Problem[]): void {
  const end = entries.findIndex(({ meaning }) => meaning.kind === 'separator');
  if (end < 0) problems.push({ event: null, text: `PCR ${pcr} has no separator: what the host measured is not told from what the guest may have added` });
  for (const { index } of end < 0 ? [] : entries.slice(end + 1)) problems.push({ event: index, text: `comes into PCR ${pcr} after the host had closed it` });
  checkOrder(entries.slice(0, end < 0 ? undefined : end), { order: HOST_ORDER[pcr] ?? [], pcr, problems });
}

/** Up to `launch` nothing but the launch, behind it nothing but known changes. */
function checkPodPcr(entries: readonly PodLogEntry[], problems: Problem[]): void {
  const launch = entries.findIndex((entry) => kindOf(entry) === 'launch');
  const end = launch < 0 ? entries.length : launch + 1;
  checkOrder(entries.slice(0, end), { order: LAUNCH_ORDER, pcr: PCR.pod, problems });
  for (const entry of entries.slice(end)) {
    const kind = kindOf(entry);
    if (kind === null || stageOf(kind) !== 'mutation') problems.push({ event: entry.index, text: `comes after the launch, where only known changes of a pod may: ${describeEntry(entry)}` });
  }
}

function checkPhases(entries: readonly PodLogEntry[], problems: Problem[]): Phase | null {
  let reached: Phase | null = null;
  for (const { index, meaning } of entries) {
    const next: Phase | undefined = PHASES[reached === null ? 0 : PHASES.indexOf(reached) + 1];
    const phase: Phase | null = meaning.kind === 'measurement' && meaning.measurement.kind === 'phase' ? meaning.measurement.phase : null;
    // A pod that fails or is stopped early ends without ever having been ready.
    if (phase !== null && (phase === next || (phase === 'exit' && reached === 'enter'))) reached = phase;
    else problems.push({ event: index, text: `is not the phase "${next ?? 'none'}" that comes next in PCR ${PCR.phases}` });
  }
  return reached;
}

function kindOf({ meaning }: PodLogEntry): MeasurementKind | null {
  return meaning.kind === 'measurement' ? meaning.measurement.kind : null;
}

function checkOrder(entries: readonly PodLogEntry[], expected: { order: readonly Step[]; pcr: number; problems: Problem[] }): void {
  const { order, pcr, problems } = expected;
  let next = 0;
  for (const entry of entries) {
    const place = placeOf(kindOf(entry), order, next);
    if (place === null) problems.push({ event: entry.index, text: `does not belong at this place of PCR ${pcr}: ${describeEntry(entry)}` });
    else next = order[place]!.many ? place : place + 1;
  }
  for (const { kind, many } of order.slice(next)) if (!many) problems.push({ event: null, text: `PCR ${pcr} has no measurement of kind "${kind}" where one belongs` });
}

/** Only steps that need not come can be passed over. */
function placeOf(kind: MeasurementKind | null, order: readonly Step[], from: number): number | null {
  for (let place = from; place < order.length; place++) {
    if (order[place]!.kind === kind) return place;
    if (!order[place]!.many) return null;
  }
  return null;
}

/** The host's word and the agent's must be of the same pod: policy, manifest, apps and their parts. */
function checkAgreement(launch: readonly PlacedMeasurement[], problems: Problem[]): void {
  checkPolicies(launch, problems);
  const manifest = launch.find(({ measurement }) => measurement.kind === 'pod-manifest')?.measurement;
  if (manifest?.kind !== 'pod-manifest') return;
  const digest = manifestDigest(manifest.manifest);
  const apps = Array.isArray(manifest.manifest['apps']) ? (manifest.manifest['apps'] as readonly Json[]) : [];
  let app = 0;
  for (const { index, measurement } of launch) {
    if (measurement.kind === 'pod' && measurement.manifestSha256 !== digest) problems.push({ event: index, text: 'the manifest that the host measured is not the one that the guest measured' });
    if (measurement.kind === 'app' && !isAppOf(measurement, apps[app++])) problems.push({ event: index, text: 'this app is not the one at its place in the pod manifest' });
  }
  const launched = launch.some(({ measurement }) => measurement.kind === 'launch' && measurement.error === null);
  if (launched && app < apps.length) problems.push({ event: null, text: `the pod manifest names ${apps.length} apps, ${app} were measured` });
}

function checkPolicies(launch: readonly PlacedMeasurement[], problems: Problem[]): void {
  const ofHost = launch.find(({ measurement }) => measurement.kind === 'policy')?.measurement;
  if (ofHost?.kind !== 'policy') return;
  for (const { index, measurement } of launch) {
    if (measurement.kind === 'agent-policy' && canonicalJson(measurement) !== canonicalJson(agentPolicy(ofHost))) problems.push({ event: index, text: 'what the host told the agent is not the policy that the host measured' });
  }
}

function isAppOf({ name, imageId, manifestSha256 }: Measurement & { kind: 'app' }, app: Json | undefined): boolean {
  if (!isJsonObject(app) || !isJsonObject(app['image'])) return false;
  return app['name'] === name && app['image']['id'] === imageId && manifestDigest(app) === manifestSha256;
}
