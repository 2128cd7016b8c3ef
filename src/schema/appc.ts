/**
 * appc manifests (App Container specification 0.8.11: spec/aci.md, spec/pods.md): types in the shape of their JSON and
 * parsers that check everything and name the field. Unknown fields are dropped.
 */
import { arrayOf, booleanValue, duplicateComplaint, integerBetween, integerValue, mapOf, objectOf, optional, parseDocument, quote, refined, stringValue, withDefault } from './check.ts';
import type { Check } from './check.ts';
import { appIsolators, podIsolators } from './isolators.ts';
import type { Isolator, UnrecognizedIsolator } from './isolators.ts';
import { acIdentifier, acName, imageHash, semanticVersion } from './names.ts';
import type { ErrorCode } from '../error.ts';

export const APPC_VERSION = '0.8.11';

/**
 * Annotation of images whose configuration names a user and no group: the group is the user's own in the image's /etc/passwd, or
 * 0, whatever the manifest says, and the groups that list the user are supplementary ones. `group` repeats the user there, for
 * those who do not know this.
 */
export const PRIMARY_GROUP = 'coreos.com/rkt/primary-group';

export interface NameValue {
  name: string;
  value: string;
}
export type Label = NameValue;
export type Annotation = NameValue;
export type EnvironmentVariable = NameValue;

export interface EventHandler {
  name: 'pre-start' | 'post-stop';
  exec: string[];
}

export interface MountPoint {
  name: string;
  path: string;
  readOnly?: boolean;
}

export interface Port {
  name: string;
  protocol: string;
  port: number;
  /** Ports from `port` on; 1 when the manifest does not say. */
  count: number;
  socketActivated?: boolean;
}

export interface App {
  /** May be empty: then whoever runs it must say what to execute. */
  exec: string[];
  eventHandlers?: EventHandler[];
  /** Number, name, or absolute path of a file whose owner is meant. */
  user: string;
  group: string;
  supplementaryGIDs?: number[];
  workingDirectory?: string;
  environment?: EnvironmentVariable[];
  mountPoints?: MountPoint[];
  ports?: Port[];
  isolators?: Isolator[];
  userAnnotations?: Record<string, string>;
  userLabels?: Record<string, string>;
}

export interface Dependency {
  imageName: string;
  imageID?: string;
  labels?: Label[];
  /** Bytes. */
  size?: number;
}

export interface ImageManifest {
  acKind: 'ImageManifest';
  acVersion: string;
  name: string;
  labels?: Label[];
  app?: App;
  dependencies?: Dependency[];
  /** Absolute paths. */
  pathWhitelist?: string[];
  annotations?: Annotation[];
}

export type Volume =
  | { name: string; kind: 'host'; source: string; readOnly?: boolean; recursive?: boolean }
  | { name: string; kind: 'empty'; readOnly?: boolean; recursive?: boolean; /** Octal, `0755`. */ mode: string; uid: number; gid: number };

export interface Mount {
  volume: string;
  path: string;
  /** When present it is used instead of the pod's volume of that name. */
  appVolume?: Volume;
}

export interface RuntimeImage {
  name?: string;
  id: string;
  labels?: Label[];
}

export interface RuntimeApp {
  name: string;
  image: RuntimeImage;
  /** Replaces the `app` of the image. */
  app?: App;
  readOnlyRootFS?: boolean;
  mounts?: Mount[];
  annotations?: Annotation[];
}

export interface ExposedPort {
  name: string;
  hostPort: number;
  hostIP?: string;
  podPort?: Port;
}

/** The pod's, and those that single mounts bring. */
export function allVolumes(manifest: PodManifest): Volume[] {
  const own = manifest.apps.flatMap((app) => app.mounts ?? []).flatMap((mount) => (mount.appVolume === undefined ? [] : [mount.appVolume]));
  return [...(manifest.volumes ?? []), ...own];
}

export interface PodManifest {
  acVersion: string;
  acKind: 'PodManifest';
  apps: RuntimeApp[];
  volumes?: Volume[];
  isolators?: (Isolator | UnrecognizedIsolator)[];
  annotations?: Annotation[];
  ports?: ExposedPort[];
  userAnnotations?: Record<string, string>;
  userLabels?: Record<string, string>;
}

/** Operating systems and architectures that labels may name. */
export const VALID_OS_ARCH: Readonly<Record<string, readonly string[]>> = {
  linux: ['amd64', 'i386', 'aarch64', 'aarch64_be', 'armv6l', 'armv7l', 'armv7b', 'ppc64', 'ppc64le', 's390x'],
  freebsd: ['amd64', 'i386', 'arm'],
  darwin: ['x86_64', 'i386'],
};

function kindOf<const K extends string>(kind: K): Check<K> {
  const complaint = `missing or bad ACKind (must be ${quote(kind)})`;
  const text = refined(withDefault(stringValue, ''), (value) => (value === kind ? undefined : complaint));
  return (value, place) => text(value, place) as K;
}

