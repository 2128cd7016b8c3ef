/** What rendering an image needs of Node: a file to write the disk to, and SHA-256. */
import { hash } from 'node:crypto';
import { fdatasync, ftruncateSync, write, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { punchHole } from '../linux/punch-hole.ts';
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
