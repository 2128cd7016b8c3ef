/** Arguments of the stage1 entrypoints (interface version 6 of rkt, and our own additions). No system calls here. */
import type { ActivatedPort } from './activation/activated-ports.ts';
import { DEFAULT_DETACH_KEYS } from './attach/detach-keys.ts';
import { ENDPOINT_NAMES, type EndpointName } from './attach/endpoint-names.ts';
import { Stage1Error } from './error.ts';
import { DEFAULT_LOG_OPTIONS, type LogOptions } from './logs/log-options.ts';

export type AcceleratorChoice = 'auto' | 'kvm' | 'tcg';
export type PodNetwork =
  | { kind: 'none' }
  /** QEMU's user-mode network, with what of this host's ports leads to the guest (QEMU's `hostfwd`). */
  | { kind: 'user'; ports: string[] }
  /** Tap devices that stage0 has opened: name of the interface in the guest, one descriptor for each queue. */
  | { kind: 'tap'; taps: { name: string; fds: number[] }[] };
export type ResolvMode = 'host' | 'stage0' | 'none' | 'default';
export type HostsMode = 'host' | 'stage0' | 'default';

export interface RunOptions {
  uuid: string;
  debug: boolean;
  network: PodNetwork;
  /** Sockets of a supervisor, and the TCP ports of the guest to which their connections go. */
  listens: ActivatedPort[];
  /** Kept open until the pod ends, for what that keeps. */
  holdFds: number[];
  interactive: boolean;
  /** Null: `rkt-UUID`. */
  hostname: string | null;
  dns: { resolv: ResolvMode; hosts: HostsMode };
  insecure: { capabilities: boolean; paths: boolean; seccomp: boolean };
  /** Protections that are off and that only stage0 knows of: measured, nothing else. */
  insecureOnHost: string[];
  /** After the launch the host may change nothing in the pod. */
  sealed: boolean;
  /** Apps come and go; the pod runs until it is stopped. */
  mutable: boolean;
  accelerator: AcceleratorChoice;
  /** Null: those of the stage1 image. */
  kernel: string | null;
  initramfs: string | null;
  timing: boolean;
  logs: LogOptions;
  memoryMiB: number | null;
  cpus: number | null;
  /** Memory that the guest has freed goes back to the host. */
  giveBackMemory: boolean;
  /** How the guest's vsock is reached; `own` needs no kernel module and no host-wide address. */
  vsock: 'own' | 'kernel';
  /** Not a pod to run: this app of one that has ended is only to be read, and no disk can be written. */
  inspectedApp: string | null;
}

export interface EnterOptions {
  pid: number;
  app: string;
  command: string[];
}

/** What apps get to end by themselves unless someone says otherwise. */
export const SHUTDOWN_GRACE_MS = 10_000;

export interface AppOptions {
  app: string;
}

export interface AttachOptions {
  action: 'list' | 'auto-attach' | 'custom-attach';
  app: string;
  /** For `custom-attach`. */
  endpoints: EndpointName[];
  detachKeys: string;
}

export interface StopOptions {
  uuid: string;
  force: boolean;
  /** What the apps get to end by themselves. */
  graceMs: number;
}

/** Splits `--name=value`, `--name value`-free arguments as stage0 passes them: flags first, then operands. */
interface SplitArguments {
  flags: { name: string; value: string | null }[];
  operands: string[];
}

