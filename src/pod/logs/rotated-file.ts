/**
 * A log file that somebody else writes and rotates: PATH is renamed to PATH.1, that to PATH.2, and so on. Reading begins with the
 * oldest and goes on across rotations.
 */
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import type { BigIntStats } from 'node:fs';
import { isErrno } from '../../linux/errno.ts';

const CHUNK_BYTES = 256 << 10;
/** A rotation while a file is being looked for: as often as that only when something is wrong. */
const ATTEMPTS = 100;

interface OpenFile {
  fd: number;
  status: BigIntStats;
}

export class RotatedFile {
  readonly #path: string;
  readonly #chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  #current: OpenFile | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  /** The next bytes, valid until the next call; undefined: there are no more for now. */
  read(): Buffer | undefined {
    this.#current ??= this.#openOldest();
    while (this.#current !== undefined) {
      const bytes = this.#readCurrent();
      if (bytes !== undefined) return bytes;
      if (this.#isNewest()) return undefined;
      // Renamed since: what was written before that comes first.
      const rest = this.#readCurrent();
      if (rest !== undefined) return rest;
      const next = this.#openNext();
      if (next === undefined) return undefined;
      closeSync(this.#current.fd);
      this.#current = next;
    }
    return undefined;
  }

  close(): void {
    if (this.#current !== undefined) closeSync(this.#current.fd);
    this.#current = undefined;
  }

  #readCurrent(): Buffer | undefined {
    if (this.#current === undefined) return undefined;
    const count = readSync(this.#current.fd, this.#chunk, 0, CHUNK_BYTES, null);
    return count === 0 ? undefined : this.#chunk.subarray(0, count);
  }

  #isNewest(): boolean {
    const newest = this.#statusOf(0);
    // Between a rotation and the next line there is none.
    return newest === undefined || isSame(newest, this.#current?.status);
  }

  #pathOf(number: number): string {
    return number === 0 ? this.#path : `${this.#path}.${number}`;
  }

  #statusOf(number: number): BigIntStats | undefined {
    return statSync(this.#pathOf(number), { bigint: true, throwIfNoEntry: false });
  }

  #open(number: number): OpenFile | undefined {
    try {
      const fd = openSync(this.#pathOf(number), 'r');
      return { fd, status: fstatSync(fd, { bigint: true }) };
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return undefined;
      throw error;
    }
  }

  #openOldest(): OpenFile | undefined {
    let oldest = 0;
    while (this.#statusOf(oldest + 1) !== undefined) oldest++;
    return this.#open(oldest);
  }

  /** The one that was begun when the current one was renamed. */
  #openNext(): OpenFile | undefined {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const number = this.#numberOfCurrent();
      // It has been removed, and with it perhaps others: the oldest that is left.
      if (number === undefined) return this.#openOldest();
      if (number === 0) return undefined;
      const next = this.#open(number - 1);
      if (this.#numberOfCurrent() === number) return next;
      if (next !== undefined) closeSync(next.fd);
    }
    return undefined;
  }

  #numberOfCurrent(): number | undefined {
    for (let number = 0; ; number++) {
      const status = this.#statusOf(number);
      if (isSame(status, this.#current?.status)) return number;
      // While files are being renamed one after the other there may be a gap before the last of them.
      if (status === undefined && number > 0 && this.#statusOf(number + 1) === undefined) return undefined;
    }
  }
}

function isSame(a: BigIntStats | undefined, b: BigIntStats | undefined): boolean {
  return a !== undefined && b !== undefined && a.ino === b.ino && a.dev === b.dev;
}
