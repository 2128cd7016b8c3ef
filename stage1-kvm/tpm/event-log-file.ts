/** The event log in the pod directory, and the note about the event that is being added to it (src/tpm/write-ahead.ts). */
import { EIO, O_APPEND, O_CREAT, O_EXCL, O_WRONLY } from '../../runtime/abi.gen.ts';
import { SysError } from '../../runtime/linux/errors.ts';
import { close, writeAll } from '../../runtime/linux/fds.ts';
import { open, removeFile, truncate, writeAt } from '../../runtime/linux/files.ts';

export const EVENT_LOG_PATH = 'tpm/eventlog';
export const PENDING_PATH = 'tpm/pending';
const LOG_MODE = 0o640;

export interface EventLogFile {
  sizeBytes(): number;
  /**
   * Says what is going to be appended. A process that dies before `settle` leaves it behind; one that dies meanwhile leaves
   * something without its checksum, which is no note.
   */
  announce(note: Uint8Array): void;
  append(record: Uint8Array): void;
  /** What was announced is done, or will not be. */
  settle(): void;
  close(): void;
}

/** Creates the log with what the host has measured. Fails when there is one: a pod is started once. */
export function createEventLog(content: Uint8Array): EventLogFile {
  const fd = open(EVENT_LOG_PATH, O_WRONLY | O_CREAT | O_EXCL | O_APPEND, LOG_MODE);
  // Empty: there is no note. A file for each would cost every event more than its digests.
  const noteFd = open(PENDING_PATH, O_WRONLY | O_CREAT | O_EXCL, LOG_MODE);
  let size = 0;
  let isPending = false;
  const append = (bytes: Uint8Array): void => {
    writeAll(fd, bytes);
    size += bytes.length;
  };
  append(content);
  return {
    sizeBytes: () => size,
    announce(note) {
      isPending = true;
      if (writeAt(noteFd, note, 0) !== note.length) throw new SysError(`write ${PENDING_PATH}`, EIO);
    },
    append,
    settle() {
      truncate(noteFd, 0);
      isPending = false;
    },
    close() {
      close(fd);
      close(noteFd);
      // Of a pod that was stopped half-way through an event the note stays.
      if (!isPending) removeFile(PENDING_PATH);
    },
  };
}
