/**
 * The system's journal, spoken to in its native protocol (systemd, docs/JOURNAL_NATIVE_PROTOCOL.md): one datagram an entry,
 * `FIELD=value` lines; an entry that is larger than a datagram goes as a sealed memfd.
 */
import {
  AF_UNIX, EAGAIN, ECONNREFUSED, EMSGSIZE, ENOBUFS, EPOLLOUT, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE, MSG_DONTWAIT, MSG_NOSIGNAL, NR_connect, NR_sendto,
  S_IFMT, S_IFSOCK, SOCK_DGRAM,
} from '../../runtime/abi.gen.ts';
import { close, writeAll } from '../../runtime/linux/fds.ts';
import { statIfAny } from '../../runtime/linux/files.ts';
import { addSeals, memfd } from '../../runtime/linux/memory.ts';
import { environmentVariable } from '../../runtime/linux/process.ts';
import { sendWithFds, socket, unixAddress } from '../../runtime/linux/sockets.ts';
import { unwatch, watch } from '../../runtime/loop.ts';
import { lineSplitter, type LineSplitter } from './line-splitter.ts';

export const JOURNAL_SOCKET = '/run/systemd/journal/socket';
/** systemd-journald cuts lines of its stream protocol there unless told otherwise (LineMax=). */
const MAX_LINE_BYTES = 48 << 10;
/** syslog(3): what is said, and what went wrong. */
const PRIORITIES = { stdout: 6, stderr: 3 } as const;

/** What may wait for a journal that is behind, of the whole pod. */
const MAX_QUEUED_BYTES = 1 << 20;

export interface JournalOptions {
  /** Of the journal's socket. */
  path: string;
  uuid: string;
  /** Lines that the journal did not take in time: told when it is no longer behind, and at the end. */
  onLoss(lines: number): void;
}

export class Journal {
  readonly #options: JournalOptions;
  readonly #address: Uint8Array;
  #fd = -1;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #lostLines = 0;

  constructor(options: JournalOptions) {
    this.#options = options;
    this.#address = unixAddress(options.path);
  }

  /** What takes the output of one stream of an app. */
  stream(app: string, stream: 'stdout' | 'stderr'): LineSplitter {
    const fields = { PRIORITY: PRIORITIES[stream], SYSLOG_IDENTIFIER: app, RKT_POD: this.#options.uuid, RKT_APP: app, RKT_STREAM: stream };
    const head = sys.utf8(`${Object.entries(fields).map(([name, value]) => `${name}=${value}`).join('\n')}\nMESSAGE=`).subarray(0, -1);
    return lineSplitter(MAX_LINE_BYTES, (line) => {
      const entry = new Uint8Array(head.length + line.length + 1);
      entry.set(head);
      entry.set(line, head.length);
      entry[entry.length - 1] = NEWLINE;
      this.#push(entry);
    });
  }

  close(): void {
    this.#flush();
    this.#lostLines += this.#queue.length;
    this.#queue = [];
    this.#tellLoss();
    this.#disconnect();
  }

  /** Never waits: what a journal that is too far behind does not take is lost, and the pod goes on. */
  #push(entry: Uint8Array): void {
    if (this.#queue.length === 0 && this.#send(entry)) return;
    if (this.#queuedBytes + entry.length > MAX_QUEUED_BYTES) {
      this.#lostLines++;
      return;
    }
    this.#queue.push(entry);
    this.#queuedBytes += entry.length;
  }

  #flush(): void {
    let sent = 0;
    while (sent < this.#queue.length && this.#send(this.#queue[sent]!)) this.#queuedBytes -= this.#queue[sent++]!.length;
    this.#queue = this.#queue.slice(sent);
    if (this.#queue.length > 0) return;
    unwatch(this.#fd);
    this.#tellLoss();
  }

  /** False: later. */
  #send(entry: Uint8Array): boolean {
    for (let attempt = 0; attempt < 2; attempt++) {
      const result = this.#connect() ? this.#sendOnce(entry) : -ECONNREFUSED;
      if (result >= 0) return true;
      if (result === -EAGAIN) {
        watch(this.#fd, EPOLLOUT, () => this.#flush());
        return false;
      }
      // The journal is being restarted: its socket is another one.
      this.#disconnect();
    }
    this.#lostLines++;
    return true;
  }

  #sendOnce(entry: Uint8Array): number {
    const result = sys.call(NR_sendto, this.#fd, entry, entry.length, MSG_DONTWAIT | MSG_NOSIGNAL, null, 0);
    if (result !== -EMSGSIZE && result !== -ENOBUFS) return result;
    const file = memfd('rkt-journal', 0);
    try {
      writeAll(file, entry);
      addSeals(file, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
      return sendWithFds(this.#fd, new Uint8Array(0), [file], MSG_DONTWAIT);
    } finally {
      close(file);
    }
  }

  #connect(): boolean {
    if (this.#fd >= 0) return true;
    this.#fd = socket(AF_UNIX, SOCK_DGRAM);
    if (sys.call(NR_connect, this.#fd, this.#address, this.#address.length) >= 0) return true;
    this.#disconnect();
    return false;
  }

  #disconnect(): void {
    if (this.#fd < 0) return;
    unwatch(this.#fd);
    close(this.#fd);
    this.#fd = -1;
  }

  #tellLoss(): void {
    if (this.#lostLines > 0) this.#options.onLoss(this.#lostLines);
    this.#lostLines = 0;
  }
}

const NEWLINE = 10;

export function isJournalThere(path: string): boolean {
  const status = statIfAny(path);
  return status !== undefined && (status.mode & S_IFMT) === S_IFSOCK;
}

/** Whether a descriptor is this service's connection to the journal (systemd.exec(5), `$JOURNAL_STREAM`: `DEVICE:INODE`). */
export function isJournalStream(fd: number): boolean {
  const named = environmentVariable('JOURNAL_STREAM');
  if (named === undefined || named === '') return false;
  const status = statIfAny(`/proc/self/fd/${fd}`);
  return status !== undefined && named === `${deviceNumber(status.device)}:${status.inode}`;
}

/** makedev(3), as far as numbers reach. */
function deviceNumber({ major, minor }: { major: number; minor: number }): number {
  return (minor & 0xff) + (major & 0xfff) * 0x100 + (minor >>> 8) * 0x100000;
}
