/** The logs of several apps as one, in the order of time. */
import type { AppLog, LogLine } from './app-log.ts';

export interface NamedLine extends LogLine {
  app: string;
}

interface Source {
  app: string;
  log: AppLog;
  head: LogLine | undefined;
  /** Lines taken beforehand, which come first. */
  kept: LogLine[];
}

export class MergedLog {
  readonly #sources: Source[];

  constructor(logs: ReadonlyMap<string, AppLog>) {
    this.#sources = [...logs].map(([app, log]) => ({ app, log, head: undefined, kept: [] }));
  }

  /** Skips to the last lines of each app, among those that are wanted. */
  skipToTail(count: number, isWanted: (line: LogLine) => boolean): void {
    for (const source of this.#sources) {
      const kept: LogLine[] = [];
      for (let line = source.log.next(); line !== undefined; line = source.log.next()) {
        if (!isWanted(line)) continue;
        kept.push(line);
        // Now and then, not for each line.
        if (kept.length >= 2 * count + 1000) kept.splice(0, kept.length - count);
      }
      source.kept = count === 0 ? [] : kept.slice(-count);
    }
  }

  /** Undefined: there are no more for now. */
  next(): NamedLine | undefined {
    let first: Source | undefined;
    for (const source of this.#sources) {
      source.head ??= source.kept.shift() ?? source.log.next();
      if (source.head !== undefined && (first?.head === undefined || source.head.time < first.head.time)) first = source;
    }
    const line = first?.head;
    if (first === undefined || line === undefined) return undefined;
    first.head = undefined;
    return { ...line, app: first.app };
  }

  /** What was not complete at the end. */
  *remainder(): Generator<NamedLine> {
    for (const { app, log } of this.#sources) for (const line of log.remainder()) yield { ...line, app };
  }

  close(): void {
    for (const { log } of this.#sources) log.close();
  }
}
