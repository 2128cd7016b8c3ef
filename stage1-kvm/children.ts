/** The processes that this one has started: none outlives it, and whoever saw it end will not find one that is still ending. */
import { SIGKILL, WNOHANG } from '../runtime/abi.gen.ts';
import { exit, kill, reap, type ProcessEnd } from '../runtime/linux/process.ts';

/** Not reaped yet: until then nobody else gets the number. */
const children = new Set<number>();

/** @returns pid */
export function adoptChild(pid: number): number {
  children.add(pid);
  return pid;
}

/** How it ended; undefined, if it has not (with the flags 0 it is waited for) or was reaped before. */
export function reapChild(pid: number, flags: number = WNOHANG): ProcessEnd | undefined {
  const end = children.has(pid) ? reap(pid, flags)?.end : undefined;
  if (end !== undefined) children.delete(pid);
  return end;
}

/** The end of this program, and of them. */
export function leave(code: number): never {
  for (const pid of children) kill(pid, SIGKILL);
  for (const pid of children) reapChild(pid, 0);
  exit(code);
}
