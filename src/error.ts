/** What went wrong, as a closed set: scripts match on these, so a code is never renamed. */
export const ERROR_CODES = [
  'USAGE',
  'NOT_FOUND',
  'AMBIGUOUS',
  'STATE',
  'PERMISSION',
  'BAD_INPUT',
  'BAD_IMAGE',
  'DIGEST',
  'BAD_SIGNATURE',
  'LIMIT',
  'UNSUPPORTED',
  'MISSING_DEPENDENCY',
  'NO_SPACE',
  'IO',
  'BUSY',
  'NETWORK',
  'GUEST',
  'INTERNAL',
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

export interface RktErrorOptions {
  /** What the user can do about it, one line. */
  hint?: string;
  cause?: unknown;
}

/** The one error class for everything a user can cause or must act on. */
export class RktError extends Error {
  override readonly name = 'RktError';
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: RktErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
  }
}
