/** Where the output of a pod's apps is kept: files in the pod directory, or where Kubernetes wants them, and the journal. */
import { makeDirectory } from '../../runtime/linux/files.ts';
import { Stage1Error } from '../error.ts';
import { printError } from '../report.ts';
import type { AppStreamSettings } from '../relay/stream-settings.ts';
import { writeCriLines } from './cri-lines.ts';
import { isJournalStream, isJournalThere, Journal, JOURNAL_SOCKET } from './journal.ts';
import { LogFile } from './log-file.ts';
import type { LogOptions } from './log-options.ts';

export const LOG_DIRECTORY = 'logs';
const DIRECTORY_MODE = 0o750;

export type OutputName = 'stdout' | 'stderr';

/** Takes what one stream of an app writes; never waits. */
export interface LogSink {
  /** @param bytes a chunk as it was read, valid during the call */
  push(bytes: Uint8Array): void;
  end(): void;
}

const journalPath = (options: LogOptions): string => options.journalPath ?? JOURNAL_SOCKET;

/** @throws Stage1Error when output could not go where it was asked for */
export function requireLogTargets(options: LogOptions): void {
  if (options.driver !== 'journald' || isJournalThere(journalPath(options))) return;
  throw new Stage1Error(`--log-driver=journald: there is no journal: ${journalPath(options)} is not a socket`, 'use another driver, or name the socket with --log-journal');
}

export class PodLogs {
  readonly #options: LogOptions;
  readonly #uuid: string;
  readonly #files = new Map<string, LogFile>();
  #journal: Journal | null = null;

  constructor(options: LogOptions, uuid: string) {
    this.#options = options;
    this.#uuid = uuid;
  }

  /** Whether this process's own stream (1 or 2) leads to the journal, where the apps' lines arrive under their own names instead. */
  replacesOwn(fd: 1 | 2): boolean {
    return this.#options.driver === 'auto' && isJournalStream(fd) && isJournalThere(journalPath(this.#options));
  }

  /** Both streams of an app share a file. */
  sinks(app: AppStreamSettings, stream: OutputName): LogSink[] {
    const { driver } = this.#options;
    const sinks: LogSink[] = driver === 'none' ? [] : [this.#fileSink(app, stream)];
    if (driver === 'journald' || this.replacesOwn(stream === 'stdout' ? 1 : 2)) sinks.push(this.#openJournal().stream(app.name, stream));
    return sinks;
  }

  /** Somebody has renamed files: new ones are begun. */
  reopen(): void {
    for (const file of this.#files.values()) file.reopen();
  }

  /** Nothing of the app comes any more, for now. */
  release(app: string): void {
    this.#files.get(app)?.close();
    this.#files.delete(app);
  }

  close(): void {
    for (const file of this.#files.values()) file.close();
    this.#journal?.close();
    this.#journal = null;
  }

  #fileSink(app: AppStreamSettings, stream: OutputName): LogSink {
    let file: LogFile | null = null;
    const write = (lines: Uint8Array): void => (file ??= this.#file(app)).write(lines);
    let endsInLine = false;
    return {
      push(bytes) {
        writeCriLines(stream, bytes, write);
        endsInLine = bytes[bytes.length - 1] !== NEWLINE;
      },
      end() {
        if (endsInLine) writeCriLines(stream, LAST_LINE_END, write);
        endsInLine = false;
      },
    };
  }

  #file(app: AppStreamSettings): LogFile {
    const { maxBytes, maxFiles } = this.#options;
    let file = this.#files.get(app.name);
    if (file === undefined) {
      const onLoss = (reason: string): void => printError(new Stage1Error(`warning: the log of app "${app.name}" is incomplete: ${reason}`));
      if (app.kubernetesLogPath === null) makeDirectory(LOG_DIRECTORY, DIRECTORY_MODE);
      file = app.kubernetesLogPath === null
        ? new LogFile({ path: `${LOG_DIRECTORY}/${app.name}.log`, maxBytes, maxFiles, onLoss })
        : new LogFile({ path: app.kubernetesLogPath, maxBytes, maxFiles: Infinity, onLoss });
      this.#files.set(app.name, file);
    }
    return file;
  }

  #openJournal(): Journal {
    return this.#journal ??= new Journal({
      path: journalPath(this.#options),
      uuid: this.#uuid,
      onLoss: (lines) => printError(new Stage1Error(`warning: the journal did not take ${lines} lines of output`)),
    });
  }
}

const NEWLINE = 10;
/** Ends a line that was only written in part. */
const LAST_LINE_END = new Uint8Array([NEWLINE]);
