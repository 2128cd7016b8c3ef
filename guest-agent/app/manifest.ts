/** What the agent acts on in an appc pod manifest (spec: pods.md, types.md). Fields it has no use for are not looked at. */
import { appSettings, type AppSettings } from '../../src/wire/app-settings.ts';
import { LISTEN_FDS_MAX, type ListenPort } from '../activation/listeners.ts';
import { streamModes } from '../../src/wire/stream-modes.ts';
import { asBoolean, asId, asInteger, asList, asObject, asString, fail, optional, parseDecimal, type JsonObject } from '../checked.ts';

export interface Isolator {
  name: string;
  value: JsonObject | boolean | number | string;
}

export interface EmptyVolume {
  kind: 'empty';
  name: string;
  mode: number;
  uid: number;
  gid: number;
}

export interface HostVolume {
  kind: 'host';
  name: string;
  source: string;
}

/** Undefined: the volume does not say. */
export type Volume = (EmptyVolume | HostVolume) & { readOnly: boolean | undefined };

export interface MountPoint {
  name: string;
  path: string;
  readOnly: boolean;
}

export interface Mount {
  volume: string;
  path: string;
  /** Of this mount alone, instead of the pod's volume of that name. */
  appVolume: Volume | undefined;
}

export interface AppManifest {
  name: string;
  readOnlyRoot: boolean;
  exec: string[];
  user: string;
  group: string;
  /** Nobody has named a group: it is the user's own, and groups that list the user are the user's, too. */
  groupIsPrimary: boolean;
  supplementaryGids: number[];
  workingDirectory: string;
  environment: { name: string; value: string }[];
  mountPoints: MountPoint[];
  mounts: Mount[];
  isolators: Isolator[];
  preStart: string[] | undefined;
  postStop: string[] | undefined;
  settings: AppSettings;
  /** TCP ports whose sockets the app is given. */
  listenPorts: ListenPort[];
  /** Its input is for clients that attach: none is carried before one has been announced. */
  holdsInput: boolean;
}

export interface PodManifest {
  apps: AppManifest[];
  volumes: Volume[];
  /** Of the pod as a whole: only limits of memory, which is the machine's, and of processors. */
  isolators: Isolator[];
  /** Apps may come and go while the pod runs, and it runs without any. */
  isMutable: boolean;
}

const MUTABLE_ANNOTATION = 'coreos.com/rkt/stage1/mutable';

/** Throws BadFieldError or SyntaxError. */
export function parsePodManifest(text: string): PodManifest {
  const pod = asObject(JSON.parse(text), 'pod manifest');
  return {
    apps: asList(pod['apps'], 'apps', parseApp),
    volumes: asList(pod['volumes'], 'volumes', parseVolume),
    isolators: asList(pod['isolators'], 'isolators', parseIsolator),
    isMutable: asList(pod['annotations'], 'annotations', parseVariable).some(({ name, value }) => name === MUTABLE_ANNOTATION && value === 'true'),
  };
}

/** An app that joins a running pod: its volumes stand in its own mounts. @throws BadFieldError or SyntaxError */
export function parseAddedApp(runtimeApp: JsonObject): PodManifest {
  const volumes = new Map(asList(runtimeApp['mounts'], 'mounts', parseAppVolume).map((volume) => [volume.name, volume]));
  return { apps: [parseApp(runtimeApp, 'app')], volumes: [...volumes.values()], isolators: [], isMutable: true };
}

function parseAppVolume(value: unknown, field: string): Volume {
  return parseVolume(asObject(value, field)['appVolume'], `${field}.appVolume`);
}

function parseApp(value: unknown, field: string): AppManifest {
  const runtimeApp = asObject(value, field);
  const app = asObject(runtimeApp['app'], `${field}.app`);
  const handlers = new Map(asList(app['eventHandlers'], `${field}.app.eventHandlers`, parseHandler).map((handler) => [handler.name, handler.exec]));
  return {
    name: asString(runtimeApp['name'], `${field}.name`),
    readOnlyRoot: optional(runtimeApp['readOnlyRootFS'], `${field}.readOnlyRootFS`, asBoolean) ?? false,
    exec: asList(app['exec'], `${field}.app.exec`, asString),
    user: asString(app['user'], `${field}.app.user`),
    group: asString(app['group'], `${field}.app.group`),
    groupIsPrimary: asList(runtimeApp['annotations'], `${field}.annotations`, parseAnnotationName).includes(PRIMARY_GROUP),
    supplementaryGids: asList(app['supplementaryGIDs'], `${field}.app.supplementaryGIDs`, asId),
    workingDirectory: optional(app['workingDirectory'], `${field}.app.workingDirectory`, asAbsolutePath) ?? '/',
    environment: asList(app['environment'], `${field}.app.environment`, parseVariable),
    mountPoints: asList(app['mountPoints'], `${field}.app.mountPoints`, parseMountPoint),
    mounts: asList(runtimeApp['mounts'], `${field}.mounts`, parseMount),
    isolators: asList(app['isolators'], `${field}.app.isolators`, parseIsolator),
    preStart: handlers.get('pre-start'),
    postStop: handlers.get('post-stop'),
    settings: appSettings(asList(runtimeApp['annotations'], `${field}.annotations`, parseAnnotation)),
    listenPorts: asList(app['ports'], `${field}.app.ports`, parsePort).flat(),
    holdsInput: streamModes(runtimeApp['annotations']).stdin !== 'null',
  };
}