/** @throws Stage1Error on an unknown flag, a bad value or a missing UUID. */
export function parseRunArguments(args: readonly string[]): RunOptions {
  const { flags, operands } = split(args);
  const options: RunOptions = {
    uuid: uuidOperand(operands),
    debug: false,
    network: { kind: 'user', ports: [] },
    listens: [],
    holdFds: [],
    interactive: false,
    hostname: null,
    dns: { resolv: 'default', hosts: 'default' },
    insecure: { capabilities: false, paths: false, seccomp: false },
    insecureOnHost: [],
    sealed: false,
    mutable: false,
    accelerator: 'auto',
    kernel: null,
    initramfs: null,
    timing: false,
    logs: { ...DEFAULT_LOG_OPTIONS },
    memoryMiB: null,
    cpus: null,
    giveBackMemory: false,
    vsock: 'own',
    inspectedApp: null,
  };
  let networks = 'default';
  const taps: { name: string; fds: number[] }[] = [];
  const ports: string[] = [];
  for (const { name, value } of flags) {
    switch (name) {
      case 'debug': options.debug = booleanValue(name, value); break;
      case 'net': networks = required(name, value); break;
      case 'tap': taps.push(tapOption(required(name, value))); break;
      case 'user-port': ports.push(required(name, value)); break;
      case 'listen': options.listens.push(listenOption(required(name, value))); break;
      case 'hold-fds': options.holdFds = descriptors(name, required(name, value)); break;
      case 'interactive': options.interactive = booleanValue(name, value); break;
      case 'hostname': options.hostname = required(name, value); break;
      case 'dns-conf-mode': options.dns = dnsModes(required(name, value)); break;
      case 'disable-capabilities-restriction': options.insecure.capabilities = booleanValue(name, value); break;
      case 'disable-paths': options.insecure.paths = booleanValue(name, value); break;
      case 'disable-seccomp': options.insecure.seccomp = booleanValue(name, value); break;
      case 'insecure-on-host': options.insecureOnHost = required(name, value).split(','); break;
      case 'sealed': options.sealed = booleanValue(name, value); break;
      case 'accel': options.accelerator = oneOf(name, required(name, value), ['auto', 'kvm', 'tcg'] as const); break;
      case 'kernel': options.kernel = required(name, value); break;
      case 'initramfs': options.initramfs = required(name, value); break;
      case 'timing': options.timing = booleanValue(name, value); break;
      case 'log-driver': options.logs.driver = oneOf(name, required(name, value), ['k8s-file', 'journald', 'none'] as const); break;
      case 'log-size-max': options.logs.maxBytes = positiveInteger(name, required(name, value)); break;
      case 'log-files-max': options.logs.maxFiles = positiveInteger(name, required(name, value)); break;
      case 'log-journal': options.logs.journalPath = required(name, value); break;
      case 'memory-mib': options.memoryMiB = positiveInteger(name, required(name, value)); break;
      case 'cpus': options.cpus = positiveInteger(name, required(name, value)); break;
      case 'inspect': options.inspectedApp = required(name, value); break;
      case 'give-back-memory': options.giveBackMemory = booleanValue(name, value); break;
      case 'vsock': options.vsock = oneOf(name, required(name, value), ['own', 'kernel'] as const); break;
      case 'ipc':
        if (required(name, value) === 'parent') throw new Stage1Error('flavor kvm requires private IPC namespace (try to remove --ipc)');
        break;
      case 'private-users': throw new Stage1Error('flag --private-users cannot be used with a kvm stage1');
      case 'mutable': options.mutable = booleanValue(name, value); break;
      // Part of the interface; nothing in this stage1 depends on them.
      case 'local-config': case 'mds-token': required(name, value); break;
      default: throw new Stage1Error(`unknown flag --${name}`);
    }
  }
  if (options.mutable && options.sealed) throw new Stage1Error('a pod cannot be mutable and sealed');
  options.network = taps.length > 0 ? { kind: 'tap', taps } : ownNetwork(networks, ports);
  return options;
}

/** @throws Stage1Error */
export function parseEnterArguments(args: readonly string[]): EnterOptions {
  const { flags, operands } = split(args);
  const options: EnterOptions = { pid: 0, app: '', command: operands };
  for (const { name, value } of flags) {
    switch (name) {
      case 'pid': options.pid = positiveInteger(name, required(name, value)); break;
      case 'appname': options.app = required(name, value); break;
      case 'debug': break;
      default: throw new Stage1Error(`unknown flag --${name}`);
    }
  }
  if (options.app === '') throw new Stage1Error('--appname is missing');
  if (operands.length === 0) throw new Stage1Error('no command to run');
  return options;
}

/** Arguments of `app_add` and its siblings. @throws Stage1Error */
export function parseAppArguments(args: readonly string[]): AppOptions {
  let app = '';
  for (const { name, value } of split(args).flags) {
    switch (name) {
      case 'app': app = required(name, value); break;
      case 'debug': case 'uuid': break;
      default: throw new Stage1Error(`unknown flag --${name}`);
    }
  }
  if (app === '') throw new Stage1Error('--app is missing');
  return { app };
}

/** @throws Stage1Error */
export function parseAttachArguments(args: readonly string[]): AttachOptions {
  const options: AttachOptions = { action: 'list', app: '', endpoints: [], detachKeys: DEFAULT_DETACH_KEYS };
  const { flags, operands } = split(args);
  for (const { name, value } of flags) {
    const endpoint = ENDPOINT_NAMES.find((candidate) => candidate === name);
    if (endpoint !== undefined) {
      if (booleanValue(name, value)) options.endpoints.push(endpoint);
    } else if (name === 'action') options.action = oneOf(name, required(name, value), ['list', 'auto-attach', 'custom-attach'] as const);
    else if (name === 'app') options.app = required(name, value);
    else if (name === 'detach-keys') options.detachKeys = value ?? '';
    else if (name !== 'debug') throw new Stage1Error(`unknown flag --${name}`);
  }
  if (options.app === '') throw new Stage1Error('--app is missing');
  if (operands.length > 0) throw new Stage1Error(`unexpected operand "${operands[0]}"`);
  const { endpoints } = options;
  if (options.action === 'custom-attach' && endpoints.length === 0) throw new Stage1Error('at least one endpoint must be named');
  if (endpoints.some((name) => name.startsWith('tty')) && endpoints.some((name) => !name.startsWith('tty'))) throw new Stage1Error(`incompatible endpoints ${endpoints.join(',')}: cannot simultaneously attach TTY and streams`);
  return options;
}

