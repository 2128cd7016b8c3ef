/** Whether KVM of this host is worth using, judged by what a guest of a few instructions did. Pure. */

/** Times of the probe guest's parts in milliseconds, each the best of ROUNDS, as far as it got. */
export interface ProbeReport {
  /** What could not be done at all, in words; null: it came to the end. */
  failure: string | null;
  loopMs: number | null;
  controlMs: number | null;
  exitsMs: number | null;
}

export interface KvmVerdict {
  usable: boolean;
  /** One sentence each; at least one when it is not usable. */
  reasons: string[];
}

/** Each part is done so often, because a busy host may interrupt one. */
export const ROUNDS = 3;
/** How often the guest does each thing in a round: long enough to be measured, short enough for a host that is a thousand times slower. */
export const LOOP_ITERATIONS = 30_000;
export const CONTROL_ITERATIONS = 300;
export const EXIT_ITERATIONS = 30;

/**
 * Emulation in software (TCG) does a counted loop at some 300 million rounds a second. Hardware does more than a
 * billion; a host that emulates ring 0 one instruction at a time, less than ten.
 */
const LEAST_LOOPS_PER_MS = 100_000;
/** Reloading the page tables: below a microsecond on hardware, a few when nested. */
const MOST_CONTROL_US = 20;
/** One way out to user space and back: a few microseconds on hardware, some tens when nested. */
const MOST_EXIT_US = 200;

export function judge(report: ProbeReport): KvmVerdict {
  const reasons: string[] = [];
  if (report.failure !== null) reasons.push(report.failure);
  if (report.loopMs !== null && LOOP_ITERATIONS / report.loopMs < LEAST_LOOPS_PER_MS) {
    const millions = Math.round(LOOP_ITERATIONS / report.loopMs / 100) / 10;
    reasons.push(`kernel code runs at ${millions} million loops a second, slower than software emulation: this host emulates it`);
  }
  const perOperation = (ms: number, count: number): number => Math.round((ms * 10_000) / count) / 10;
  if (report.controlMs !== null && perOperation(report.controlMs, CONTROL_ITERATIONS) > MOST_CONTROL_US) {
    reasons.push(`loading a page table takes ${perOperation(report.controlMs, CONTROL_ITERATIONS)} µs`);
  }
  if (report.exitsMs !== null && perOperation(report.exitsMs, EXIT_ITERATIONS) > MOST_EXIT_US) {
    reasons.push(`leaving the guest takes ${perOperation(report.exitsMs, EXIT_ITERATIONS)} µs`);
  }
  return { usable: reasons.length === 0, reasons };
}

/** What /run/rkt/accelerator.json holds. */
export interface AcceleratorRecord {
  formatVersion: 1;
  bootId: string;
  accelerator: 'kvm' | 'tcg';
  reasons: string[];
  probe: ProbeReport;
}

/** The record when it is one and from this boot, else null. */
export function parseRecord(value: unknown, bootId: string): AcceleratorRecord | null {
  const record = value as Partial<AcceleratorRecord> | null;
  if (typeof record !== 'object' || record === null || record.formatVersion !== 1 || record.bootId !== bootId) return null;
  if ((record.accelerator !== 'kvm' && record.accelerator !== 'tcg') || !Array.isArray(record.reasons)) return null;
  return record as AcceleratorRecord;
}
