/** `[   12.345678] NAME[PID]: ` before each line, as rkt's console had it when a pod has several apps. Pure. */
import type { Filter } from './pump.ts';

/** A longer line is cut into several. */
const LONGEST_LINE_BYTES = 65536;
const NEWLINE = 10;

export function linePrefixer(prefix: () => Uint8Array): Filter {
  let held: Uint8Array = new Uint8Array(0);
  return {
    push(bytes) {
      const parts: Uint8Array[] = [];
      let start = 0;
      for (;;) {
        const end = bytes.indexOf(NEWLINE, start);
        const rest = bytes.subarray(start, end < 0 ? bytes.length : end + 1);
        const line = held.length === 0 ? rest : join([held, rest]);
        held = new Uint8Array(0);
        if (end >= 0) {
          parts.push(prefix(), line);
          start = end + 1;
          continue;
        }
        if (line.length >= LONGEST_LINE_BYTES) parts.push(prefix(), line, Uint8Array.of(NEWLINE));
        else held = line.slice();
        return join(parts);
      }
    },
    finish() {
      if (held.length === 0) return held;
      const line = join([prefix(), held, Uint8Array.of(NEWLINE)]);
      held = new Uint8Array(0);
      return line;
    },
  };
}

/** Seconds with microseconds, as the kernel prints them. */
export function consolePrefix(elapsedMs: number, name: string, pid: number): string {
  const microseconds = Math.max(0, Math.floor(elapsedMs * 1000));
  const seconds = String(Math.floor(microseconds / 1_000_000)).padStart(5, ' ');
  return `[${seconds}.${String(microseconds % 1_000_000).padStart(6, '0')}] ${name}[${pid}]: `;
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const joined = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    joined.set(part, offset);
    offset += part.length;
  }
  return joined;
}