const nameValue = objectOf<NameValue>({ name: acIdentifier, value: stringValue });
const free = optional(mapOf(stringValue));

const labels: Check<Label[]> = refined(arrayOf(nameValue), (list) => {
  const names = list.map((label) => label.name);
  if (names.includes('name')) return 'invalid label name: "name"';
  return duplicateComplaint(names, 'duplicate labels of name') ?? osArchComplaint(list);
});

/** An `arch` label means something only beside an `os` label. */
function osArchComplaint(list: readonly Label[]): string | undefined {
  const os = labelValue(list, 'os');
  if (os === undefined) return undefined;
  const architectures = Object.hasOwn(VALID_OS_ARCH, os) ? VALID_OS_ARCH[os] : undefined;
  if (architectures === undefined) return `bad os ${quote(os)} (must be one of: [${Object.keys(VALID_OS_ARCH).sort().join(' ')}])`;
  const arch = labelValue(list, 'arch');
  if (arch === undefined || architectures.includes(arch)) return undefined;
  return `bad arch ${quote(arch)} for ${os} (must be one of: [${architectures.join(' ')}])`;
}

const annotations: Check<Annotation[]> = refined(arrayOf(nameValue), (list) =>
  duplicateComplaint(list.map((annotation) => annotation.name), 'duplicate annotations of name'),
);

const ENVIRONMENT_NAME = /^[A-Za-z_][A-Za-z_0-9.-]*$/;

export function isEnvironmentName(name: string): boolean {
  return ENVIRONMENT_NAME.test(name);
}

const environmentName = refined(stringValue, (name) =>
  isEnvironmentName(name) ? undefined : `environment variable name must match ${ENVIRONMENT_NAME.source}, found ${quote(name)}`,
);

const environment: Check<EnvironmentVariable[]> = refined(arrayOf(objectOf<EnvironmentVariable>({ name: environmentName, value: stringValue })), (list) =>
  duplicateComplaint(list.map((variable) => variable.name), 'duplicate environment variable of name'),
);

const eventHandlers: Check<EventHandler[]> = refined(
  arrayOf(
    objectOf<EventHandler>({
      name: (value, place) =>
        refined(withDefault(stringValue, ''), (name) => (name === 'pre-start' || name === 'post-stop' ? undefined : `bad eventHandler name ${quote(name)} (must be "pre-start" or "post-stop")`))(value, place) as EventHandler['name'],
      exec: withDefault(arrayOf(stringValue), []),
    }),
  ),
  (list) => {
    const twice = ['pre-start', 'post-stop'].find((name) => list.filter((handler) => handler.name === name).length > 1);
    return twice === undefined ? undefined : `Only one eventHandler of name ${quote(twice)} allowed`;
  },
);

const setString = (name: string): Check<string> => refined(withDefault(stringValue, ''), (text) => (text === '' ? `${name} must be set` : undefined));

export const mountPoint: Check<MountPoint> = objectOf<MountPoint>({ name: acName, path: setString('path'), readOnly: optional(booleanValue) });

export const port: Check<Port> = refined(
  objectOf<Port>({
    name: acName,
    protocol: withDefault(stringValue, ''),
    port: withDefault(integerValue, 0),
    // Go writes the default out as 0.
    count: (value, place) => withDefault(integerBetween(0, 65535), 1)(value, place) || 1,
    socketActivated: optional(booleanValue),
  }),
  (value) => {
    if (value.port < 1 || value.port > 65535) return 'port must be in 1-65535 range';
    if (value.port + value.count > 65536) return 'end of port range must be in 1-65535 range';
    return undefined;
  },
);

const ID_MAX = 0xffff_fffe;

const required = (name: string): Check<string> => refined(withDefault(stringValue, ''), (text) => (text === '' ? `${name} is required` : undefined));

const absoluteDirectory: Check<string | undefined> = (value, place) =>
  refined(withDefault(stringValue, ''), (path) => (path === '' || path.startsWith('/') ? undefined : `workingDirectory must be an absolute path, found ${quote(path)}`))(value, place) || undefined;

export const app: Check<App> = objectOf<App>({
  exec: withDefault(arrayOf(stringValue), []),
  eventHandlers: optional(eventHandlers),
  user: required('user'),
  group: required('group'),
  supplementaryGIDs: optional(arrayOf(integerBetween(0, ID_MAX))),
  workingDirectory: absoluteDirectory,
  environment: optional(environment),
  mountPoints: optional(arrayOf(mountPoint)),
  ports: optional(arrayOf(port)),
  isolators: optional(appIsolators),
  userAnnotations: free,
  userLabels: free,
});

