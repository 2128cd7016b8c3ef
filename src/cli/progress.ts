/**
 * How far fetching has come: on a terminal one line for each part that is under way; elsewhere a line for each part that
 * came over a network, when it is complete; or events for programs.
 */
import { fstatSync } from 'node:fs';
import type { FetchProgress } from '../image/index.ts';
import { binarySize } from './humanize.ts';
import type { Reporter } from './reporter.ts';

/** `events`: a JSON object a line to standard output. */
export type ProgressFormat = 'text' | 'events';

export interface Progress {
  update(progress: FetchProgress): void;
  /** A line of its own, among those of the progress. */
  note(message: string): void;
  /** An image is in the store. */
  done(image: { text: string; id: string; name: string }): void;
  close(): void;
}

/** What is done sooner than this needs no line on a terminal. */
const SILENT_MS = 500;
const INTERVAL_MS = 200;
const CLEAR_LINE = '\r\x1b[K';
const LINE_UP = '\x1b[A';
/** `sha256:` and 12 digits. */
const SHORT_DIGEST_LENGTH = 19;

export function createProgress(reporter: Reporter, format: ProgressFormat): Progress {
  if (format === 'events') return eventProgress(reporter);
  return isTerminal(2) ? terminalProgress(reporter) : plainProgress(reporter);
}

function isComplete({ doneBytes, totalBytes }: FetchProgress): boolean {
  return doneBytes >= totalBytes;
}

function labelOf({ image, part }: FetchProgress): string {
  return part === undefined ? image : part.startsWith('sha') ? part.slice(0, SHORT_DIGEST_LENGTH) : part;
}

function plainProgress(reporter: Reporter): Progress {
  const told = new Set<string>();
  return {
    update: (progress) => {
      if (progress.part === undefined || !isComplete(progress) || told.has(progress.part)) return;
      told.add(progress.part);
      reporter.note(`${labelOf(progress)}: ${binarySize(progress.totalBytes)}`);
    },
    note: (message) => reporter.note(message),
    done: () => told.clear(),
    close: () => undefined,
  };
}

function terminalProgress(reporter: Reporter): Progress {
  const active = new Map<string, FetchProgress>();
  const finished = new Set<string>();
  let nextMs = Date.now() + SILENT_MS;
  let shownLines = 0;

  const erase = (): string => {
    const text = `${CLEAR_LINE}${(LINE_UP + CLEAR_LINE).repeat(Math.max(0, shownLines - 1))}`;
    const wasShown = shownLines > 0;
    shownLines = 0;
    return wasShown ? text : '';
  };
  const lines = (): string => {
    const texts = [...active.values()].map((progress) => {
      const percent = progress.totalBytes === 0 ? 100 : Math.floor((progress.doneBytes / progress.totalBytes) * 100);
      return `${labelOf(progress)}: ${percent}% of ${binarySize(progress.totalBytes)}`;
    });
    shownLines = texts.length;
    return texts.join('\n');
  };

  return {
    update: (progress) => {
      const key = progress.part ?? progress.image;
      if (finished.has(key)) return;
      active.set(key, progress);
      const complete = progress.part !== undefined && isComplete(progress);
      const nowMs = Date.now();
      if (!complete && nowMs < nextMs) return;
      nextMs = nowMs + INTERVAL_MS;
      let above = '';
      if (complete) {
        active.delete(key);
        finished.add(key);
        above = `${labelOf(progress)}: ${binarySize(progress.totalBytes)}\n`;
      }
      reporter.status(erase() + above + lines());
    },
    note: (message) => {
      reporter.status(erase());
      reporter.note(message);
    },
    done: () => {
      reporter.status(erase());
      active.clear();
      finished.clear();
    },
    close: () => reporter.status(erase()),
  };
}

function eventProgress(reporter: Reporter): Progress {
  const nextMs = new Map<string, number>();
  const emit = (event: Record<string, unknown>): void => reporter.print(JSON.stringify(event));
  return {
    update: (progress) => {
      const key = progress.part ?? progress.image;
      const nowMs = Date.now();
      if (!isComplete(progress) && nowMs < (nextMs.get(key) ?? 0)) return;
      if (nextMs.get(key) === Infinity) return;
      nextMs.set(key, isComplete(progress) ? Infinity : nowMs + INTERVAL_MS);
      emit({ event: 'progress', ...progress });
    },
    note: (message) => emit({ event: 'note', message }),
    done: ({ text, id, name }) => {
      nextMs.clear();
      emit({ event: 'image', image: text, id, name });
    },
    close: () => undefined,
  };
}

/** Good enough to keep control characters out of files and pipes, and much sooner loaded than node:tty. */
function isTerminal(fd: number): boolean {
  return fstatSync(fd).isCharacterDevice();
}