/** Arguments of `stop` and `gc`. @throws Stage1Error */
export function parseStopArguments(args: readonly string[]): StopOptions {
  const { flags, operands } = split(args);
  let force = false;
  let graceMs = SHUTDOWN_GRACE_MS;
  for (const { name, value } of flags) {
    switch (name) {
      case 'force': force = booleanValue(name, value); break;
      case 'grace-period-ms': graceMs = naturalNumber(name, required(name, value)); break;
      case 'debug': case 'local-config': break;
      default: throw new Stage1Error(`unknown flag --${name}`);
    }
  }
  return { uuid: uuidOperand(operands), force, graceMs };
}

function split(args: readonly string[]): SplitArguments {
  const flags: SplitArguments['flags'] = [];
  for (let i = 0; i < args.length; i++) {
    const argument = args[i]!;
    if (argument === '--') return { flags, operands: args.slice(i + 1) };
    if (!argument.startsWith('--')) return { flags, operands: args.slice(i) };
    const equals = argument.indexOf('=');
    if (equals < 0) flags.push({ name: argument.slice(2), value: null });
    else flags.push({ name: argument.slice(2, equals), value: argument.slice(equals + 1) });
  }
  return { flags, operands: [] };
}

function uuidOperand(operands: readonly string[]): string {
  const uuid = operands[0];
  if (uuid === undefined || operands.length !== 1) throw new Stage1Error('expected exactly one operand, the UUID of the pod');
  if (!isUuid(uuid)) throw new Stage1Error(`"${uuid}" is not a UUID`);
  return uuid;
}

export function isUuid(text: string): boolean {
  if (text.length !== 36) return false;
  for (let i = 0; i < 36; i++) {
    const isDash = i === 8 || i === 13 || i === 18 || i === 23;
    if (isDash ? text[i] !== '-' : !'0123456789abcdef'.includes(text[i]!)) return false;
  }
  return true;
}

function required(name: string, value: string | null): string {
  if (value === null || value === '') throw new Stage1Error(`flag --${name} needs a value`);
  return value;
}

function booleanValue(name: string, value: string | null): boolean {
  if (value === null || value === 'true') return true;
  if (value === 'false') return false;
  throw new Stage1Error(`flag --${name} takes true or false, not "${value}"`);
}

function positiveInteger(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 0x7fffffff) throw new Stage1Error(`flag --${name} needs a positive integer, not "${text}"`);
  return value;
}

function naturalNumber(name: string, text: string): number {
  return text === '0' ? 0 : positiveInteger(name, text);
}

function oneOf<T extends string>(name: string, text: string, allowed: readonly T[]): T {
  const found = allowed.find((candidate) => candidate === text);
  if (found === undefined) throw new Stage1Error(`flag --${name} takes ${allowed.join(', ')}, not "${text}"`);
  return found;
}

/** Without stage0's help there are two kinds of network. */
function ownNetwork(text: string, ports: string[]): PodNetwork {
  if (text.split(',').includes('host')) throw new Stage1Error('flavor kvm requires private network configuration (try --net)');
  if (text === 'none') return { kind: 'none' };
  if (text === 'user' || text === 'default') return { kind: 'user', ports };
  throw new Stage1Error(`network "${text}" is not supported by this stage1`, 'use --net=none or --net=user');
}

/** `eth0=7` or, with a queue for each, `eth0=7:8`. */
function tapOption(text: string): { name: string; fds: number[] } {
  const equals = text.indexOf('=');
  if (equals < 1) throw new Stage1Error(`flag --tap takes NAME=DESCRIPTORS, not "${text}"`);
  return { name: text.slice(0, equals), fds: descriptors('tap', text.slice(equals + 1)) };
}

/** `3=8080` */
function listenOption(text: string): ActivatedPort {
  const [fd, port, ...rest] = text.split('=').map(Number);
  const isOne = fd !== undefined && Number.isInteger(fd) && fd > 2 && port !== undefined && Number.isInteger(port) && port > 0 && port < 65536 && rest.length === 0;
  if (!isOne) throw new Stage1Error(`flag --listen takes DESCRIPTOR=PORT, not "${text}"`);
  return { fd, port };
}

function descriptors(name: string, text: string): number[] {
  const fds = text.split(':').map(Number);
  if (!fds.every((fd) => Number.isInteger(fd) && fd > 2)) throw new Stage1Error(`flag --${name} takes descriptors, not "${text}"`);
  return fds;
}

/** `resolv=host,hosts=stage0`, or one mode for `resolv` alone. */
function dnsModes(text: string): RunOptions['dns'] {
  const modes: RunOptions['dns'] = { resolv: 'default', hosts: 'default' };
  for (const part of text.split(',')) {
    const equals = part.indexOf('=');
    const key = equals < 0 ? 'resolv' : part.slice(0, equals);
    const value = equals < 0 ? part : part.slice(equals + 1);
    if (key === 'resolv') modes.resolv = oneOf('dns-conf-mode', value, ['host', 'stage0', 'none', 'default'] as const);
    else if (key === 'hosts') modes.hosts = oneOf('dns-conf-mode', value, ['host', 'stage0', 'default'] as const);
    else throw new Stage1Error(`flag --dns-conf-mode: unknown key "${key}", expected resolv or hosts`);
  }
  return modes;
}
