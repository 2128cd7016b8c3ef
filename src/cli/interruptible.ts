/** Commands that have to clean up when they are interrupted. */

/** The first interrupt aborts `signal`; `done` leaves further ones to themselves. */
export function interruptible(): { signal: AbortSignal; done(): void } {
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const name of signals) process.once(name, abort);
  return { signal: controller.signal, done: () => signals.forEach((name) => process.off(name, abort)) };
}