const dependency: Check<Dependency> = objectOf<Dependency>({
  imageName: acIdentifier,
  imageID: optional(imageHash),
  labels: optional(labels),
  size: optional(integerBetween(0, Number.MAX_SAFE_INTEGER)),
});

const absolutePath: Check<string> = refined(stringValue, (path) => (path.startsWith('/') ? undefined : `expected an absolute path, found ${quote(path)}`));

const imageManifest: Check<ImageManifest> = objectOf<ImageManifest>({
  acKind: kindOf('ImageManifest'),
  acVersion: semanticVersion,
  name: acIdentifier,
  labels: optional(labels),
  app: optional(app),
  dependencies: optional(arrayOf(dependency)),
  pathWhitelist: optional(arrayOf(absolutePath)),
  annotations: optional(annotations),
});

interface RawVolume {
  name: string;
  kind: string;
  source?: string;
  readOnly?: boolean;
  recursive?: boolean;
  mode?: string;
  uid?: number;
  gid?: number;
}

const rawVolume = refined(
  objectOf<RawVolume>({
    name: acName,
    kind: withDefault(stringValue, ''),
    source: optional(stringValue),
    readOnly: optional(booleanValue),
    recursive: optional(booleanValue),
    mode: optional(stringValue),
    uid: optional(integerBetween(0, ID_MAX)),
    gid: optional(integerBetween(0, ID_MAX)),
  }),
  volumeComplaint,
);

function volumeComplaint(value: RawVolume): string | undefined {
  const source = value.source ?? '';
  const idFields = ['mode', 'uid', 'gid'] as const;
  if (value.kind === 'host') {
    if (source === '') return 'source for host volume cannot be empty';
    if (!source.startsWith('/')) return 'source for host volume must be absolute path';
    const extra = idFields.find((field) => value[field] !== undefined);
    return extra === undefined ? undefined : `${extra} for host volume must not be set`;
  }
  if (value.kind === 'empty') {
    if (source !== '') return 'source for empty volume must be empty';
    const missing = idFields.find((field) => value[field] === undefined);
    if (missing !== undefined) return `${missing} for empty volume must be set`;
    return /^[0-7]{1,5}$/.test(value.mode ?? '') ? undefined : `mode for empty volume must be an octal number such as 0755, found ${quote(value.mode ?? '')}`;
  }
  return 'unrecognized volume kind: should be one of "empty", "host"';
}

export const volume: Check<Volume> = (value, place) => {
  const checked = rawVolume(value, place);
  if (checked.kind === 'empty') delete checked.source;
  return checked as Volume;
};

const mount: Check<Mount> = objectOf<Mount>({ volume: acName, path: setString('path'), appVolume: optional(volume) });

const runtimeApp: Check<RuntimeApp> = objectOf<RuntimeApp>({
  name: acName,
  image: objectOf<RuntimeImage>({ name: optional(acIdentifier), id: imageHash, labels: optional(labels) }),
  app: optional(app),
  readOnlyRootFS: optional(booleanValue),
  mounts: optional(arrayOf(mount)),
  annotations: optional(annotations),
});

const podManifest: Check<PodManifest> = objectOf<PodManifest>({
  acVersion: semanticVersion,
  acKind: kindOf('PodManifest'),
  apps: refined(withDefault(arrayOf(runtimeApp), []), (list) => duplicateComplaint(list.map((entry) => entry.name), 'duplicate apps of name')),
  volumes: optional(refined(arrayOf(volume), (list) => duplicateComplaint(list.map((entry) => entry.name), 'duplicate volume name'))),
  isolators: optional(podIsolators),
  annotations: optional(annotations),
  ports: optional(arrayOf(objectOf<ExposedPort>({ name: acName, hostPort: integerBetween(1, 65535), hostIP: optional(stringValue), podPort: optional(port) }))),
  userAnnotations: free,
  userLabels: free,
});

/** Throws RktError BAD_IMAGE `ORIGIN: FIELD: …`. `origin` says where the text came from (a file). */
export function parseImageManifest(text: string, origin: string): ImageManifest {
  return parseDocument(text, imageManifest, { origin, code: 'BAD_IMAGE' });
}

/** Throws RktError BAD_INPUT `ORIGIN: FIELD: …`. */
export function parsePodManifest(text: string, origin: string): PodManifest {
  return parseDocument(text, podManifest, { origin, code: 'BAD_INPUT' });
}

/** Checks a value built elsewhere (from options, say) with one of the checks above. Throws BAD_INPUT unless another code is given. */
export function checkValue<T>(value: unknown, check: Check<T>, source: { origin: string; path?: string; code?: ErrorCode }): T {
  return check(value, { origin: source.origin, path: source.path ?? '', code: source.code ?? 'BAD_INPUT' });
}

export { imageManifest, podManifest, labels, annotations, environment };

export function labelValue(list: readonly Label[] | undefined, name: string): string | undefined {
  return list?.find((label) => label.name === name)?.value;
}
