/**
 * Isolators of appc (spec/ace.md, "Isolators"): limits and confinement of an app. What the specification has no word for has
 * a name below `coreos.com/rkt/`, so that it cannot be taken for one of a later specification.
 */
import { anyValue, arrayOf, booleanValue, fail, fieldOf, integerBetween, integerValue, mapOf, objectOf, optional, quote, refined, stringValue } from './check.ts';
import type { Check } from './check.ts';
import { acIdentifier } from './names.ts';
import { QUANTITY_EXPECTATION, quantityNano } from './quantity.ts';

/** Quantities stay as written (`16Mi`, `500m`): see quantity.ts for numbers. */
export interface ResourceValue {
  default?: boolean;
  request?: string;
  limit?: string;
}

export interface CapabilitySet {
  /** `CAP_…` */
  set: string[];
}

export interface SeccompSet {
  /** System call names and wildcards (`@appc.io/all`). */
  set: string[];
  /** `EPERM`; absent: the kernel kills the process. */
  errno?: string;
}

export interface SelinuxContext {
  user: string;
  role: string;
  type: string;
  level: string;
}

/** Names as `ulimit` and podman have them, without RLIMIT_. */
export const RLIMIT_NAMES = [
  'as', 'core', 'cpu', 'data', 'fsize', 'locks', 'memlock', 'msgqueue', 'nice', 'nofile', 'nproc', 'rss', 'rtprio', 'rttime', 'sigpending', 'stack',
] as const;
export type RlimitName = (typeof RLIMIT_NAMES)[number];

/** In the units of setrlimit(2); -1 is no limit. */
export interface Rlimit {
  soft: number;
  hard: number;
}

export type Isolator =
  | { name: 'resource/memory'; value: ResourceValue }
  | { name: 'resource/cpu'; value: ResourceValue }
  | { name: 'resource/block-bandwidth'; value: ResourceValue }
  | { name: 'resource/block-iops'; value: ResourceValue }
  | { name: 'resource/network-bandwidth'; value: ResourceValue }
  | { name: 'os/linux/capabilities-retain-set'; value: CapabilitySet }
  | { name: 'os/linux/capabilities-remove-set'; value: CapabilitySet }
  | { name: 'os/linux/seccomp-retain-set'; value: SeccompSet }
  | { name: 'os/linux/seccomp-remove-set'; value: SeccompSet }
  | { name: 'os/linux/no-new-privileges'; value: boolean }
  | { name: 'os/linux/oom-score-adj'; value: number }
  | { name: 'os/linux/cpu-shares'; value: number }
  | { name: 'os/linux/selinux-context'; value: SelinuxContext }
  | { name: 'os/linux/apparmor-profile'; value: string }
  | { name: 'os/unix/sysctl'; value: Record<string, string> }
  | { name: 'coreos.com/rkt/pids-limit'; value: number }
  | { name: 'coreos.com/rkt/rlimits'; value: Partial<Record<RlimitName, Rlimit>> };

export type IsolatorName = Isolator['name'];
export type IsolatorValue<N extends IsolatorName> = Extract<Isolator, { name: N }>['value'];

/** An isolator nobody knows. Allowed at pod level, where it has no effect; refused in an app. */
export interface UnrecognizedIsolator {
  name: string;
  value?: unknown;
}

const quantity: Check<string> = (value, place) => {
  const text = typeof value === 'number' ? String(value) : stringValue(value, place);
  return quantityNano(text) === undefined ? fail(place, `expected ${QUANTITY_EXPECTATION}, found ${quote(text)}`) : text;
};

const resourceValue = objectOf<ResourceValue>({ default: optional(booleanValue), request: optional(quantity), limit: optional(quantity) });

/** cpu and memory: amounts of this one app. */
const ownResource = refined(resourceValue, (value) => {
  if (value.default === true) return 'default must be false';
  if ([value.request, value.limit].some((text) => text !== undefined && (quantityNano(text) ?? 0n) < 0n)) return 'must not be negative';
  return undefined;
});

