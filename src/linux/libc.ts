/**
 * The only place that knows `ffi-rs`. Loaded at the first call (4 ms), so commands that make no system call of
 * their own never pay for it. One thread only: ffi-rs keeps its tables without locks.
 */
import { createRequire } from 'node:module';
import { getSystemErrorMap, getSystemErrorName } from 'node:util';
import { RktError } from '../error.ts';
import type { ErrorCode } from '../error.ts';

type FfiRs = typeof import('ffi-rs');

const LIBRARY = 'libc';
let loaded: FfiRs | undefined;

function ffi(): FfiRs {
  if (loaded === undefined) {
    // ffi-rs asks Node's diagnostic report which libc this is; without this the report looks at all networks, too (2 ms).
    (process.report as { excludeNetwork?: boolean }).excludeNetwork = true;
    try {
      loaded = createRequire(import.meta.url)('ffi-rs') as FfiRs;
    } catch (cause) {
      throw new RktError('MISSING_DEPENDENCY', 'the package ffi-rs cannot be loaded', { cause, hint: 'run `npm ci` in the directory of rkt' });
    }
    loaded.open({ library: LIBRARY, path: 'libc.so.6' });
  }
  return loaded;
}

/** `errno` is 0 unless the call returned -1. */
export interface CallResult {
  value: number;
  errno: number;
}

/** Calls a function of libc that takes ints and returns an int. */
export function callInts(functionName: string, ...args: number[]): CallResult {
  return call(functionName, 'I32', args);
}

/** Calls a function of libc that takes 64-bit integers (ints fit, too, on 64-bit machines) and returns one. */
export function callInt64(functionName: string, args: readonly number[]): CallResult {
  return call(functionName, 'I64', args);
}

function call(functionName: string, type: 'I32' | 'I64', args: readonly number[]): CallResult {
  const { load, DataType } = ffi();
  const result = load({
    library: LIBRARY,
    funcName: functionName,
    retType: DataType[type],
    paramsType: args.map(() => DataType[type]),
    paramsValue: [...args],
    errno: true,
  }) as unknown as { errnoCode: number; value: number };
  return { value: result.value, errno: result.value === -1 ? result.errnoCode : 0 };
}

/** Address of a buffer's memory. Valid while the buffer is alive: the memory behind a Buffer does not move. */
export function addressOf(buffer: Buffer): number {
  const { load, DataType } = ffi();
  // memcpy of nothing gives back its first argument.
  return load({
    library: LIBRARY,
    funcName: 'memcpy',
    retType: DataType.U64,
    paramsType: [DataType.U8Array, DataType.U8Array, DataType.U64],
    paramsValue: [buffer, buffer, 0],
  }) as unknown as number;
}

const CODES: Readonly<Record<string, ErrorCode>> = {
  EACCES: 'PERMISSION',
  EPERM: 'PERMISSION',
  ENOENT: 'NOT_FOUND',
  ENOSPC: 'NO_SPACE',
  EDQUOT: 'NO_SPACE',
  EBUSY: 'BUSY',
  EAGAIN: 'BUSY',
};

/** The error of a failed system call: `WHAT: REASON`, for example `cannot lock /x: resource temporarily unavailable`. */
export function systemCallError(what: string, errno: number): RktError {
  const reason = getSystemErrorMap().get(-errno)?.[1] ?? `errno ${errno}`;
  return new RktError(CODES[getSystemErrorName(-errno)] ?? 'IO', `${what}: ${reason}`);
}
