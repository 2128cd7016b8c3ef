/** What a pod costs this host in memory: its monitor and what that has started. */
import { readFileSync } from 'node:fs';

/** Bytes, each shared page counted once in all; undefined when that may not be seen. */
export function hostMemoryOf(monitorPid: number): number | undefined {
  const sizes = [monitorPid, ...childrenOf(monitorPid)].map(proportionalBytes);
  const known = sizes.filter((size) => size !== undefined);
  return known.length === 0 ? undefined : known.reduce((sum, size) => sum + size, 0);
}

function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter((text) => text !== '').map(Number);
  } catch {
    return []; // has ended
  }
}

function proportionalBytes(pid: number): number | undefined {
  try {
    const kib = /^Pss:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1];
    return kib === undefined ? undefined : Number(kib) * 1024;
  } catch {
    return undefined;
  }
}
