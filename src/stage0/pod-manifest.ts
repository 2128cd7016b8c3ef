/**
 * From images and what a person asked for to the manifest of a pod. Pure: the manifest names everything the guest
 * acts on, so nothing here looks at the machine.
 */
import { RktError } from '../error.ts';
import { isStreamAnnotation, streamModes } from '../wire/stream-modes.ts';
import { portMappings } from '../network/port-mappings.ts';
import { APPC_VERSION, checkValue, podManifest as podManifestCheck, PRIMARY_GROUP, sanitizeACName } from '../schema/index.ts';
import type { VerifiedBy } from '../schema/verified-by.ts';
import { appSettings } from '../wire/app-settings.ts';
import type { App, EnvironmentVariable, ExposedPort, ImageManifest, Isolator, Mount, MountPoint, NameValue, PodManifest, RuntimeApp, Volume } from '../schema/index.ts';
import { checkIsolators, isolatorWarnings } from './isolator-rules.ts';

/** One image of the command line with what was asked for it. */
export interface AppRequest {
  imageID: string;
  imageManifest: ImageManifest;
  /** Who vouched for the image. */
  verifiedBy: readonly VerifiedBy[];
  /** Replaces the image's whole `exec`. */
  exec?: string;
  /** Appended to `exec`. */
  args: readonly string[];
  name?: string;
  user?: string;
  group?: string;
  supplementaryGIDs?: readonly number[];
  workingDirectory?: string;
  readOnlyRootFS?: boolean;
  mounts: readonly Mount[];
  environment: readonly EnvironmentVariable[];
  annotations: readonly NameValue[];
  userAnnotations: readonly NameValue[];
  userLabels: readonly NameValue[];
  /** Each replaces the image's isolators of the same family. */
  isolators: readonly Isolator[];
}

export interface PodRequest {
  apps: readonly AppRequest[];
  volumes: readonly Volume[];
  /** Ports of apps, by their names, that this host makes reachable. */
  ports: readonly ExposedPort[];
  /** For all apps; an app's own mount on the same path wins. */
  mounts: readonly Mount[];
  /** Of the caller, lowest in precedence. */
  inheritedEnvironment: readonly EnvironmentVariable[];
  /** `--set-env-file`, then `--set-env`: a later one of the same name wins. */
  environment: readonly EnvironmentVariable[];
}

export interface BuiltManifest {
  manifest: PodManifest;
  warnings: string[];
}

/** Isolators that say the same thing in two ways: one flag replaces either. */
const FAMILIES: readonly (readonly Isolator['name'][])[] = [
  ['os/linux/capabilities-retain-set', 'os/linux/capabilities-remove-set'],
  ['os/linux/seccomp-retain-set', 'os/linux/seccomp-remove-set'],
];

/** Throws RktError USAGE, BAD_IMAGE, UNSUPPORTED in rkt's words where rkt has some. */
export function buildPodManifest(request: PodRequest): BuiltManifest {
  const warnings: string[] = [];
  const volumes: Volume[] = [...request.volumes];
  const apps = request.apps.map((app) => runtimeApp(app, request));
  rejectSharedNames(apps);
  for (const app of apps) connectMountPoints(app, volumes, warnings);
  const manifest: PodManifest = { acVersion: APPC_VERSION, acKind: 'PodManifest', apps };
  if (volumes.length > 0) manifest.volumes = volumes;
  if (request.ports.length > 0) manifest.ports = [...request.ports];
  warnings.push(...isolatorWarnings(manifest));
  return { manifest: finishPodManifest(manifest, 'the pod of this command line'), warnings };
}

