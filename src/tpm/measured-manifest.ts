/**
 * The form in which a pod manifest is measured: as it is, but with a digest in the place of each environment variable's value.
 * Logs and evidence are made to be shown to others; environments hold passwords.
 *
 * The digest has no salt: predicted and real measurement must agree, and a salt would have to be known to whoever predicts.
 * So a value that can be guessed can be confirmed with the log. Secrets belong behind attestation, not into the environment.
 */
import { RktError } from '../error.ts';
import { toHex } from './bytes.ts';
import { canonicalJson, isJsonObject, type Json, type JsonObject } from './canonical-json.ts';
import { sha256 as portableSha256, type Hash } from '../hash/sha2.ts';
import type { Measurement } from './measurements.ts';

/**
 * @param manifest the pod manifest as parsed from the bytes the guest acts on
 * @throws RktError BAD_INPUT
 */
export function measuredPodManifest(manifest: JsonObject, sha256: Hash = portableSha256): JsonObject {
  const { apps } = manifest;
  if (!Array.isArray(apps)) throw new RktError('BAD_INPUT', 'pod manifest: apps: expected a list');
  return { ...manifest, apps: apps.map((app: Json, index) => measuredApp(objectAt(app, `apps[${index}]`), sha256)) };
}

/** The same for one app of a pod manifest (RuntimeApp). */
export function measuredApp(runtimeApp: JsonObject, sha256: Hash = portableSha256): JsonObject {
  const { app } = runtimeApp;
  if (!isJsonObject(app) || app['environment'] === undefined || app['environment'] === null) return runtimeApp;
  const { environment } = app;
  if (!Array.isArray(environment)) throw new RktError('BAD_INPUT', 'pod manifest: app.environment: expected a list');
  return { ...runtimeApp, app: { ...app, environment: environment.map((variable: Json) => measuredVariable(variable, sha256)) } };
}

/** Name and value together, so that no two variables can trade values. */
function measuredVariable(variable: Json, sha256: Hash): JsonObject {
  const { name, value, ...rest } = objectAt(variable, 'app.environment[]');
  if (typeof name !== 'string' || typeof value !== 'string' || Object.keys(rest).length > 0) throw new RktError('BAD_INPUT', 'pod manifest: app.environment[]: expected a name and a value');
  return { name, sha256: toHex(sha256(new TextEncoder().encode(`${name}=${value}`))) };
}

function objectAt(value: Json, place: string): JsonObject {
  if (!isJsonObject(value)) throw new RktError('BAD_INPUT', `pod manifest: ${place}: expected an object`);
  return value;
}

export interface PodDisk {
  app: string;
  imageId: string;
  /** Of the disk the guest opens; lower-case hexadecimal. */
  rootHash: string;
}

/** Digest of a part of a manifest in its measured form. */
export function manifestDigest(measured: JsonObject, sha256: Hash = portableSha256): string {
  return toHex(sha256(new TextEncoder().encode(canonicalJson(measured))));
}

/** Insecure options that the agent carries out; the others are over when a pod starts. */
const GUEST_PROTECTIONS: readonly string[] = ['capabilities', 'paths', 'seccomp'];

export interface AgentPolicy {
  sealed: boolean;
  /** All that are in force, or those of the guest. */
  insecureOptions: readonly string[];
}

export interface LaunchFacts {
  manifest: JsonObject;
  /** In manifest order. */
  disks: readonly PodDisk[];
  policy: AgentPolicy;
}

export function agentPolicy({ sealed, insecureOptions }: AgentPolicy): Measurement & { kind: 'agent-policy' } {
  return { kind: 'agent-policy', sealed, insecureOptions: GUEST_PROTECTIONS.filter((name) => insecureOptions.includes(name)) };
}

/**
 * What the agent measures before it acts on what the host told it: its orders, the manifest, then each app with its disk, in
 * manifest order. `launch` follows when the apps have been set up.
 * @throws RktError BAD_INPUT when disks and apps do not belong together
 */
export function launchMeasurements({ manifest, disks, policy }: LaunchFacts, sha256: Hash = portableSha256): Measurement[] {
  const measured = measuredPodManifest(manifest, sha256);
  const apps = measured['apps'] as readonly JsonObject[];
  if (apps.length !== disks.length) throw new RktError('BAD_INPUT', `pod manifest names ${apps.length} apps, there are ${disks.length} disks`);
  return [
    agentPolicy(policy),
    { kind: 'pod-manifest', manifest: measured },
    ...apps.map((app, index): Measurement => {
      const disk = disks[index]!;
      if (app['name'] !== disk.app) throw new RktError('BAD_INPUT', `pod manifest: apps[${index}].name: the disk at this place is that of app ${JSON.stringify(disk.app)}`);
      return { kind: 'app', name: disk.app, imageId: disk.imageId, rootHash: disk.rootHash, manifestSha256: manifestDigest(app, sha256) };
    }),
  ];
}
