/**
 * What an app writes, in a file that never grows beyond a size: then it is renamed to PATH.1, what was PATH.1 to PATH.2 and
 * so on, and the last one is removed. Nothing here waits or throws: a log that cannot be written is told of once.
 */
import { AT_FDCWD, ENOENT, NR_renameat2, NR_write, O_APPEND, O_CREAT, O_NOFOLLOW, O_WRONLY } from '../../runtime/abi.gen.ts';
import { errnoText, SysError } from '../../runtime/linux/errors.ts';
import { close } from '../../runtime/linux/fds.ts';
import { fstat, open, removeFile } from '../../runtime/linux/files.ts';

export interface LogFileOptions {
  path: string;
  maxBytes: number;
  /** Of the current file and those before it. Infinity: somebody else rotates it, and asks for `reopen`. */
  maxFiles: number;
  /** Told once when lines are lost, until one is written again. */
  onLoss(reason: string): void;
}

const FILE_MODE = 0o640;

export class LogFile {
  readonly #options: LogFileOptions;
  /** -1: not open. */
  #fd = -1;
  #sizeBytes = 0;
  #isLosing = false;
  /** A write has ended within a line. */
  #isTorn = false;

  constructor(options: LogFileOptions) {
    this.#options = options;
  }

  /** @param lines whole lines */
  write(lines: Uint8Array): void {
    const { maxBytes, maxFiles } = this.#options;
    if (maxFiles !== Infinity && this.#sizeBytes > 0 && this.#sizeBytes + lines.length > maxBytes) this.#rotate();
    if (this.#fd < 0 && !this.#open()) return;
    if (this.#isTorn) this.#put(NEWLINE);
    this.#isTorn = false;
    this.#put(lines);
  }

  /** Lets go of the file, which may have been renamed: the next line opens the path anew. */
  reopen(): void {
    this.close();
  }

  close(): void {
    if (this.#fd >= 0) close(this.#fd);
    this.#fd = -1;
    this.#sizeBytes = 0;
  }

  #put(bytes: Uint8Array): void {
    let rest = bytes;
    while (rest.length > 0) {
      const count = sys.call(NR_write, this.#fd, rest, rest.length);
      if (count <= 0) {
        this.#isTorn = rest.length < bytes.length;
        this.#lost(count === 0 ? 'nothing is written' : errnoText(-count));
        return;
      }
      this.#sizeBytes += count;
      rest = rest.subarray(count);
    }
    this.#isLosing = false;
  }

  #open(): boolean {
    try {
      this.#fd = open(this.#options.path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, FILE_MODE);
      this.#sizeBytes = fstat(this.#fd).sizeBytes;
      return true;
    } catch (error) {
      this.#lost(error instanceof SysError ? errnoText(error.errno) : String(error));
      return false;
    }
  }

  #rotate(): void {
    const { path, maxFiles } = this.#options;
    this.close();
    try {
      if (maxFiles === 1) removeFile(path);
    } catch (error) {
      this.#lost(String(error));
    }
    for (let number = maxFiles - 1; number >= 1; number--) {
      const result = sys.call(NR_renameat2, AT_FDCWD, number === 1 ? path : `${path}.${number - 1}`, AT_FDCWD, `${path}.${number}`, 0);
      if (result < 0 && result !== -ENOENT) this.#lost(errnoText(-result));
    }
  }

  #lost(reason: string): void {
    if (!this.#isLosing) this.#options.onLoss(reason);
    this.#isLosing = true;
  }
}

const NEWLINE = new Uint8Array([10]);
