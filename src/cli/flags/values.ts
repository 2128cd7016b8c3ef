/** Parsers of flag values. Each throws an Error that says what was expected. */
import { posix } from 'node:path';
import { RktError } from '../../error.ts';
import { isIpAddress } from '../../schema/ip-address.ts';
import { isACIdentifier, isACName } from '../../schema/names.ts';
import { quantityNano, quantityUnits, QUANTITY_EXPECTATION } from '../../schema/quantity.ts';
import type { Platform } from '../../schema/platform.ts';
import { isRlimit, PIDS_LIMIT_MAX, RLIMIT_NAMES, SYSCTL_EXPECTATION, sysctlPath, UNLIMITED } from '../../schema/isolators.ts';
import type { Isolator, Mount, NameValue, Rlimit, RlimitName, Volume } from '../../schema/index.ts';
import { parseDuration } from '../../pod/duration.ts';

/** As appc has it; the manifest is checked as a whole later, this is for a message that names the flag. */
const ENVIRONMENT_NAME = /^[A-Za-z_][A-Za-z_0-9.-]*$/;

export function text(value: string): string {
  return value;
}

/** Go's strconv.ParseBool. */
export function boolean(value: string): boolean {
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(value)) return true;
  if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(value)) return false;
  throw new Error('expected true or false');
}

export function nonEmpty(value: string): string {
  if (value === '') throw new Error('expected a value');
  return value;
}

export function directory(value: string): string {
  if (value === '') throw new Error('"" is not a valid directory');
  return value;
}

export function oneOf<const V extends string>(...allowed: V[]): (value: string) => V {
  return (value) => {
    const found = allowed.find((candidate) => candidate === value);
    if (found === undefined) throw new Error(`expected one of: ${allowed.join(', ')}`);
    return found;
  };
}

/** Comma-separated, none of them empty. */
export function list(value: string): string[] {
  const parts = value.split(',');
  if (parts.includes('')) throw new Error('expected a comma-separated list');
  return parts;
}

/** `NAME=VALUE` with a name that an environment variable can have. */
export function environmentVariable(value: string): NameValue {
  const pair = nameValue('environment variable must be specified as name=value')(value);
  if (!ENVIRONMENT_NAME.test(pair.name)) throw new Error(`${JSON.stringify(pair.name)} is not a valid name of an environment variable`);
  return pair;
}

export function nameValue(complaint: string): (value: string) => NameValue {
  return (value) => {
    const equals = value.indexOf('=');
    if (equals < 1) throw new Error(complaint);
    return { name: value.slice(0, equals), value: value.slice(equals + 1) };
  };
}

export function annotation(value: string): NameValue {
  const pair = nameValue('annotation must be specified as name=value')(value);
  if (!isACIdentifier(pair.name)) throw new Error(`${JSON.stringify(pair.name)} is not a valid name: ACIdentifier must contain only lower case alphanumeric characters plus "-._~/"`);
  return pair;
}

export function appName(value: string): string {
  if (!isACName(value)) throw new Error('ACName must contain only lower case alphanumeric characters plus "-"');
  return value;
}

/** `linux/amd64`, `linux/arm/v7`: names of Go. */
export function platform(value: string): Platform {
  const [os = '', architecture = '', variant, ...more] = value.split('/');
  if (more.length > 0 || ![os, architecture, variant ?? 'v'].every((part) => /^[a-z0-9]+$/.test(part))) throw new Error('expected OS/ARCH[/VARIANT], such as linux/amd64');
  return { os, architecture, ...(variant === undefined ? {} : { variant }) };
}

/** `10G`, `500Mi`. */
export function sizeBytes(value: string): number {
  const bytes = quantityUnits(value);
  if (bytes === undefined || bytes < 0) throw new Error(`expected ${QUANTITY_EXPECTATION}`);
  return bytes;
}

export function addresses(value: string): string[] {
  const wrong = list(value).find((address) => !isIpAddress(address));
  if (wrong !== undefined) throw new Error(`${JSON.stringify(wrong)} is not an IP address`);
  return list(value);
}

