/** Names of resource limits (setrlimit(2), without RLIMIT_), as the isolator `coreos.com/rkt/rlimits` has them. */
import {
  RLIMIT_AS, RLIMIT_CORE, RLIMIT_CPU, RLIMIT_DATA, RLIMIT_FSIZE, RLIMIT_LOCKS, RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE, RLIMIT_NICE, RLIMIT_NOFILE, RLIMIT_NPROC,
  RLIMIT_RSS, RLIMIT_RTPRIO, RLIMIT_RTTIME, RLIMIT_SIGPENDING, RLIMIT_STACK,
} from '../../runtime/abi.gen.ts';
import { asInteger, asObject, fail } from '../checked.ts';

const NUMBERS: Record<string, number> = {
  as: RLIMIT_AS, core: RLIMIT_CORE, cpu: RLIMIT_CPU, data: RLIMIT_DATA, fsize: RLIMIT_FSIZE, locks: RLIMIT_LOCKS, memlock: RLIMIT_MEMLOCK,
  msgqueue: RLIMIT_MSGQUEUE, nice: RLIMIT_NICE, nofile: RLIMIT_NOFILE, nproc: RLIMIT_NPROC, rss: RLIMIT_RSS, rtprio: RLIMIT_RTPRIO, rttime: RLIMIT_RTTIME,
  sigpending: RLIMIT_SIGPENDING, stack: RLIMIT_STACK,
};

const RLIM_INFINITY = 0xffff_ffff_ffff_ffffn;

export interface Rlimit {
  /** RLIMIT_… */
  resource: number;
  soft: bigint;
  hard: bigint;
}

/** `{"nofile": {"soft": 1024, "hard": 4096}}`; -1 is no limit. Throws BadFieldError. */
export function readRlimits(value: unknown, field: string): Rlimit[] {
  return Object.entries(asObject(value, field)).map(([name, limits]) => {
    const resource = Object.hasOwn(NUMBERS, name) ? NUMBERS[name] : undefined;
    if (resource === undefined) fail(`${field}.${name}`, 'name of a resource limit');
    const { soft, hard } = asObject(limits, `${field}.${name}`);
    const limit = { resource, soft: limitNumber(soft, `${field}.${name}.soft`), hard: limitNumber(hard, `${field}.${name}.hard`) };
    if (limit.soft > limit.hard) fail(`${field}.${name}.soft`, 'number not beyond the hard limit');
    return limit;
  });
}

const asLimit = asInteger({ min: -1, max: Number.MAX_SAFE_INTEGER });

function limitNumber(value: unknown, field: string): bigint {
  const number = asLimit(value, field);
  return number < 0 ? RLIM_INFINITY : BigInt(number);
}