/** Bandwidths: only a default for all devices exists. */
const sharedResource = refined(resourceValue, (value) => {
  if (value.default !== true) return 'default must be true';
  if (value.request !== undefined) return 'request not supported by this resource, must be empty';
  return undefined;
});

const nonEmptySet = refined(arrayOf(stringValue), (set) => (set.length === 0 ? 'set must be non-empty' : undefined));
const capabilitySet = objectOf<CapabilitySet>({ set: nonEmptySet });
const seccompSet = objectOf<SeccompSet>({
  set: nonEmptySet,
  errno: (value, place) => {
    const errno = optional(stringValue)(value, place);
    if (errno === undefined || errno === '') return undefined;
    return /^E[A-Z0-9]+$/.test(errno) ? errno : fail(place, `errno must be an upper case string, such as EPERM, found ${quote(errno)}`);
  },
});

function numberBetween(name: IsolatorName, minimum: number, maximum: number): Check<number> {
  return refined(integerValue, (value) => (value < minimum || value > maximum ? `${name} must be between ${minimum} and ${maximum}, got ${value}` : undefined));
}

/** A part of a SELinux context; only the last, the level, may hold a colon. */
function contextPart(part: keyof SelinuxContext): Check<string> {
  return refined(stringValue, (text) => (text === '' || (part !== 'level' && text.includes(':')) ? `invalid ${part} value ${quote(text)}` : undefined));
}

/** What the kernel can have at most (PID_MAX_LIMIT). */
export const PIDS_LIMIT_MAX = 4_194_304;
export const UNLIMITED = -1;

const limitNumber = integerBetween(UNLIMITED, Number.MAX_SAFE_INTEGER);

/** A soft limit cannot be beyond the hard one. */
export function isRlimit({ soft, hard }: Rlimit): boolean {
  return hard === UNLIMITED || (soft !== UNLIMITED && soft <= hard);
}

const rlimit = refined(objectOf<Rlimit>({ soft: limitNumber, hard: limitNumber }), (value) =>
  isRlimit(value) ? undefined : `soft limit ${value.soft} is beyond the hard limit ${value.hard}`,
);

const rlimits: Check<Partial<Record<RlimitName, Rlimit>>> = refined(mapOf(rlimit), (limits) => {
  const unknown = Object.keys(limits).find((name) => !RLIMIT_NAMES.some((known) => known === name));
  return unknown === undefined ? undefined : `unknown limit ${quote(unknown)}, expected one of ${RLIMIT_NAMES.join(', ')}`;
});

/**
 * Path below /proc/sys of a key such as `net.ipv4.ip_forward`; undefined for what is none. As sysctl(8) reads it: where the first
 * separator is a slash, a dot is part of a name (`net/ipv4/conf/eth0.1/forwarding`); else a slash stands for one.
 */
export function sysctlPath(key: string): string | undefined {
  if (!/^[A-Za-z0-9_.:/-]{3,255}$/.test(key)) return undefined;
  const isPath = (/[./]/.exec(key)?.[0] ?? '.') === '/';
  const path = isPath ? key : [...key].map((letter) => (letter === '.' ? '/' : letter === '/' ? '.' : letter)).join('');
  const parts = path.split('/');
  return parts.length > 1 && parts.every((part) => part !== '' && part !== '.' && part !== '..') ? path : undefined;
}

export const SYSCTL_EXPECTATION = 'a key such as net.ipv4.ip_forward';

const sysctls = refined(mapOf(stringValue), (values) => {
  const wrong = Object.keys(values).find((key) => sysctlPath(key) === undefined);
  return wrong === undefined ? undefined : `expected ${SYSCTL_EXPECTATION}, found ${quote(wrong)}`;
});