/** Less would be a new file for each moment's output. */
const LOG_SIZE_MIN = 256 << 10;
const LOG_SIZE_MAX = 2 ** 31 - 1;

export function logSize(value: string): number {
  const bytes = Math.floor(sizeBytes(value));
  if (bytes < LOG_SIZE_MIN || bytes > LOG_SIZE_MAX) throw new Error('expected a size from 256Ki to less than 2Gi');
  return bytes;
}

/** RFC 3339, seconds since 1970, or how long ago. As RFC 3339 in UTC with nanoseconds. */
export function moment(value: string): string {
  const ago = parseDuration(value);
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)?$/i.exec(value);
  const seconds = /^(\d{1,11})(?:\.(\d{1,9})\d*)?$/.exec(value);
  const atMs = match !== null ? Date.parse(`${match[1] ?? ''}${(match[3] ?? '').toUpperCase()}`) : seconds !== null ? Number(seconds[1]) * 1000 : Date.now() - (ago ?? NaN);
  if (Number.isNaN(atMs)) throw new Error('expected a time such as 2026-11-22T08:00:00Z, or a duration such as 10m');
  const fraction = match?.[2] ?? seconds?.[2] ?? String(((atMs % 1000) + 1000) % 1000).replace(/\..*/, '').padStart(3, '0');
  return `${new Date(atMs).toISOString().slice(0, 19)}.${fraction.padEnd(9, '0')}Z`;
}

export function wholeNumber(minimum: number, maximum: number): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (!/^[+-]?\d+$/.test(value) || number < minimum || number > maximum) throw new Error(`expected a whole number from ${minimum} to ${maximum}`);
    return number;
  };
}

/** Name of a slice unit (systemd.slice(5)). */
export function unitSlice(value: string): string {
  if (!/^[\w:.-]+\.slice$/.test(value)) throw new Error('expected the name of a slice, such as machine.slice');
  return value;
}

export function groupIDs(value: string): number[] {
  return value.split(',').map((part) => wholeNumber(0, 0xffff_fffe)(part.trim()));
}

/** Milliseconds. */
export function duration(value: string): number {
  const milliseconds = parseDuration(value);
  if (milliseconds === undefined) throw new Error('expected a duration such as 30m, 1h30m or 10s');
  return milliseconds;
}

const GRACE_MAX_MS = 24 * 3600 * 1000;

/** Milliseconds. */
export function stopGracePeriod(value: string): number {
  const milliseconds = duration(value);
  if (milliseconds < 0 || milliseconds > GRACE_MAX_MS) throw new Error('expected a duration from 0s to 24h');
  return Math.round(milliseconds);
}

/** Milliseconds. */
export function interval(value: string): number {
  const milliseconds = duration(value);
  if (milliseconds < 100) throw new Error('expected a duration from 100ms on');
  return milliseconds;
}

/** An annotation whose text is checked by the code that will read it. */
export function appSetting(annotationName: string, check: (value: string) => unknown): (value: string) => NameValue {
  return (value) => {
    check(value);
    return { name: annotationName, value };
  };
}

/** Comma-separated fields out of a closed set, each once, upper case accepted. */
export function fieldList<const F extends string>(...allowed: F[]): (value: string) => F[] {
  return (value) => {
    const fields: F[] = [];
    for (const part of value.toLowerCase().split(',')) {
      const field = allowed.find((candidate) => candidate === part);
      if (field === undefined) throw new Error(`unknown field ${JSON.stringify(part)}`);
      if (fields.includes(field)) throw new Error(`duplicated field ${JSON.stringify(part)}`);
      fields.push(field);
    }
    return fields;
  };
}

/** Below this a limit is a mistake such as `16m` (milli-bytes) for `16M`. */
const MEMORY_MIN_BYTES = 4096;

export function memoryLimit(value: string): Isolator {
  const bytes = quantityUnits(value);
  if (bytes === undefined) throw new Error(`expected ${QUANTITY_EXPECTATION}`);
  if (bytes < MEMORY_MIN_BYTES) throw new Error(`memory limit of ${bytes} bytes too low. Try a reasonable value, such as --memory=16M`);
  return { name: 'resource/memory', value: { request: value, limit: value } };
}

