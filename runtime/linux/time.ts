import { CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_REALTIME, NR_clock_gettime, NR_clock_settime } from '../abi.gen.ts';
import { check } from './errors.ts';

const timespec = new BigInt64Array(2);
/** Its lower halves: plain numbers, and enough for what has passed since a machine was started. */
const words = new Uint32Array(timespec.buffer);
const SECONDS = 0;
const NANOSECONDS = 2;

function readClock(clock: number): bigint {
  sys.call(NR_clock_gettime, clock, timespec);
  return (timespec[0] ?? 0n) * 1_000_000_000n + (timespec[1] ?? 0n);
}

export const monotonicNs = (): bigint => readClock(CLOCK_MONOTONIC);
export const wallClockNs = (): bigint => readClock(CLOCK_REALTIME);

/** Milliseconds with fraction since an unspecified moment; does not count while the machine sleeps. */
export function monotonicMs(): number {
  sys.call(NR_clock_gettime, CLOCK_MONOTONIC, timespec);
  return (words[SECONDS] ?? 0) * 1000 + (words[NANOSECONDS] ?? 0) / 1e6;
}

/** Milliseconds since the machine was started, with microseconds as fraction. */
export function uptimeMs(): number {
  sys.call(NR_clock_gettime, CLOCK_BOOTTIME, timespec);
  return (words[SECONDS] ?? 0) * 1000 + Math.floor((words[NANOSECONDS] ?? 0) / 1000) / 1000;
}

export function setWallClock(nanoseconds: bigint): void {
  check(sys.call(NR_clock_settime, CLOCK_REALTIME, new BigInt64Array([nanoseconds / 1_000_000_000n, nanoseconds % 1_000_000_000n])), 'clock_settime');
}
