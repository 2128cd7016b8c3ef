/** What an app has written, line by line. */
import { parseRecord } from './record.ts';
import type { LogRecord } from './record.ts';
import { RotatedFile } from './rotated-file.ts';

export interface LogLine {
  time: string;
  stream: 'stdout' | 'stderr';
  text: Buffer;
  /** False: the line goes on in the next one. */
  isComplete: boolean;
}

/** A longer line is given in several. */
const LONGEST_LINE_BYTES = 1 << 20;
const NEWLINE = 0x0a;

export interface AppLogOptions {
  /** Lines are given as far as they have been written; else only when they are complete. */
  immediate: boolean;
}

export class AppLog {
  readonly #file: RotatedFile;
  readonly #immediate: boolean;
  /** A record of which only the beginning has been read. */
  #rest: Buffer = Buffer.alloc(0);
  #records: LogRecord[] = [];
  #at = 0;
  /** Parts of lines that are not complete. */
  readonly #parts = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  readonly #partBytes = { stdout: 0, stderr: 0 };
  #lastTime = '';

  constructor(path: string, options: AppLogOptions) {
    this.#file = new RotatedFile(path);
    this.#immediate = options.immediate;
  }

  /** Undefined: there are no more for now. */
  next(): LogLine | undefined {
    for (;;) {
      const record = this.#records[this.#at++];
      if (record === undefined) {
        if (!this.#readRecords()) return undefined;
        continue;
      }
      const line = this.#join(record);
      if (line !== undefined) return line;
    }
  }

  /** What was not complete at the end. */
  *remainder(): Generator<LogLine> {
    for (const stream of ['stdout', 'stderr'] as const) {
      if (this.#parts[stream].length > 0) yield { time: this.#lastTime, stream, text: this.#takeParts(stream), isComplete: false };
    }
  }

  close(): void {
    this.#file.close();
  }

  #join({ time, stream, isPartial, text }: LogRecord): LogLine | undefined {
    this.#lastTime = time;
    if (this.#immediate) return { time, stream, text, isComplete: !isPartial };
    this.#parts[stream].push(text);
    this.#partBytes[stream] += text.length;
    if (isPartial && this.#partBytes[stream] < LONGEST_LINE_BYTES) return undefined;
    return { time, stream, text: this.#takeParts(stream), isComplete: true };
  }

  #takeParts(stream: 'stdout' | 'stderr'): Buffer {
    const [only, ...more] = this.#parts[stream].splice(0);
    this.#partBytes[stream] = 0;
    return only === undefined || more.length === 0 ? (only ?? Buffer.alloc(0)) : Buffer.concat([only, ...more]);
  }

  /** False when nothing was there. */
  #readRecords(): boolean {
    const bytes = this.#file.read();
    if (bytes === undefined) return false;
    // A copy: records outlive the next read.
    const whole = Buffer.concat([this.#rest, bytes]);
    this.#records = [];
    this.#at = 0;
    let start = 0;
    for (let end = whole.indexOf(NEWLINE); end >= 0; end = whole.indexOf(NEWLINE, start)) {
      const record = parseRecord(whole.subarray(start, end));
      if (record !== undefined) this.#records.push(record);
      start = end + 1;
    }
    this.#rest = whole.subarray(start);
    if (this.#rest.length > LONGEST_LINE_BYTES) this.#rest = Buffer.alloc(0);
    return true;
  }
}