export function cpuLimit(value: string): Isolator {
  const nano = quantityNano(value);
  if (nano === undefined || nano <= 0n) throw new Error(`expected ${QUANTITY_EXPECTATION}, more than 0`);
  return { name: 'resource/cpu', value: { request: value, limit: value } };
}

/** Size of the virtual machine: MiB when there is no suffix. */
export function memoryMib(value: string): number {
  if (/^\d+$/.test(value)) return wholeNumber(16, 1 << 24)(value);
  const bytes = quantityUnits(value);
  if (bytes === undefined) throw new Error('expected MiB or a quantity such as 512Mi, 2G');
  return wholeNumber(16, 1 << 24)(String(Math.ceil(bytes / 2 ** 20)));
}

const CAPABILITY = /^CAP_[A-Z0-9_]+$/;

export function capabilities(name: 'os/linux/capabilities-retain-set' | 'os/linux/capabilities-remove-set'): (value: string) => Isolator {
  return (value) => {
    const set = value.split(',').map((part) => part.trim()).filter((part) => part !== '');
    if (set.length === 0) throw new Error('expected a comma-separated list of capabilities');
    const wrong = set.find((capability) => !CAPABILITY.test(capability));
    if (wrong !== undefined) throw new Error(`expected capabilities such as CAP_NET_ADMIN, found ${JSON.stringify(wrong)}`);
    return { name, value: { set } };
  };
}

/** `mode=retain|remove[,errno=EXXX],syscall|@wildcard,…` */
export function seccomp(value: string): Isolator {
  let mode: string | undefined;
  let errno: string | undefined;
  const set: string[] = [];
  for (const part of value.split(',').map((entry) => entry.trim())) {
    if (part.startsWith('mode=')) mode = part.slice('mode='.length);
    else if (part.startsWith('errno=')) errno = part.slice('errno='.length);
    else if (/^(@[a-z][a-z.]*\/[a-z-]+|[a-z0-9_]+)$/.test(part)) set.push(part);
    else throw new Error(`expected a system call, a @wildcard, mode=… or errno=…, found ${JSON.stringify(part)}`);
  }
  if (mode !== 'retain' && mode !== 'remove') throw new Error('expected mode=retain or mode=remove');
  if (errno !== undefined && !/^E[A-Z0-9]+$/.test(errno)) throw new Error(`errno must be an upper case string, such as EPERM, found ${JSON.stringify(errno)}`);
  if (set.length === 0) throw new Error('expected at least one system call or @wildcard');
  return { name: `os/linux/seccomp-${mode}-set`, value: errno === undefined ? { set } : { set, errno } };
}

export function oomScoreAdjust(value: string): Isolator {
  return { name: 'os/linux/oom-score-adj', value: wholeNumber(-1000, 1000)(value) };
}

export function cpuShares(value: string): Isolator {
  return { name: 'os/linux/cpu-shares', value: wholeNumber(2, 262144)(value) };
}

export function pidsLimit(value: string): Isolator {
  return { name: 'coreos.com/rkt/pids-limit', value: wholeNumber(1, PIDS_LIMIT_MAX)(value) };
}

/** `NAME=SOFT[:HARD]`, as podman has it; -1 or `unlimited` is no limit. */
export function ulimit(value: string): [RlimitName, Rlimit] {
  const [given = '', limits = ''] = value.split(/=(.*)/s);
  const name = RLIMIT_NAMES.find((known) => known === given);
  if (name === undefined) throw new Error(`unknown limit ${JSON.stringify(given)}, expected one of ${RLIMIT_NAMES.join(', ')}`);
  const [soft = '', hard = soft, ...more] = limits.split(':');
  if (more.length > 0) throw new Error('expected NAME=SOFT[:HARD]');
  const limit = { soft: limitNumber(soft), hard: limitNumber(hard) };
  if (!isRlimit(limit)) throw new Error(`soft limit ${soft} is beyond the hard limit ${hard}`);
  return [name, limit];
}

