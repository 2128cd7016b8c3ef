/** Whether and when an app that has ended is started again. Pure. */
import type { ExitStatus } from '../../src/wire/messages.ts';
import type { RestartPolicy } from '../../src/wire/app-settings.ts';

const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 60_000;
/** After a run as long as this the next failure is a new one. */
const SETTLED_MS = 10_000;

export class Restarts {
  readonly #policy: RestartPolicy;
  #delayMs = FIRST_DELAY_MS;
  #count = 0;

  constructor(policy: RestartPolicy) {
    this.#policy = policy;
  }

  /** Starts so far that were not the first. */
  get count(): number {
    return this.#count;
  }

  /** The run has ended: counts a restart and says how long to wait for it, or undefined when this was the last run. */
  next(status: ExitStatus, ranMs: number): number | undefined {
    if (!this.#applies(status)) return undefined;
    if (ranMs >= SETTLED_MS) this.#delayMs = FIRST_DELAY_MS;
    const delayMs = this.#delayMs;
    this.#delayMs = Math.min(delayMs * 2, LONGEST_DELAY_MS);
    this.#count++;
    return delayMs;
  }

  #applies(status: ExitStatus): boolean {
    const policy = this.#policy;
    if (policy.kind !== 'on-failure') return policy.kind === 'always';
    const hasFailed = status.kind === 'signal' || status.code !== 0;
    return hasFailed && (policy.maxRestarts === null || this.#count < policy.maxRestarts);
  }
}
