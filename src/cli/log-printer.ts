/** Lines of logs on standard output and standard error, where they were written to. */
import type { LogLine } from '../pod/logs/app-log.ts';

export interface LogPrinterOptions {
  /** Before each line the name of its app. */
  withNames: boolean;
  withTimes: boolean;
}

type Pass = (fd: 1 | 2, bytes: Uint8Array) => boolean;

const FLUSH_BYTES = 64 << 10;
const NEWLINE = Buffer.from('\n');

export class LogPrinter {
  readonly #pass: Pass;
  readonly #options: LogPrinterOptions;
  #parts: Buffer[] = [];
  #bytes = 0;
  #fd: 1 | 2 = 1;
  /** Nobody reads any more. */
  isOver = false;

  constructor(pass: Pass, options: LogPrinterOptions) {
    this.#pass = pass;
    this.#options = options;
  }

  print({ app, time, stream, text, isComplete }: LogLine & { app: string }): void {
    const fd = stream === 'stdout' ? 1 : 2;
    // In the order in which they were written, also where both are one terminal.
    if (fd !== this.#fd) this.flush();
    this.#fd = fd;
    const { withNames, withTimes } = this.#options;
    if (withTimes) this.#add(Buffer.from(`${time} `));
    if (withNames) this.#add(Buffer.from(`${app}: `));
    this.#add(text);
    if (isComplete || withNames || withTimes) this.#add(NEWLINE);
    if (this.#bytes >= FLUSH_BYTES) this.flush();
  }

  flush(): void {
    if (this.#bytes > 0 && !this.isOver) this.isOver = !this.#pass(this.#fd, Buffer.concat(this.#parts));
    this.#parts = [];
    this.#bytes = 0;
  }

  #add(bytes: Buffer): void {
    this.#parts.push(bytes);
    this.#bytes += bytes.length;
  }
}