/** Checks a manifest, whoever made it, and refuses what pods cannot have yet. */
export function finishPodManifest(manifest: PodManifest, origin: string): PodManifest {
  if (manifest.apps.length === 0) throw new RktError('BAD_INPUT', 'pod must contain at least one application');
  for (const app of manifest.apps) {
    checkSettings(app, origin);
    if ((app.app?.exec.length ?? 0) === 0) throw new RktError('BAD_IMAGE', `image ${JSON.stringify(app.image.name ?? app.image.id)} has an empty "exec" (try --exec=BINARY)`);
  }
  portMappings(manifest);
  checkIsolators(manifest, origin);
  return checkValue(manifest, podManifestCheck, { origin });
}

/** What the guest would refuse after the start of the pod. */
function checkSettings({ name, annotations = [] }: RuntimeApp, origin: string): void {
  try {
    appSettings(annotations);
    streamModes(annotations);
  } catch (error) {
    throw new RktError('BAD_INPUT', `${origin}: app ${JSON.stringify(name)}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function runtimeApp(request: AppRequest, pod: PodRequest): RuntimeApp {
  const { imageManifest } = request;
  const app: RuntimeApp = {
    name: request.name ?? defaultName(imageManifest.name),
    image: { name: imageManifest.name, id: request.imageID, ...(imageManifest.labels === undefined ? {} : { labels: imageManifest.labels }) },
    app: appSection(request, pod),
  };
  if (request.readOnlyRootFS === true) app.readOnlyRootFS = true;
  const mounts = mergeByKey(pod.mounts, request.mounts, (mount) => mount.path);
  if (mounts.length > 0) app.mounts = mounts;
  const given = mergeByKey((imageManifest.annotations ?? []).filter(isForImages), request.annotations, (annotation) => annotation.name);
  const dropped = [VERIFIED_BY, ...(request.group === undefined ? [] : [PRIMARY_GROUP])];
  const annotations = [...given.filter(({ name }) => !dropped.includes(name)), ...vouchers(request.verifiedBy)];
  if (annotations.length > 0) app.annotations = annotations;
  return app;
}

/** Who signed is part of what runs: it stands in the manifest, and so in the pod's event log. Nobody else can say it. */
const VERIFIED_BY = 'coreos.com/rkt/verified-by';

/** Where output goes is said by those who run an image, not by the image. */
function isForImages({ name }: NameValue): boolean {
  return !isStreamAnnotation(name) && !name.startsWith('coreos.com/rkt/experiment/');
}

function vouchers(verifiedBy: readonly VerifiedBy[]): NameValue[] {
  const known = verifiedBy.filter(({ kind }) => kind !== 'none');
  return known.length === 0 ? [] : [{ name: VERIFIED_BY, value: JSON.stringify(known) }];
}

/** An image that does not say what to run is of use only where the command line does. */
export function requireAppSection(imageID: string, manifest: ImageManifest): void {
  if (manifest.app === undefined) throw new RktError('BAD_IMAGE', `image ${imageID} has no app section and --exec argument is not provided`);
}

function appSection(request: AppRequest, pod: PodRequest): App {
  if (request.exec === undefined) requireAppSection(request.imageID, request.imageManifest);
  const image = request.imageManifest.app;
  // Without a section nobody has said who runs it: root, as the process that asks is.
  const base: App = image ?? { exec: [], user: '0', group: '0' };
  const app: App = {
    ...base,
    exec: [...(request.exec === undefined ? base.exec : [request.exec]), ...request.args],
    user: request.user ?? base.user,
    group: request.group ?? base.group,
  };
  if (request.supplementaryGIDs !== undefined) app.supplementaryGIDs = [...request.supplementaryGIDs];
  if (request.workingDirectory !== undefined) app.workingDirectory = request.workingDirectory;
  const environment = [base.environment ?? [], pod.environment, request.environment].reduce(mergeVariables, pod.inheritedEnvironment);
  if (environment.length > 0) app.environment = [...environment];
  const isolators = mergeIsolators(base.isolators ?? [], request.isolators);
  if (isolators.length > 0) app.isolators = isolators;
  if (request.userAnnotations.length > 0) app.userAnnotations = { ...base.userAnnotations, ...asRecord(request.userAnnotations) };
  if (request.userLabels.length > 0) app.userLabels = { ...base.userLabels, ...asRecord(request.userLabels) };
  return app;
}

/** Last part of the image name, made an ACName. */
function defaultName(imageName: string): string {
  const last = imageName.slice(imageName.lastIndexOf('/') + 1);
  const name = sanitizeACName(last);
  if (name === undefined) throw new RktError('BAD_IMAGE', `no app name can be made of the image name ${JSON.stringify(imageName)}`, { hint: 'give one with --name' });
  return name;
}

function rejectSharedNames(apps: readonly RuntimeApp[]): void {
  const seen = new Set<string>();
  for (const { name } of apps) {
    if (seen.has(name)) throw new RktError('USAGE', `error: multiple apps with name ${name}`, { hint: 'give each its own with --name' });
    seen.add(name);
  }
}

/** Every mount point of the image gets a volume: one mounted on its path, one of its name, or an empty one of its own. */
function connectMountPoints(app: RuntimeApp, volumes: Volume[], warnings: string[]): void {
  const mounts = app.mounts ?? [];
  for (const mount of mounts) {
    if (mount.appVolume === undefined && !volumes.some((volume) => volume.name === mount.volume)) {
      throw new RktError('USAGE', `app ${JSON.stringify(app.name)}: there is no volume ${JSON.stringify(mount.volume)} to mount on ${mount.path}`, { hint: `add --volume ${mount.volume},kind=empty` });
    }
  }
  for (const point of app.app?.mountPoints ?? []) {
    if (mounts.some((mount) => mount.path === point.path)) continue;
    mounts.push({ volume: volumes.some((volume) => volume.name === point.name) ? point.name : implicitVolume(app, point, { volumes, warnings }), path: point.path });
  }
  if (mounts.length > 0) app.mounts = mounts;
}

function implicitVolume(app: RuntimeApp, point: MountPoint, pod: { volumes: Volume[]; warnings: string[] }): string {
  const name = `${app.name}-${point.name}`;
  pod.warnings.push(`no volume specified for mount point ${JSON.stringify(point.name)}, implicitly creating an "empty" volume. This volume will be removed when the pod is garbage-collected.`);
  pod.volumes.push({ name, kind: 'empty', mode: '0755', uid: 0, gid: 0 });
  return name;
}

function mergeIsolators(ofImage: readonly Isolator[], asked: readonly Isolator[]): Isolator[] {
  const replaced = new Set(asked.flatMap(({ name }) => FAMILIES.find((family) => family.includes(name)) ?? [name]));
  return [...ofImage.filter(({ name }) => !replaced.has(name)), ...asked.map((isolator) => withUnmentioned(isolator, ofImage))];
}

/** Of isolators that are lists of settings the image's stay, but for those that were asked for by name. */
function withUnmentioned(asked: Isolator, ofImage: readonly Isolator[]): Isolator {
  const image = ofImage.find(({ name }) => name === asked.name);
  if (asked.name === 'os/unix/sysctl' && image?.name === asked.name) return { ...asked, value: { ...image.value, ...asked.value } };
  if (asked.name === 'coreos.com/rkt/rlimits' && image?.name === asked.name) return { ...asked, value: { ...image.value, ...asked.value } };
  return asked;
}

function mergeVariables(low: readonly EnvironmentVariable[], high: readonly EnvironmentVariable[]): readonly EnvironmentVariable[] {
  return mergeByKey(low, high, (variable) => variable.name);
}

/** Both lists, where an entry of the second takes the place of one with the same key in the first. */
function mergeByKey<T>(low: readonly T[], high: readonly T[], key: (entry: T) => string): T[] {
  const merged = new Map(low.map((entry) => [key(entry), entry]));
  for (const entry of high) merged.set(key(entry), entry);
  return [...merged.values()];
}

function asRecord(pairs: readonly NameValue[]): Record<string, string> {
  return Object.fromEntries(pairs.map(({ name, value }) => [name, value]));
}
