/** TPM response codes (TPM 2.0 Library, part 2, 6.6) and the error they become. */
import { RktError } from '../error.ts';

export const TPM_RC = {
  success: 0x000,
  badTag: 0x01e,
  initialize: 0x100,
  failure: 0x101,
  upgrade: 0x12d,
  commandSize: 0x142,
  commandCode: 0x143,
  /** Format-1 codes: the number of the handle or parameter is added. */
  hierarchy: 0x085,
  value: 0x084,
  handle: 0x08b,
  locality: 0x907,
  yielded: 0x908,
  testing: 0x90a,
  retry: 0x922,
} as const;

/** Bits 8–11 of a format-1 code that speaks of a handle: its number from 1. */
export function aboutHandle(code: number, number: number): number {
  return code | (number << 8);
}

const FORMAT_0 = 0x100;
const FORMAT_1 = 0x080;
const WARNING = 0x900;
const ABOUT_PARAMETER = 0x40;

const NAMES_0: Readonly<Record<number, string>> = {
  0x00: 'INITIALIZE', 0x01: 'FAILURE', 0x03: 'SEQUENCE', 0x0b: 'PRIVATE', 0x19: 'HMAC', 0x20: 'DISABLED', 0x21: 'EXCLUSIVE',
  0x24: 'AUTH_TYPE', 0x25: 'AUTH_MISSING', 0x26: 'POLICY', 0x27: 'PCR', 0x28: 'PCR_CHANGED', 0x2d: 'UPGRADE', 0x2e: 'TOO_MANY_CONTEXTS',
  0x2f: 'AUTH_UNAVAILABLE', 0x30: 'REBOOT', 0x31: 'UNBALANCED', 0x42: 'COMMAND_SIZE', 0x43: 'COMMAND_CODE', 0x44: 'AUTHSIZE',
  0x45: 'AUTH_CONTEXT', 0x46: 'NV_RANGE', 0x47: 'NV_SIZE', 0x48: 'NV_LOCKED', 0x49: 'NV_AUTHORIZATION', 0x4a: 'NV_UNINITIALIZED',
  0x4b: 'NV_SPACE', 0x4c: 'NV_DEFINED', 0x50: 'BAD_CONTEXT', 0x51: 'CPHASH', 0x52: 'PARENT', 0x53: 'NEEDS_TEST', 0x54: 'NO_RESULT',
  0x55: 'SENSITIVE',
};
const NAMES_1: Readonly<Record<number, string>> = {
  0x01: 'ASYMMETRIC', 0x02: 'ATTRIBUTES', 0x03: 'HASH', 0x04: 'VALUE', 0x05: 'HIERARCHY', 0x07: 'KEY_SIZE', 0x08: 'MGF', 0x09: 'MODE',
  0x0a: 'TYPE', 0x0b: 'HANDLE', 0x0c: 'KDF', 0x0d: 'RANGE', 0x0e: 'AUTH_FAIL', 0x0f: 'NONCE', 0x10: 'PP', 0x12: 'SCHEME', 0x15: 'SIZE',
  0x16: 'SYMMETRIC', 0x17: 'TAG', 0x18: 'SELECTOR', 0x1a: 'INSUFFICIENT', 0x1b: 'SIGNATURE', 0x1c: 'KEY', 0x1d: 'POLICY_FAIL',
  0x1f: 'INTEGRITY', 0x20: 'TICKET', 0x21: 'RESERVED_BITS', 0x22: 'BAD_AUTH', 0x23: 'EXPIRED', 0x24: 'POLICY_CC', 0x25: 'BINDING',
  0x26: 'CURVE', 0x27: 'ECC_POINT',
};
const NAMES_WARNING: Readonly<Record<number, string>> = {
  0x01: 'CONTEXT_GAP', 0x02: 'OBJECT_MEMORY', 0x03: 'SESSION_MEMORY', 0x04: 'MEMORY', 0x05: 'SESSION_HANDLES', 0x06: 'OBJECT_HANDLES',
  0x07: 'LOCALITY', 0x08: 'YIELDED', 0x09: 'CANCELED', 0x0a: 'TESTING', 0x10: 'REFERENCE_H0', 0x18: 'REFERENCE_S0', 0x20: 'NV_RATE',
  0x21: 'LOCKOUT', 0x22: 'RETRY', 0x23: 'NV_UNAVAILABLE',
};

/** `TPM_RC_VALUE (0x1c4), parameter 1`. */
export function responseCodeText(code: number): string {
  const number = `(0x${code.toString(16)})`;
  if ((code & FORMAT_1) !== 0) {
    const name = NAMES_1[code & 0x3f];
    const position = (code >> 8) & 0x0f;
    return `${name === undefined ? 'unknown response code' : `TPM_RC_${name}`} ${number}${positionText(code, position)}`;
  }
  if (code === 0x01e) return `TPM_RC_BAD_TAG ${number}`;
  const names = (code & WARNING) === WARNING ? NAMES_WARNING : (code & FORMAT_0) !== 0 ? NAMES_0 : {};
  const name = names[code & 0x7f];
  return `${name === undefined ? 'unknown response code' : `TPM_RC_${name}`} ${number}`;
}

function positionText(code: number, position: number): string {
  if ((code & ABOUT_PARAMETER) !== 0) return `, parameter ${position}`;
  if (position >= 8) return `, session ${position - 8}`;
  return position === 0 ? '' : `, handle ${position}`;
}

/** The TPM answered a command with an error. */
export class TpmResponseError extends RktError {
  readonly responseCode: number;

  constructor(commandName: string, responseCode: number) {
    super('IO', `TPM2_${commandName}: ${responseCodeText(responseCode)}`);
    this.responseCode = responseCode;
  }

  /** Whether the same command may be sent again as it is. */
  get isTransient(): boolean {
    return this.responseCode === TPM_RC.retry || this.responseCode === TPM_RC.yielded || this.responseCode === TPM_RC.testing;
  }
}