/** Of images whose configuration names a user and no group (src/schema/appc.ts). */
const PRIMARY_GROUP = 'coreos.com/rkt/primary-group';

const parseAnnotationName = (value: unknown, field: string): string => asString(asObject(value, field)['name'], `${field}.name`);

function asAbsolutePath(value: unknown, field: string): string {
  const path = asString(value, field);
  if (path === '') return '/';
  if (!path.startsWith('/')) fail(field, 'absolute path');
  return path;
}

function parseHandler(value: unknown, field: string): { name: string; exec: string[] } {
  const handler = asObject(value, field);
  return { name: asString(handler['name'], `${field}.name`), exec: asList(handler['exec'], `${field}.exec`, asString) };
}

const asPort = asInteger({ min: 1, max: 65535 });

/** Those of the port that are socket-activated. */
function parsePort(value: unknown, field: string): ListenPort[] {
  const port = asObject(value, field);
  if (optional(port['socketActivated'], `${field}.socketActivated`, asBoolean) !== true) return [];
  if (asString(port['protocol'], `${field}.protocol`).toLowerCase() !== 'tcp') fail(`${field}.protocol`, '"tcp", since the port is socket-activated,');
  const name = asString(port['name'], `${field}.name`);
  const first = asPort(port['port'], `${field}.port`);
  const count = optional(port['count'], `${field}.count`, asInteger({ min: 0, max: LISTEN_FDS_MAX })) ?? 1;
  return Array.from({ length: count || 1 }, (_, index) => ({ name, port: asPort(first + index, `${field}.port`) }));
}

function parseAnnotation(value: unknown, field: string): { name: string; value: string } {
  const annotation = asObject(value, field);
  return { name: asString(annotation['name'], `${field}.name`), value: asString(annotation['value'], `${field}.value`) };
}

function parseVariable(value: unknown, field: string): { name: string; value: string } {
  const variable = asObject(value, field);
  const name = asString(variable['name'], `${field}.name`);
  if (name === '' || name.includes('=')) fail(`${field}.name`, 'name without =');
  return { name, value: asString(variable['value'], `${field}.value`) };
}

function parseMountPoint(value: unknown, field: string): MountPoint {
  const mountPoint = asObject(value, field);
  return {
    name: asString(mountPoint['name'], `${field}.name`),
    path: asAbsolutePath(mountPoint['path'], `${field}.path`),
    readOnly: optional(mountPoint['readOnly'], `${field}.readOnly`, asBoolean) ?? false,
  };
}

function parseMount(value: unknown, field: string): Mount {
  const mount = asObject(value, field);
  const path = asString(mount['path'], `${field}.path`);
  // Others begin at the app's root, too.
  return { volume: asString(mount['volume'], `${field}.volume`), path: path.startsWith('/') ? path : `/${path}`, appVolume: optional(mount['appVolume'], `${field}.appVolume`, parseVolume) };
}

function parseIsolator(value: unknown, field: string): Isolator {
  const isolator = asObject(value, field);
  const content = isolator['value'];
  const isPlain = typeof content === 'boolean' || typeof content === 'number' || typeof content === 'string';
  return { name: asString(isolator['name'], `${field}.name`), value: isPlain ? content : asObject(content ?? {}, `${field}.value`) };
}

const OCTAL_DIGITS = '01234567';

function parseVolume(value: unknown, field: string): Volume {
  const volume = asObject(value, field);
  const name = asString(volume['name'], `${field}.name`);
  const readOnly = optional(volume['readOnly'], `${field}.readOnly`, asBoolean);
  const kind = asString(volume['kind'], `${field}.kind`);
  if (kind === 'host') return { kind, name, readOnly, source: asString(volume['source'], `${field}.source`) };
  if (kind !== 'empty') fail(`${field}.kind`, '"empty" or "host"');
  return {
    kind,
    name,
    readOnly,
    mode: parseMode(optional(volume['mode'], `${field}.mode`, asString) ?? '0755', `${field}.mode`),
    uid: optional(volume['uid'], `${field}.uid`, asId) ?? 0,
    gid: optional(volume['gid'], `${field}.gid`, asId) ?? 0,
  };
}

function parseMode(text: string, field: string): number {
  if (parseDecimal(text) === undefined || text.length > 5 || ![...text].every((digit) => OCTAL_DIGITS.includes(digit))) fail(field, 'octal mode');
  return Number.parseInt(text, 8) & 0o7777;
}
