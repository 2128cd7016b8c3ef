/** One line on a terminal that tells how far a long import has come; nothing when there is no terminal. */
import { fstatSync } from 'node:fs';
import { binarySize } from './humanize.ts';
import type { Reporter } from './reporter.ts';

/** What is done sooner than this needs no line. */
const SILENT_MS = 500;
const INTERVAL_MS = 200;
const CLEAR_LINE = '\r\x1b[K';

export interface ProgressLine {
  update(what: string, progress: { doneBytes: number; totalBytes: number }): void;
  clear(): void;
}

export function createProgressLine(reporter: Reporter): ProgressLine {
  let nextMs = Date.now() + SILENT_MS;
  let shown = false;
  return {
    update: (what, { doneBytes, totalBytes }) => {
      const nowMs = Date.now();
      if (nowMs < nextMs || !isTerminal(2)) return;
      nextMs = nowMs + INTERVAL_MS;
      shown = true;
      const percent = totalBytes === 0 ? 100 : Math.floor((doneBytes / totalBytes) * 100);
      reporter.status(`${CLEAR_LINE}${what}: ${percent}% of ${binarySize(totalBytes)}`);
    },
    clear: () => {
      if (shown) reporter.status(CLEAR_LINE);
      shown = false;
    },
  };
}

/** Good enough to keep control characters out of files and pipes, and much sooner loaded than node:tty. */
function isTerminal(fd: number): boolean {
  return fstatSync(fd).isCharacterDevice();
}
