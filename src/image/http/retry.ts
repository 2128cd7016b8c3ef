/** Trying again what may succeed the next time. */
import { setTimeout as sleep } from 'node:timers/promises';
import { RktError } from '../../error.ts';

export interface RetryPolicy {
  /** In all, the first one included. */
  attempts: number;
  /** Doubled from one pause to the next. */
  firstPauseMs: number;
  longestPauseMs: number;
  /** A server that asks for a longer pause (`Retry-After`) is not waited for. */
  longestRetryAfterMs: number;
}

export const DEFAULT_RETRY_POLICY: RetryPolicy = { attempts: 5, firstPauseMs: 500, longestPauseMs: 8000, longestRetryAfterMs: 60_000 };

/** A failure that another attempt may not meet. `error` is what is reported when there is none. */
export class TransientFailure extends Error {
  override readonly name = 'TransientFailure';
  readonly error: RktError;
  /** The pause the server asks for. */
  readonly retryAfterMs: number | undefined;

  constructor(error: RktError, retryAfterMs?: number) {
    super(error.message);
    this.error = error;
    this.retryAfterMs = retryAfterMs;
  }
}

export interface RetryHooks {
  signal?: AbortSignal;
  onRetry?: (error: RktError, pauseMs: number) => void;
}

/** Runs `attempt` until it succeeds or fails in a way that will not change. Throws RktError. */
export async function withRetries<T>(policy: RetryPolicy, attempt: () => Promise<T>, { signal, onRetry }: RetryHooks = {}): Promise<T> {
  for (let number = 1; ; number++) {
    try {
      return await attempt();
    } catch (failure) {
      if (!(failure instanceof TransientFailure)) throw failure;
      if (number >= policy.attempts) throw failure.error;
      const pause = pauseMs(policy, number, failure);
      onRetry?.(failure.error, pause);
      await sleep(pause, undefined, signal === undefined ? {} : { signal });
    }
  }
}

/** The pause behind the attempt of that number. Throws the failure's error when the server wants too long a pause. */
export function pauseMs(policy: RetryPolicy, attempt: number, failure: TransientFailure): number {
  const { retryAfterMs } = failure;
  if (retryAfterMs !== undefined) {
    if (retryAfterMs <= policy.longestRetryAfterMs) return retryAfterMs;
    throw new RktError(failure.error.code, failure.error.message, { cause: failure.error, hint: `the server asks to wait ${Math.ceil(retryAfterMs / 1000)} seconds` });
  }
  const pause = Math.min(policy.firstPauseMs * 2 ** (attempt - 1), policy.longestPauseMs);
  // Many clients that failed together should not all come back together.
  return Math.round(pause * (0.75 + Math.random() / 2));
}

/** Milliseconds of a `Retry-After` header (RFC 9110, 10.2.3): seconds or a date. Undefined when it is neither. */
export function parseRetryAfter(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  const text = value.trim();
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const dateMs = text.endsWith(' GMT') ? Date.parse(text) : NaN;
  return Number.isNaN(dateMs) ? undefined : Math.max(0, dateMs - nowMs);
}
