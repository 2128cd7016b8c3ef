/** What the C part of the runtime offers (runtime/c), typed, and the few globals that the engine lacks. */

export type Bytes =
  | Uint8Array | Int8Array | Uint16Array | Int16Array | Uint32Array | Int32Array | BigUint64Array | BigInt64Array;

/** An argument of a system call: buffers pass their address, strings a NUL-terminated copy, null a zero. */
export type Argument = number | bigint | string | null | Bytes;

/** Stands for the result of an earlier operation of the same list. */
export interface ResultOf {
  result: number;
}

/**
 * One system call of a spawn list: [number, ...arguments]. An array of strings becomes a NULL-terminated `char *[]`.
 * IGNORE_FAILURE added to the number lets the list go on when the call fails.
 */
export type Operation = readonly [nr: number, ...args: (Argument | ResultOf | readonly string[])[]];

/** What sys.prepare has made of an operation; the buffers of that one must stay referenced. */
export type PreparedOperation = Uint8Array;

export const IGNORE_FAILURE = 0x10000;

export interface Sys {
  /** A raw system call: its result, or -errno. Buffers must be long enough: the wrappers in runtime/linux own the lengths. */
  call(nr: number, ...args: Argument[]): number;
  /**
   * Starts a child that runs `operations` in order, the last being execve, while this process waits (vfork).
   * `flags` are clone3's (CLONE_NEW…); `cgroupFd` -1 or the cgroup to be born in.
   * `pid` is the number the child gets; 0 or none: the kernel chooses.
   * Returns the pid; -errno when there is no child; 0 when operation failure[0] failed with errno failure[1].
   */
  spawn(flags: number, cgroupFd: number, operations: readonly (Operation | PreparedOperation)[], failure: Int32Array, pid?: number): number;
  /** For operations of many lists: of numbers and buffers only, and not of earlier operations' results. */
  prepare(operation: Operation): PreparedOperation;
  /** The buffer must stay referenced for as long as the kernel may use the address: see pointTo. */
  address(buffer: Bytes): number;
  /** View of memory at most 2^31-1 bytes long, owned by nobody: detach the buffer before unmapping. */
  map(address: number, lengthBytes: number): ArrayBuffer;
  detach(buffer: ArrayBuffer): void;
  /** UTF-8 with a terminating NUL. */
  utf8(text: string): Uint8Array<ArrayBuffer>;
  text(bytes: Uint8Array): string;
  /** SHA-256 or SHA-384. */
  hash(bits: 256 | 384, bytes: Uint8Array): Uint8Array<ArrayBuffer>;
  /** Lower-case digits. */
  hex(bytes: Uint8Array): string;
  /** Fills `bytes` from twice as many hexadecimal digits. False: that is not what `text` is. */
  unhex(text: string, bytes: Uint8Array): boolean;
  /**
   * Copies the lines of `bytes` to `into`, each behind `full`, what follows the last newline behind `partial` and with a
   * newline. A line that does not fit any more ends it: `counts` becomes [bytes taken, bytes written].
   */
  lines(bytes: Uint8Array, full: Uint8Array, partial: Uint8Array, into: Uint8Array, counts: Int32Array): void;
  /** `NAME=value` strings as the process received them. */
  environment(): string[];
  /** `tick` is called whenever no promise job is pending; it waits for events. `onError` gets everything uncaught. */
  hooks(tick: () => void, onError: (error: unknown) => void): void;
  argv: string[];
}

declare global {
  var sys: Sys;
}

// What newer engines have (ECMAScript 2026), as far as src/tpm uses it.
const byteArrays = Uint8Array as unknown as { fromHex?(text: string): Uint8Array; prototype: { toHex?(): string } };
byteArrays.prototype.toHex ??= function (this: Uint8Array): string {
  return sys.hex(this);
};
byteArrays.fromHex ??= (text) => {
  const bytes = new Uint8Array(text.length >> 1);
  if (!sys.unhex(text, bytes)) throw new SyntaxError('not hexadecimal');
  return bytes;
};

const globals = globalThis as { TextEncoder?: unknown; TextDecoder?: unknown };
globals.TextEncoder ??= class {
  encode(text: string): Uint8Array<ArrayBuffer> {
    return sys.utf8(text).subarray(0, -1);
  }
};
globals.TextDecoder ??= class {
  decode(bytes: Uint8Array): string {
    return sys.text(bytes);
  }
};

/** Stores the address of `target` in `struct` and keeps `target` alive as long as `struct` is. */
export function pointTo(struct: Uint8Array, offset: number, target: Bytes): void {
  new DataView(struct.buffer, struct.byteOffset).setBigUint64(offset, BigInt(sys.address(target)), true);
  const holder = struct as Uint8Array & { targets?: Bytes[] };
  (holder.targets ??= []).push(target);
}
