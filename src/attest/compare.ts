/** Where what was measured differs from what should have been, in words. */
import { canonicalJson, isJsonObject, type Json, type JsonObject } from '../tpm/canonical-json.ts';
import { manifestDigest } from '../tpm/measured-manifest.ts';
import { quoteText, type Measurement, type MeasurementKind } from '../tpm/measurements.ts';
import type { PlacedMeasurement, Problem } from './pod-story.ts';

/** Shown of one event; there may be many more. */
const MAX_SHOWN = 5;

/**
 * Measurements of one kind are compared in their order, so that one that is missing does not make all others look wrong.
 * @param uuid of the pod in question: a reference without one is for every pod
 */
export function compareLaunch(expected: readonly Measurement[], actual: readonly PlacedMeasurement[], uuid: string): Problem[] {
  const complete = withPod(expected, uuid);
  const kinds = [...new Set([...complete.map(({ kind }) => kind), ...actual.map(({ measurement }) => measurement.kind)])];
  const problems = kinds.flatMap((kind) => compareKind(kind, complete.filter((measurement) => measurement.kind === kind), actual.filter(({ measurement }) => measurement.kind === kind)));
  const causes = problems.filter(({ isConsequence }) => !isConsequence);
  return (causes.length > 0 ? causes : problems).map(({ event, text }) => ({ event, text }));
}

/** Fields that only repeat what another measurement says in full. */
const DERIVED_FIELDS: Readonly<Partial<Record<MeasurementKind, string>>> = { pod: 'manifestSha256', app: 'manifestSha256' };

interface Difference extends Problem {
  isConsequence: boolean;
}

/** What a host measures of a pod follows from the rest and the UUID. */
function withPod(expected: readonly Measurement[], uuid: string): Measurement[] {
  if (expected.some(({ kind }) => kind === 'pod')) return [...expected];
  const manifest = expected.find((measurement) => measurement.kind === 'pod-manifest');
  return manifest === undefined ? [...expected] : [...expected, { kind: 'pod', uuid, manifestSha256: manifestDigest(manifest.manifest) }];
}

function compareKind(kind: MeasurementKind, expected: readonly Measurement[], actual: readonly PlacedMeasurement[]): Difference[] {
  const problems: Difference[] = [];
  for (let i = 0; i < Math.max(expected.length, actual.length); i++) {
    const wanted = expected[i];
    const found = actual[i];
    const add = (text: string, isConsequence: boolean): number => problems.push({ event: found?.index ?? null, text: `${kind}: ${text}`, isConsequence });
    if (found === undefined) add(`the reference has ${expected.length}, the pod measured ${actual.length}`, false);
    else if (wanted === undefined) add('not in the reference', false);
    else for (const { path, text } of differences(asJson(wanted), asJson(found.measurement), '').slice(0, MAX_SHOWN)) add(text, path === DERIVED_FIELDS[kind]);
  }
  return problems;
}

function asJson(measurement: Measurement): JsonObject {
  const { kind: _kind, ...fields } = measurement;
  return fields as JsonObject;
}

interface FieldDifference {
  path: string;
  text: string;
}

function differences(expected: Json | undefined, actual: Json | undefined, path: string): FieldDifference[] {
  if (isJsonObject(expected) && isJsonObject(actual)) {
    const names = [...new Set([...Object.keys(expected), ...Object.keys(actual)])].sort();
    return names.flatMap((name) => differences(expected[name], actual[name], path === '' ? name : `${path}.${name}`));
  }
  if (Array.isArray(expected) && Array.isArray(actual)) {
    const length = Math.max(expected.length, actual.length);
    return Array.from({ length }, (_, i) => differences(expected[i] as Json, actual[i] as Json, `${path}[${i}]`)).flat();
  }
  if (expected !== undefined && actual !== undefined && canonicalJson(expected) === canonicalJson(actual)) return [];
  return [{ path, text: `${path} is ${shown(actual)}, expected ${shown(expected)}` }];
}

const LONG = 120;

function shown(value: Json | undefined): string {
  if (value === undefined) return 'absent';
  const text = typeof value === 'string' ? quoteText(value) : canonicalJson(value);
  return text.length > LONG ? `${text.slice(0, LONG)}…` : text;
}
