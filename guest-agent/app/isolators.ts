/** Isolators of one app → what is enforced (appc spec, ace.md; names and precedence as rkt). */
import { asBoolean, asInteger, asList, asObject, asString, BadFieldError, optional } from '../checked.ts';
import { capabilityNumber, DEFAULT_CAPABILITIES } from './capabilities.ts';
import type { Isolator } from './manifest.ts';
import { parseQuantity } from './quantity.ts';
import { readRlimits, type Rlimit } from './rlimits.ts';

export interface SeccompRule {
  mode: 'retain' | 'remove';
  /** Names and @wildcards. */
  set: string[];
  /** `EPERM` and the like; without it a blocked call ends the process with SIGSYS. */
  errno: string | undefined;
}

export interface Limits {
  memoryBytes: number | undefined;
  /** Thousandths of a CPU. */
  cpuMilli: number | undefined;
  cpuShares: number | undefined;
  /** Processes and threads. */
  pids: number | undefined;
}

export interface Isolation {
  limits: Limits;
  capabilities: readonly number[];
  noNewPrivileges: boolean;
  /** Undefined: the default filter. */
  seccomp: SeccompRule | undefined;
  oomScoreAdjust: number | undefined;
  /** Of each process. */
  rlimits: readonly Rlimit[];
  /** Of the pod's kernel. */
  sysctls: ReadonlyMap<string, string>;
}

const asCpuShares = asInteger({ min: 2, max: 262144 });
const asOomScore = asInteger({ min: -1000, max: 1000 });
const asPids = asInteger({ min: 1, max: 4_194_304 });

/** Nothing in the guest enforces them; rkt accepted and ignored them, too. The host says so to whoever starts the pod. */
const WITHOUT_EFFECT: readonly string[] = [
  'resource/block-bandwidth', 'resource/block-iops', 'resource/network-bandwidth', 'os/linux/selinux-context', 'os/linux/apparmor-profile',
];

/** Throws BadFieldError for an isolator that is not known: it may be meant to keep the app from something. */
export function readIsolators(isolators: readonly Isolator[]): Isolation {
  const isolation: Isolation = {
    limits: { memoryBytes: undefined, cpuMilli: undefined, cpuShares: undefined, pids: undefined },
    capabilities: DEFAULT_CAPABILITIES,
    noNewPrivileges: false,
    seccomp: undefined,
    oomScoreAdjust: undefined,
    rlimits: [],
    sysctls: new Map(),
  };
  const retained = new Set<number>();
  const removed = new Set<number>();
  let retains = false;
  for (const { name, value } of isolators) {
    switch (name) {
      case 'resource/memory':
        isolation.limits.memoryBytes = Math.floor(limitOf(value, name) ?? Infinity);
        break;
      case 'resource/cpu':
        isolation.limits.cpuMilli = Math.ceil((limitOf(value, name) ?? Infinity) * 1000);
        break;
      case 'os/linux/cpu-shares':
        isolation.limits.cpuShares = asCpuShares(value, name);
        break;
      case 'os/linux/oom-score-adj':
        isolation.oomScoreAdjust = asOomScore(value, name);
        break;
      case 'os/linux/no-new-privileges':
        isolation.noNewPrivileges = asBoolean(value, name);
        break;
      case 'os/linux/capabilities-retain-set':
        retains = true;
        for (const capability of namesIn(value, name)) retained.add(capabilityNumber(capability, name));
        break;
      case 'os/linux/capabilities-remove-set':
        for (const capability of namesIn(value, name)) removed.add(capabilityNumber(capability, name));
        break;
      case 'os/linux/seccomp-retain-set':
      case 'os/linux/seccomp-remove-set':
        if (isolation.seccomp !== undefined) throw new BadFieldError('too many seccomp isolators specified');
        isolation.seccomp = {
          mode: name.endsWith('retain-set') ? 'retain' : 'remove',
          set: namesIn(value, name),
          errno: optional(asObject(value, name)['errno'], `${name}.errno`, asString) || undefined,
        };
        break;
      case 'coreos.com/rkt/pids-limit':
        isolation.limits.pids = asPids(value, name);
        break;
      case 'coreos.com/rkt/rlimits':
        isolation.rlimits = readRlimits(value, name);
        break;
      case 'os/unix/sysctl':
        isolation.sysctls = new Map(Object.entries(asObject(value, name)).map(([key, setting]) => [key, asString(setting, `${name}.${key}`)]));
        break;
      default:
        if (!WITHOUT_EFFECT.includes(name)) throw new BadFieldError(`isolator ${name}: not known`);
    }
  }
  if (retains && removed.size > 0) throw new BadFieldError('isolators os/linux/capabilities-retain-set and os/linux/capabilities-remove-set exclude each other');
  isolation.capabilities = retains ? [...retained] : DEFAULT_CAPABILITIES.filter((capability) => !removed.has(capability));
  normalizeLimits(isolation.limits);
  return isolation;
}

/** No app may use more of the processors than the whole pod. */
export function boundByPod(limits: Limits, podIsolators: readonly Isolator[]): Limits {
  const { cpuMilli } = readIsolators(podIsolators).limits;
  return cpuMilli === undefined ? limits : { ...limits, cpuMilli: Math.min(limits.cpuMilli ?? Infinity, cpuMilli) };
}

function limitOf(value: Isolator['value'], name: string): number | undefined {
  const limit = asObject(value, name)['limit'];
  if (typeof limit === 'number') return limit;
  const text = optional(limit, `${name}.limit`, asString);
  return text === undefined || text === '' ? undefined : parseQuantity(text, `${name}.limit`);
}

const namesIn = (value: Isolator['value'], name: string): string[] => asList(asObject(value, name)['set'], `${name}.set`, asString);

function normalizeLimits(limits: Limits): void {
  if (!Number.isFinite(limits.memoryBytes) || limits.memoryBytes === 0) limits.memoryBytes = undefined;
  if (!Number.isFinite(limits.cpuMilli) || limits.cpuMilli === 0) limits.cpuMilli = undefined;
}