function limitNumber(value: string): number {
  return value === 'unlimited' ? UNLIMITED : wholeNumber(UNLIMITED, Number.MAX_SAFE_INTEGER)(value);
}

export function sysctl(value: string): NameValue {
  const pair = nameValue('expected KEY=VALUE')(value);
  if (sysctlPath(pair.name) === undefined) throw new Error(`expected ${SYSCTL_EXPECTATION}, found ${JSON.stringify(pair.name)}`);
  return pair;
}

/** `key=value` parts separated by commas; each key once. */
function keyValues(value: string): Map<string, string> {
  const pairs = new Map<string, string>();
  for (const part of value.split(',')) {
    const equals = part.indexOf('=');
    const key = equals === -1 ? part : part.slice(0, equals);
    if (pairs.has(key)) throw new Error(`label ${key} with multiple values`);
    pairs.set(key, equals === -1 ? '' : part.slice(equals + 1));
  }
  return pairs;
}

/** `volume=NAME,target=PATH` */
export function mount(value: string): Mount {
  const result: Mount = { volume: '', path: '' };
  for (const [key, part] of keyValues(value)) {
    if (key === 'volume') result.volume = part;
    else if (key === 'target') result.path = part;
    else throw new Error(`unknown mount parameter ${JSON.stringify(key)}`);
  }
  if (!isACName(result.volume)) throw new Error(`invalid volume name ${JSON.stringify(result.volume)} in --mount flag ${JSON.stringify(value)}`);
  if (result.path === '') throw new Error('expected target=PATH');
  return result;
}

const VOLUME_KEYS: readonly string[] = ['kind', 'source', 'readOnly', 'recursive', 'mode', 'uid', 'gid'];

/** `NAME,kind=empty[,mode=0755][,uid=0][,gid=0]`, `NAME,kind=host,source=ABS[,readOnly=true][,recursive=true]` */
export function volume(value: string): Volume {
  const [name = '', ...rest] = value.split(',');
  if (!isACName(name)) throw new Error(`invalid volume name ${JSON.stringify(name)}`);
  const pairs = rest.length === 0 ? new Map<string, string>() : keyValues(rest.join(','));
  const unknown = [...pairs.keys()].find((key) => !VOLUME_KEYS.includes(key));
  if (unknown !== undefined) throw new Error(`unknown volume parameter ${JSON.stringify(unknown)}`);
  const readOnly = pairs.has('readOnly') ? { readOnly: boolean(pairs.get('readOnly') ?? '') } : {};
  const recursive = pairs.has('recursive') ? { recursive: boolean(pairs.get('recursive') ?? '') } : {};
  const kind = pairs.get('kind');
  if (kind === 'empty') {
    if (pairs.has('source')) throw new Error('source for empty volume must be empty');
    const mode = pairs.get('mode') ?? '0755';
    if (!/^[0-7]{1,5}$/.test(mode)) throw new Error(`mode must be an octal number such as 0755, found ${JSON.stringify(mode)}`);
    const id = wholeNumber(0, 0xffff_fffe);
    return { name, kind, ...readOnly, ...recursive, mode, uid: id(pairs.get('uid') ?? '0'), gid: id(pairs.get('gid') ?? '0') };
  }
  if (kind === 'host') {
    const source = pairs.get('source') ?? '';
    if (!source.startsWith('/')) throw new Error('source for host volume must be absolute path');
    if (['mode', 'uid', 'gid'].some((key) => pairs.has(key))) throw new Error('mode, uid and gid for host volume must not be set');
    return { name, kind, source: cleanPath(source), ...readOnly, ...recursive };
  }
  throw new Error('unrecognized volume kind: should be one of "empty", "host"');
}

/** As rkt did: by its text alone, whatever links there are. */
function cleanPath(path: string): string {
  const clean = posix.normalize(path);
  return clean.length > 1 && clean.endsWith('/') ? clean.slice(0, -1) : clean;
}

/** A flag of rkt that this version does not have yet: it is known, and refused in clear words. */
export function unsupported(flag: string): (value: string) => never {
  return () => {
    throw new RktError('UNSUPPORTED', `--${flag} is not supported by this version of rkt`);
  };
}
