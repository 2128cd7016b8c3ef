/**
 * What ends a stage1 command with `stage1: MESSAGE` and exit status 254: something the user, the host or the guest
 * caused. Anything else that is thrown is a defect and printed with its stack.
 */
export class Stage1Error extends Error {
  readonly hint: string | null;

  constructor(message: string, hint: string | null = null) {
    super(message);
    this.hint = hint;
  }
}

/** Exit status of every failure of stage1 itself, as rkt's. */
export const STAGE1_FAILURE = 254;
