/** File descriptors: pipes, duplication, flags, locks, moving bytes. Everything is close-on-exec unless it says otherwise. */
import {
  EINTR, F_DUPFD_CLOEXEC, F_GETFL, F_SETFD, F_SETFL, F_SETPIPE_SZ, FD_CLOEXEC, FIONREAD, NR_close, NR_dup3, NR_eventfd2, NR_fcntl, NR_flock, NR_ioctl,
  NR_pipe2, NR_poll, NR_read, NR_readv, NR_splice, NR_write, NR_writev, O_CLOEXEC, O_NONBLOCK, EFD_CLOEXEC, EFD_NONBLOCK, POLLIN,
} from '../abi.gen.ts';
import type { Argument, Bytes } from '../sys.ts';
import { check } from './errors.ts';

export function close(fd: number): void {
  sys.call(NR_close, fd);
}

/** Bytes read, 0 at the end, or -errno. */
export function readRaw(fd: number, into: Bytes): number {
  return sys.call(NR_read, fd, into, into.byteLength);
}

/** Bytes written or -errno. */
export function writeRaw(fd: number, from: Bytes): number {
  return sys.call(NR_write, fd, from, from.byteLength);
}

export function read(fd: number, into: Bytes): number {
  let count: number;
  do count = readRaw(fd, into);
  while (count === -EINTR);
  return check(count, 'read', fd);
}

/** Writes all of `from` to a blocking descriptor. */
export function writeAll(fd: number, from: Uint8Array): void {
  let offset = 0;
  while (offset < from.length) {
    const count = writeRaw(fd, offset === 0 ? from : from.subarray(offset));
    if (count !== -EINTR) offset += check(count, 'write', fd);
  }
}

function vectors(parts: readonly Bytes[]): BigUint64Array {
  const vector = new BigUint64Array(parts.length * 2);
  parts.forEach((part, index) => {
    vector[index * 2] = BigInt(sys.address(part));
    vector[index * 2 + 1] = BigInt(part.byteLength);
  });
  return vector;
}

/** Scatter read: bytes read, 0 at the end, or -errno. */
export function readvRaw(fd: number, parts: readonly Bytes[]): number {
  return sys.call(NR_readv, fd, vectors(parts), parts.length);
}

/** Gather write: bytes written or -errno. */
export function writevRaw(fd: number, parts: readonly Bytes[]): number {
  return sys.call(NR_writev, fd, vectors(parts), parts.length);
}

export function pipe(flags = 0): { readEnd: number; writeEnd: number } {
  const ends = new Int32Array(2);
  check(sys.call(NR_pipe2, ends, O_CLOEXEC | flags), 'pipe2');
  return { readEnd: ends[0] ?? -1, writeEnd: ends[1] ?? -1 };
}

/** Best effort: an unprivileged process may not exceed /proc/sys/fs/pipe-max-size. */
export function setPipeSize(fd: number, sizeBytes: number): void {
  sys.call(NR_fcntl, fd, F_SETPIPE_SZ, sizeBytes);
}

/** How much can be read from a pipe or socket at once. */
export function readableBytes(fd: number): number {
  const count = new Int32Array(1);
  check(sys.call(NR_ioctl, fd, FIONREAD, count), 'ioctl', fd);
  return count[0] ?? 0;
}

export function setNonBlocking(fd: number, on = true): void {
  const flags = check(sys.call(NR_fcntl, fd, F_GETFL), 'fcntl', fd);
  check(sys.call(NR_fcntl, fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK), 'fcntl', fd);
}

export function setCloseOnExec(fd: number, on = true): void {
  check(sys.call(NR_fcntl, fd, F_SETFD, on ? FD_CLOEXEC : 0), 'fcntl', fd);
}

export function duplicate(fd: number): number {
  return check(sys.call(NR_fcntl, fd, F_DUPFD_CLOEXEC, 3), 'dup', fd);
}

/** Makes `target` a close-on-exec copy of `fd`. */
export function duplicateTo(fd: number, target: number): void {
  check(sys.call(NR_dup3, fd, target, O_CLOEXEC), 'dup3', fd);
}

/** Moves bytes between a pipe and anything: bytes moved, 0 at the end, or -errno. */
export function spliceRaw(from: number, to: number, options: { lengthBytes: number; flags: number }): number {
  return sys.call(NR_splice, from, null, to, null, options.lengthBytes, options.flags);
}

/** A counter to wait on; non-blocking. */
export function eventfd(): number {
  return check(sys.call(NR_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK), 'eventfd');
}

const eventCounter = new BigUint64Array(1);

/** Adds 1 to an eventfd. */
export function signalEvent(fd: number): void {
  eventCounter[0] = 1n;
  sys.call(NR_write, fd, eventCounter, 8);
}

/** Takes the count of an eventfd; false when there was none. */
export function takeEvent(fd: number): boolean {
  return sys.call(NR_read, fd, eventCounter, 8) === 8;
}

/** flock(2): 0 or -errno; with LOCK_NB, -EAGAIN when someone else holds it. */
export function flock(fd: number, operation: number): number {
  let result: number;
  do result = sys.call(NR_flock, fd, operation);
  while (result === -EINTR);
  return result;
}

/** Result of an ioctl, or SysError naming it. */
export function ioctl(fd: number, request: number, argument: Argument, name: string): number {
  return check(sys.call(NR_ioctl, fd, request, argument), name);
}

/** Waits for input (or hang-up) on one descriptor. False when the time was up. */
export function waitReadable(fd: number, timeoutMs: number): boolean {
  const entry = new Uint8Array(8);
  const view = new DataView(entry.buffer);
  view.setInt32(0, fd, true);
  view.setInt16(4, POLLIN, true);
  return check(sys.call(NR_poll, entry, 1, timeoutMs), 'poll', fd) > 0;
}
