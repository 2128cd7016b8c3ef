/** What rendering an image needs of Node: a file to write the disk to, and SHA-256. */
import { hash } from 'node:crypto';
import { ftruncateSync, writeSync } from 'node:fs';
import { punchHole } from '../linux/punch-hole.ts';
import type { DiskSink } from '../rootfs/disk-sink.ts';
import type { Sha256 } from '../rootfs/hash.ts';
import { fileError } from './fs-error.ts';

export const sha256: Sha256 = (data) => hash('sha256', data, 'buffer');

const ZEROS = new Uint8Array(64 << 10);

/**
 * A disk in an open, empty file; sparse wherever the disk holds zeros. `what` stands at the beginning of messages.
 * Calls throw RktError NO_SPACE or IO. The caller closes the file.
 */
export function diskFile(fd: number, what: string): DiskSink {
  let endBytes = 0;
  const writeAll = (offsetBytes: number, data: Uint8Array): void => {
    for (let at = 0; at < data.length; ) at += writeSync(fd, data, at, data.length - at, offsetBytes + at);
    endBytes = Math.max(endBytes, offsetBytes + data.length);
  };
  const attempt = (action: () => void): void => {
    try {
      action();
    } catch (error) {
      throw fileError(error, what);
    }
  };
  return {
    write(offsetBytes, data) {
      attempt(() => writeAll(offsetBytes, data));
    },
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
  };
}
