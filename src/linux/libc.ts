/**
 * The only place that knows `ffi-rs`. Loaded at the first call, so commands that make no system call of their own never
 * pay for it. One thread only: ffi-rs keeps its tables without locks.
 */
import { createRequire } from 'node:module';
import { getSystemErrorMap, getSystemErrorName } from 'node:util';
import { RktError } from '../error.ts';
import type { ErrorCode } from '../error.ts';

type FfiRs = typeof import('ffi-rs');

/** What ffi-rs's own loader would choose; it takes 3 ms to find out which libc this is (there is one Node, for glibc on x86-64). */
const BINDING = '@yuuang/ffi-rs-linux-x64-gnu';
const LIBRARY = 'libc';
let loaded: FfiRs | undefined;

function ffi(): FfiRs {
  if (loaded === undefined) {
    try {
      loaded = createRequire(import.meta.url)(BINDING) as FfiRs;
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
  return call(functionName, { returns: 'I32', args, types: args.map(() => 'I32') });
}

/** Calls a function of libc that takes 64-bit integers (ints fit, too, on 64-bit machines) and returns one. */
export function callInt64(functionName: string, args: readonly number[]): CallResult {
  return call(functionName, { returns: 'I64', args, types: args.map(() => 'I64') });
}

/** Calls a function of libc that takes numbers, text (`const char *`) and memory (a pointer to it), and returns an int. */
export function callMixed(functionName: string, args: readonly (number | string | Buffer)[]): CallResult {
  const typeOf = (value: number | string | Buffer): ParameterType => (typeof value === 'number' ? 'I64' : typeof value === 'string' ? 'String' : 'U8Array');
  return call(functionName, { returns: 'I32', args, types: args.map(typeOf) });
}

type ParameterType = 'I32' | 'I64' | 'String' | 'U8Array';

interface Call {
  returns: 'I32' | 'I64';
  args: readonly (number | string | Buffer)[];
  types: readonly ParameterType[];
}

function call(functionName: string, { returns, args, types }: Call): CallResult {
  const { load, DataType } = ffi();
  const result = load({
    library: LIBRARY,
    funcName: functionName,
    retType: DataType[returns],
    paramsType: types.map((type, index) => (type === 'U8Array' ? memoryType(args[index] as Buffer) : DataType[type])),
    paramsValue: [...args],
    freeResultMemory: false,
    errno: true,
  }) as unknown as { errnoCode: number; value: number };
  return { value: result.value, errno: result.value === -1 ? result.errnoCode : 0 };
}

function memoryType(buffer: Buffer): ReturnType<FfiRs['arrayConstructor']> {
  const { DataType, FFITypeTag } = ffi();
  // The package's types do not know this member.
  const { Array: ffiTypeTag } = FFITypeTag as unknown as { Array: number };
  return { ffiTypeTag, type: DataType.U8Array, length: buffer.length } as unknown as ReturnType<FfiRs['arrayConstructor']>;
}

/** Address of a buffer's memory. Valid while the buffer is alive: the memory behind a Buffer does not move. */
export function addressOf(buffer: Buffer): number {
  const { load, DataType } = ffi();
  // memcpy of nothing gives back its first argument.
  return load({
    library: LIBRARY,
    funcName: 'memcpy',
    retType: DataType.U64,
    paramsType: [memoryType(buffer), memoryType(buffer), DataType.U64],
    paramsValue: [buffer, buffer, 0],
    freeResultMemory: false,
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
