/** The event log in the pod directory, and the note about the event that is being added to it (src/tpm/write-ahead.ts). */
import { O_APPEND, O_CREAT, O_EXCL, O_WRONLY } from '../../runtime/abi.gen.ts';
import { close, writeAll } from '../../runtime/linux/fds.ts';
import { open, removeFile, rename, writeFile } from '../../runtime/linux/files.ts';

export const EVENT_LOG_PATH = 'tpm/eventlog';
export const PENDING_PATH = 'tpm/pending';
const LOG_MODE = 0o640;

export interface EventLogFile {
  sizeBytes(): number;
  /** Says what is going to be appended. A process that dies before `append` leaves it behind. */
  announce(note: Uint8Array): void;
  append(record: Uint8Array): void;
  close(): void;
}

/** Creates the log with what the host has measured. Fails when there is one: a pod is started once. */
export function createEventLog(content: Uint8Array): EventLogFile {
  const fd = open(EVENT_LOG_PATH, O_WRONLY | O_CREAT | O_EXCL | O_APPEND, LOG_MODE);
  let size = 0;
  const append = (bytes: Uint8Array): void => {
    writeAll(fd, bytes);
    size += bytes.length;
  };
  append(content);
  return {
    sizeBytes: () => size,
    announce(note) {
      writeFile(`${PENDING_PATH}.new`, note, { mode: LOG_MODE });
      rename(`${PENDING_PATH}.new`, PENDING_PATH);
    },
    append(record) {
      append(record);
      removeFile(PENDING_PATH);
    },
    close: () => close(fd),
  };
}
