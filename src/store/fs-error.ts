import { RktError } from '../error.ts';
import type { ErrorCode } from '../error.ts';

const CODES: Readonly<Record<string, ErrorCode>> = {
  ENOENT: 'NOT_FOUND',
  ENOTDIR: 'NOT_FOUND',
  EACCES: 'PERMISSION',
  EPERM: 'PERMISSION',
  ENOSPC: 'NO_SPACE',
  EDQUOT: 'NO_SPACE',
  EBUSY: 'BUSY',
};

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or directory',
  ENOTDIR: 'not a directory',
  EISDIR: 'is a directory',
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  ENOSPC: 'no space left on the file system',
  EDQUOT: 'disk quota exceeded',
  EROFS: 'read-only file system',
  EIO: 'input/output error',
  ELOOP: 'too many symbolic links',
  ENAMETOOLONG: 'file name too long',
};

/** `ENOENT` and the like of an error thrown by a file operation of Node, else undefined. */
export function errnoName(error: unknown): string | undefined {
  return error instanceof Error && 'syscall' in error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** Turns an error of a file operation into an RktError `WHAT: REASON`. RktErrors and programming errors pass unchanged. */
export function fileError(error: unknown, what: string): unknown {
  const name = errnoName(error);
  if (name === undefined) return error;
  const hint = name === 'ENOSPC' || name === 'EDQUOT' ? 'free some space (`rkt image rm`, `rkt gc`), or use another data directory with --dir' : undefined;
  return new RktError(CODES[name] ?? 'IO', `${what}: ${REASONS[name] ?? name}`, { cause: error, ...(hint === undefined ? {} : { hint }) });
}
