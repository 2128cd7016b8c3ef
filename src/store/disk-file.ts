/** What rendering an image needs of Node: a file to write the disk to, and SHA-256. */
import { hash } from 'node:crypto';
import { closeSync, fdatasync, ftruncateSync, openSync, readSync, unlinkSync, write, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { RktError } from '../error.ts';
import { punchHole } from '../linux/punch-hole.ts';
import type { DigestScratch } from '../rootfs/block-digests.ts';
import type { DiskSink } from '../rootfs/disk-sink.ts';
import type { Sha256 } from '../rootfs/hash.ts';
import { fileError } from './fs-error.ts';

/** By way of a string, which costs less than memory of its own for each sum. */
export const sha256: Sha256 = (data) => Buffer.from(hash('sha256', data, 'binary'), 'binary');

const writeAsync = promisify(write);
const syncAsync = promisify(fdatasync);
/** So much is handed to the disk at a time: what is written while the image still comes need not be waited for at its end. */
const SYNC_EVERY_BYTES = 64 << 20;

export interface DiskFile extends DiskSink {
  /** To be awaited before the file is closed. */
  settle(): Promise<void>;
}

const ZEROS = new Uint8Array(64 << 10);

/**
 * A disk in an open, empty file; sparse wherever the disk holds zeros. `what` stands at the beginning of messages.
 * Calls throw RktError NO_SPACE or IO. The caller closes the file.
 */
export function diskFile(fd: number, what: string): DiskFile {
  let endBytes = 0;
  let unsyncedBytes = 0;
  let syncing: Promise<void> | undefined;
  const syncBehind = (sizeBytes: number): void => {
    unsyncedBytes += sizeBytes;
    if (unsyncedBytes < SYNC_EVERY_BYTES || syncing !== undefined) return;
    unsyncedBytes = 0;
    // Only ahead of time: the sync that counts is done, and its errors are told, when the disk is stored.
    syncing = syncAsync(fd).catch(() => undefined).finally(() => (syncing = undefined));
  };
  const writeAll = (offsetBytes: number, data: Uint8Array): void => {
    for (let at = 0; at < data.length; ) at += writeSync(fd, data, at, data.length - at, offsetBytes + at);
    endBytes = Math.max(endBytes, offsetBytes + data.length);
  };
  const writeBehind = async (offsetBytes: number, data: Uint8Array): Promise<void> => {
    try {
      for (let at = 0; at < data.length; ) at += (await writeAsync(fd, data, at, data.length - at, offsetBytes + at)).bytesWritten;
    } catch (error) {
      throw fileError(error, what);
    }
    endBytes = Math.max(endBytes, offsetBytes + data.length);
    syncBehind(data.length);
  };
  const attempt = (action: () => void): void => {
    try {
      action();
    } catch (error) {
      throw fileError(error, what);
    }
  };
  return {
    write: writeBehind,
    zero(offsetBytes, lengthBytes) {
      attempt(() => {
        // Behind the end of the file there is a hole already.
        const length = Math.min(lengthBytes, endBytes - offsetBytes);
        // A small range is cheaper written than punched.
        if (length > ZEROS.length && punchHole(fd, offsetBytes, length)) return;
        for (let at = 0; at < length; at += ZEROS.length) writeAll(offsetBytes + at, ZEROS.subarray(0, Math.min(ZEROS.length, length - at)));
      });
    },
    truncate(sizeBytes) {
      attempt(() => ftruncateSync(fd, sizeBytes));
    },
    async settle() {
      await syncing;
    },
  };
}

/** A nameless file for digests, made when the first of them come: most disks need none. Calls throw RktError. */
export function digestScratch(path: string): DigestScratch & { close(): void } {
  let fd: number | undefined;
  const opened = (): number => {
    if (fd === undefined) {
      fd = openSync(path, 'wx+', 0o600);
      unlinkSync(path);
    }
    return fd;
  };
  const attempt = <T>(action: () => T): T => {
    try {
      return action();
    } catch (error) {
      throw fileError(error, `cannot use the temporary file ${path}`);
    }
  };
  return {
    write: (offsetBytes, data) => attempt(() => {
      for (let at = 0; at < data.length; ) at += writeSync(opened(), data, at, data.length - at, offsetBytes + at);
    }),
    read: (offsetBytes, into) => attempt(() => {
      for (let at = 0; at < into.length; ) {
        const count = readSync(opened(), into, at, into.length - at, offsetBytes + at);
        if (count === 0) throw new RktError('IO', `the temporary file ${path} ends too early`);
        at += count;
      }
    }),
    close: () => {
      if (fd !== undefined) closeSync(fd);
      fd = undefined;
    },
  };
}
