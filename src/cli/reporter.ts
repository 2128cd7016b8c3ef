/** The only place that prints: results to standard output, everything told on the way to standard error. */
import { RktError } from '../error.ts';
import { formatError } from './error-text.ts';
import { writeAll } from './output.ts';
import { alignTabs } from './tabwriter.ts';

/** What a command gives back to be printed. */
export type Result =
  | { kind: 'nothing' }
  /** Lines as they are. */
  | { kind: 'lines'; lines: readonly string[] }
  | { kind: 'bytes'; bytes: Uint8Array }
  /** Rows of cells, aligned in rkt's way; `trailingTab`: every cell ends a column, the last one, too. */
  | { kind: 'table'; legend?: readonly string[]; rows: readonly (readonly string[])[]; trailingTab?: boolean }
  | { kind: 'json'; value: unknown; pretty: boolean; indent?: string };

/** A command's outcome: what to print and with which status to end. */
export interface Outcome {
  result: Result;
  exitStatus: number;
}

export const NOTHING: Result = { kind: 'nothing' };

export function success(result: Result): Outcome {
  return { result, exitStatus: 0 };
}

/** Exit status of everything that rkt itself refuses or fails at. */
export const FAILURE_STATUS = 254;

export function failure(result: Result = NOTHING): Outcome {
  return { result, exitStatus: FAILURE_STATUS };
}

export interface Reporter {
  result(result: Result): void;
  /** One line to standard output, at once. */
  print(line: string): void;
  /** What others have written, as it is. False: nobody reads it any more. */
  pass(fd: 1 | 2, bytes: Uint8Array): boolean;
  /** One line to standard error behind the command's name. */
  note(message: string): void;
  /** Text for the terminal as it is, without a newline. */
  status(text: string): void;
  /** As `note`, with --debug only and behind another name. */
  debug(source: string, message: string): void;
  /** `COMMAND: [CONTEXT: ]MESSAGE` and the hint below it. */
  error(error: unknown, context?: string): void;
}

export interface ReporterOptions {
  /** `run`, `image list` is called `list` as in rkt. */
  command: string;
  debug: boolean;
  /** False: nobody reads any more. */
  write?(fd: 1 | 2, data: string | Uint8Array): unknown;
}

export function createReporter(options: ReporterOptions): Reporter {
  const write = options.write ?? writeAll;
  const note = (message: string): void => void write(2, `${options.command}: ${message}\n`);
  return {
    result: (result) => {
      const data = resultData(result);
      if (data.length > 0) write(1, data);
    },
    print: (line) => void write(1, `${line}\n`),
    pass: (fd, bytes) => write(fd, bytes) !== false,
    note,
    status: (text) => void write(2, text),
    debug: (source, message) => {
      if (options.debug) write(2, `${source}: ${message}\n`);
    },
    error: (error, context = '') => {
      const [head, tree] = splitContext(error, { context, debug: options.debug });
      note(formatError(head, tree, options.debug));
      if (error instanceof RktError && error.hint !== undefined) write(2, `  hint: ${error.hint}\n`);
      if (options.debug && !(error instanceof RktError) && error instanceof Error && error.stack !== undefined) write(2, `${error.stack}\n`);
    },
  };
}

/** With --debug and no context of its own the error's message is the first line, and the tree holds its causes. */
function splitContext(error: unknown, options: { context: string; debug: boolean }): [head: string, tree: unknown] {
  if (options.debug && options.context === '' && error instanceof Error) return [error.message, error.cause];
  return [options.context, error];
}

function resultData(result: Result): string | Uint8Array {
  switch (result.kind) {
    case 'nothing':
      return '';
    case 'bytes':
      return result.bytes;
    case 'lines':
      return result.lines.map((line) => `${line}\n`).join('');
    case 'table': {
      const rows = result.rows.map((cells) => cells.join('\t') + (result.trailingTab === true ? '\t' : ''));
      return alignTabs([...(result.legend === undefined ? [] : [result.legend.join('\t')]), ...rows]);
    }
    case 'json':
      return `${JSON.stringify(result.value, withBigInts, result.pretty ? (result.indent ?? '\t') : undefined)}\n`;
  }
}

/** Times in nanoseconds are beyond what a double holds: they are printed digit by digit. */
function withBigInts(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? rawJson(String(value)) : value;
}

function rawJson(text: string): unknown {
  // JSON.rawJSON is in V8 since Node 22; the library types do not have it yet.
  return (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(text);
}
