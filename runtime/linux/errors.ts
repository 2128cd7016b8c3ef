/** Failed system calls as exceptions: `mount /app/1: ENOENT`. */
import { EAGAIN, EINTR } from '../abi.gen.ts';
import { ERRNO_NAMES } from '../syscalls.gen.ts';

let names: string[] | undefined;
let numbers: Map<string, number> | undefined;

/** `ENOENT` for 2; `errno 999` for an unknown number. */
export function errnoName(errno: number): string {
  names ??= ERRNO_NAMES.split(' ');
  return names[errno] ?? `errno ${errno}`;
}

/** In words for the errors people meet, `EFOO` for the others. */
export function errnoText(errno: number): string {
  const name = errnoName(errno);
  return TEXTS[name] ?? name;
}

const TEXTS: Record<string, string> = {
  EPERM: 'Operation not permitted',
  ENOENT: 'No such file or directory',
  EIO: 'Input/output error',
  EACCES: 'Permission denied',
  ENOTDIR: 'Not a directory',
  EISDIR: 'Is a directory',
  EINVAL: 'Invalid argument',
  ENOSPC: 'No space left on device',
  EROFS: 'Read-only file system',
  ENOMEM: 'Cannot allocate memory',
  ELOOP: 'Too many levels of symbolic links',
  ENAMETOOLONG: 'File name too long',
  ENOEXEC: 'Exec format error',
  E2BIG: 'Argument list too long',
};

/** 2 for `ENOENT`; undefined for an unknown name. */
export function errnoNumber(name: string): number | undefined {
  numbers ??= new Map(ERRNO_NAMES.split(' ').map((known, errno) => [known, errno]));
  return name === '-' ? undefined : numbers.get(name);
}

export class SysError extends Error {
  override readonly name = 'SysError';
  readonly call: string;
  /** Positive. */
  readonly errno: number;
  /** `ENOENT` and the like. */
  readonly code: string;

  constructor(call: string, errno: number) {
    const code = errnoName(errno);
    super(`${call}: ${code}`);
    this.call = call;
    this.errno = errno;
    this.code = code;
  }
}

/** Passes a result on, or throws SysError for -errno. `subject` (a path, a descriptor) is put behind the call's name. */
export function check(result: number, call: string, subject?: string | number): number {
  if (result < 0) throw new SysError(subject === undefined ? call : `${call} ${subject}`, -result);
  return result;
}

export function isErrno(error: unknown, ...errnos: number[]): boolean {
  return error instanceof SysError && errnos.includes(error.errno);
}

/** The result, or undefined where a non-blocking call had nothing to do (EAGAIN) or was interrupted. */
export function checkNonBlocking(result: number, call: string, subject?: string | number): number | undefined {
  if (result === -EAGAIN || result === -EINTR) return undefined;
  return check(result, call, subject);
}
