/** What a verifier demands of a pod beyond being the one that was predicted. Every field that is absent allows what the reference allows. */
import { explain, stageOf, PHASES, type MeasurementKind, type Phase } from '../tpm/measurements.ts';
import { jsonDocument } from './json-fields.ts';
import type { PodStory, Problem } from './pod-story.ts';

export interface Policy {
  /** The pod must be sealed. */
  requireSealed: boolean;
  /** Insecure options that may be in force; null: those of the reference. */
  insecureOptions: readonly string[] | null;
  /** Image IDs that apps may have, also apps added later; null: any. */
  images: readonly string[] | null;
  /** Verity root hashes that disks may have. */
  rootHashes: readonly string[] | null;
  accelerators: readonly string[] | null;
  pods: readonly string[] | null;
  /** Changes after the launch that are accepted. */
  mutations: readonly MeasurementKind[];
  /** The phase the pod may be in. */
  phases: readonly Phase[];
}

/** A pod as it was launched: nobody has changed it since, or looked into it. */
export const DEFAULT_POLICY: Policy = {
  requireSealed: false, insecureOptions: null, images: null, rootHashes: null, accelerators: null, pods: null, mutations: [], phases: PHASES,
};

const FORMAT = 'rkt-policy';
const VERSION = 1;
const FIELDS = ['format', 'formatVersion', 'requireSealed', 'insecureOptions', 'images', 'rootHashes', 'accelerators', 'pods', 'mutations', 'phases'];
const MUTATIONS: readonly MeasurementKind[] = ['enter', 'attach', 'copy', 'app-add', 'app-start', 'app-stop', 'app-remove', 'volume-add'];

/**
 * @param document its text, or what JSON.parse made of it
 * @throws RktError BAD_INPUT, also for fields it does not know: a demand must not be overlooked
 */
export function parsePolicy(document: unknown, name = 'policy'): Policy {
  const fields = jsonDocument(document, name);
  fields.expectFormat(FORMAT, VERSION);
  fields.allowOnly(FIELDS);
  const listOf = <T extends string>(field: string, values: readonly T[]): T[] =>
    fields.texts(field).map((text) => values.find((value) => value === text) ?? fields.fail(field, `${JSON.stringify(text)} is none of ${values.join(', ')}`));
  const texts = (field: string): string[] | null => (fields.has(field) ? fields.texts(field) : null);
  return {
    requireSealed: fields.has('requireSealed') && fields.boolean('requireSealed'),
    insecureOptions: texts('insecureOptions'),
    images: texts('images'),
    rootHashes: texts('rootHashes'),
    accelerators: texts('accelerators'),
    pods: texts('pods'),
    mutations: fields.has('mutations') ? listOf('mutations', MUTATIONS) : DEFAULT_POLICY.mutations,
    phases: fields.has('phases') ? listOf('phases', PHASES) : DEFAULT_POLICY.phases,
  };
}

/** Each demand that the pod does not meet. */
export function applyPolicy(policy: Policy, story: PodStory, uuid: string): Problem[] {
  const problems: Problem[] = [];
  const demand = (allowed: readonly string[] | null, value: string, at: { index: number | null; what: string }): void => {
    if (allowed !== null && !allowed.includes(value)) problems.push({ event: at.index, text: `${at.what} ${JSON.stringify(value)} is not among those the policy allows` });
  };
  demand(policy.pods, uuid, { index: null, what: 'pod' });
  demand(policy.phases, story.phase ?? 'none', { index: null, what: 'phase' });
  for (const { index, measurement } of [...story.launch, ...story.mutations]) {
    if (measurement.kind === 'policy') {
      if (policy.requireSealed && !measurement.sealed) problems.push({ event: index, text: 'the pod is not sealed, and the policy requires that' });
      for (const option of measurement.insecureOptions) demand(policy.insecureOptions, option, { index, what: 'insecure option' });
    }
    if (measurement.kind === 'vmm-configuration') {
      const { accelerator } = measurement.configuration;
      demand(policy.accelerators, typeof accelerator === 'string' ? accelerator : 'unknown', { index, what: 'accelerator' });
    }
    if (measurement.kind === 'app' || measurement.kind === 'app-add') {
      demand(policy.images, measurement.imageId, { index, what: 'image' });
      demand(policy.rootHashes, measurement.rootHash, { index, what: 'disk with root hash' });
    }
    if (stageOf(measurement.kind) === 'mutation' && !policy.mutations.includes(measurement.kind)) problems.push({ event: index, text: `the policy does not allow this change: ${explain(measurement)}` });
  }
  return problems;
}
