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

/** Kills it, unless it has ended, and waits until nothing of it is left. */
export function endChild(pid: number): void {
  endAll([pid].filter((child) => children.has(child)));
}

/** The end of this program. */
export function leave(code: number): never {
  endAll([...children]);
  exit(code);
}

function endAll(pids: readonly number[]): void {
  for (const pid of pids) kill(pid, SIGKILL);
  for (const pid of pids) {
    reap(pid, 0);
    children.delete(pid);
  }
}
