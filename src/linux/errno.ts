/** Errors of Node's own file system calls. */

/** Whether the error is one of a system call and carries one of these names (`ENOENT`). */
export function isErrno(error: unknown, ...names: string[]): error is NodeJS.ErrnoException {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && names.includes(error.code);
}
