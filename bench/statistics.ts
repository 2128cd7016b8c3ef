/** What measurements come to. */

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? (sorted[middle] ?? NaN) : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2;
}

export function round2(value: number): number {
  return Math.round(value * 100) / 100;
}

/** Wall time in ms. */
export function timed(run: () => unknown): number {
  const begin = performance.now();
  run();
  return performance.now() - begin;
}
