/**
 * flock(2): whole-file locks that belong to the open file description, are inherited over fork and execve, and go
 * away with the last descriptor. They work on directories too, which is how the state of a pod is kept.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { callInts, systemCallError } from './libc.ts';

const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;
const LOCK_UN = 8;
const EINTR = 4;
const EAGAIN = 11;

export type LockMode = 'shared' | 'exclusive';

export interface Lock {
  readonly fd: number;
  /** Closes the descriptor, and with it gives the lock back. May be called twice. */
  release(): void;
  /** Explicit resource management: the same as `release`. */
  [Symbol.dispose](): void;
}

export interface LockOptions {
  /** Wait until the lock is free; otherwise the answer is null when someone holds it. */
  block: boolean;
}

/** Takes (or converts) the lock of an open descriptor. False: someone else holds it and `block` is false. */
export function lockDescriptor(fd: number, mode: LockMode, options: LockOptions): boolean {
  const operation = (mode === 'shared' ? LOCK_SH : LOCK_EX) | (options.block ? 0 : LOCK_NB);
  for (;;) {
    const { value, errno } = callInts('flock', fd, operation);
    if (value === 0) return true;
    if (errno === EINTR) continue;
    if (errno === EAGAIN) return false;
    throw systemCallError(`cannot lock descriptor ${fd}`, errno);
  }
}

/** Gives the lock of an open descriptor back and keeps the descriptor. */
export function unlockDescriptor(fd: number): void {
  const { value, errno } = callInts('flock', fd, LOCK_UN);
  if (value === -1) throw systemCallError(`cannot unlock descriptor ${fd}`, errno);
}

/** Locks a file, making it (mode 0600) when it is missing. Null: someone else holds it and `block` is false. */
export function lockFile(path: string, mode: LockMode, options: LockOptions): Lock | null {
  return lockOpened(openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600), mode, options);
}

/** Locks a directory, which must exist. Null: someone else holds it and `block` is false. */
export function lockDirectory(path: string, mode: LockMode, options: LockOptions): Lock | null {
  return lockOpened(openSync(path, constants.O_RDONLY | constants.O_DIRECTORY), mode, options);
}

function lockOpened(fd: number, mode: LockMode, options: LockOptions): Lock | null {
  let open = true;
  const release = (): void => {
    if (!open) return;
    open = false;
    closeSync(fd);
  };
  try {
    if (lockDescriptor(fd, mode, options)) return { fd, release, [Symbol.dispose]: release };
  } catch (error) {
    release();
    throw error;
  }
  release();
  return null;
}