const VALUE_CHECKS: { readonly [N in IsolatorName]: Check<IsolatorValue<N>> } = {
  'resource/memory': ownResource,
  'resource/cpu': ownResource,
  'resource/block-bandwidth': sharedResource,
  'resource/block-iops': sharedResource,
  'resource/network-bandwidth': sharedResource,
  'os/linux/capabilities-retain-set': capabilitySet,
  'os/linux/capabilities-remove-set': capabilitySet,
  'os/linux/seccomp-retain-set': seccompSet,
  'os/linux/seccomp-remove-set': seccompSet,
  'os/linux/no-new-privileges': booleanValue,
  'os/linux/oom-score-adj': numberBetween('os/linux/oom-score-adj', -1000, 1000),
  'os/linux/cpu-shares': numberBetween('os/linux/cpu-shares', 2, 262144),
  'os/linux/selinux-context': objectOf<SelinuxContext>({ user: contextPart('user'), role: contextPart('role'), type: contextPart('type'), level: contextPart('level') }),
  'os/linux/apparmor-profile': stringValue,
  'os/unix/sysctl': sysctls,
  'coreos.com/rkt/pids-limit': numberBetween('coreos.com/rkt/pids-limit', 1, PIDS_LIMIT_MAX),
  'coreos.com/rkt/rlimits': rlimits,
};

const ONCE_ONLY: readonly string[] = [
  'os/linux/seccomp-retain-set',
  'os/linux/seccomp-remove-set',
  'os/linux/oom-score-adj',
  'os/linux/cpu-shares',
  'os/linux/selinux-context',
  'os/linux/apparmor-profile',
  'os/unix/sysctl',
  'coreos.com/rkt/pids-limit',
  'coreos.com/rkt/rlimits',
] satisfies IsolatorName[];

const INCOMPATIBLE: readonly (readonly [IsolatorName, IsolatorName])[] = [
  ['os/linux/capabilities-retain-set', 'os/linux/capabilities-remove-set'],
  ['os/linux/seccomp-retain-set', 'os/linux/seccomp-remove-set'],
];

/** Accepted and without effect, as in rkt: none of them has a meaning in a pod's own kernel, or nothing there to enforce it. */
const WITHOUT_EFFECT: readonly string[] = [
  'resource/block-bandwidth', 'resource/block-iops', 'resource/network-bandwidth', 'os/linux/selinux-context', 'os/linux/apparmor-profile',
] satisfies IsolatorName[];

export function hasNoEffect({ name }: Pick<Isolator, 'name'>): boolean {
  return WITHOUT_EFFECT.includes(name);
}

/** What can be said of a pod as a whole. */
const POD_ISOLATORS: readonly string[] = ['resource/memory', 'resource/cpu'] satisfies IsolatorName[];

export function isPodIsolator({ name }: UnrecognizedIsolator): boolean {
  return POD_ISOLATORS.includes(name);
}

export function isIsolatorName(name: string): name is IsolatorName {
  return Object.hasOwn(VALUE_CHECKS, name);
}

const namedValue = objectOf<UnrecognizedIsolator>({ name: acIdentifier, value: anyValue });

/** One isolator; an unknown name is refused. */
export const isolator: Check<Isolator> = (value, place) => {
  const { name, value: given } = namedValue(value, place);
  if (!isIsolatorName(name)) fail(place, `invalid isolator ${quote(name)}`);
  return { name, value: VALUE_CHECKS[name](given, fieldOf(place, 'value')) } as Isolator;
};

/** The isolators of an app. */
export const appIsolators: Check<Isolator[]> = refined(arrayOf(isolator), (isolators) => {
  const seen = new Set<string>();
  for (const { name } of isolators) {
    if (seen.has(name) && ONCE_ONLY.includes(name)) return `isolators set contains too many instances of type ${name}`;
    seen.add(name);
  }
  return INCOMPATIBLE.some((pair) => pair.every((name) => seen.has(name))) ? 'isolators set contains incompatible types' : undefined;
});

/** The isolators of a pod: known ones are checked, unknown ones pass. */
export const podIsolators: Check<(Isolator | UnrecognizedIsolator)[]> = arrayOf((value, place) => {
  const named = namedValue(value, place);
  return isIsolatorName(named.name) ? isolator(value, place) : named;
});

/** The value of the last isolator of that name, which is the one that counts. */
export function isolatorValue<N extends IsolatorName>(isolators: readonly Isolator[] | undefined, name: N): IsolatorValue<N> | undefined {
  return isolators?.findLast((candidate) => candidate.name === name)?.value as IsolatorValue<N> | undefined;
}
