/** Reads a rendered disk whole and compares it with its root hash: what the guest does block by block, all at once. */
import { closeSync, openSync, readSync } from 'node:fs';
import { RktError } from '../error.ts';
import { BLOCK_BYTES, BlockDigests } from '../rootfs/block-digests.ts';
import type { DiskSink } from '../rootfs/disk-sink.ts';
import { hashTree, rootHashOf, writeVerity } from '../rootfs/verity.ts';
import { sha256 } from './disk-file.ts';
import { fileError } from './fs-error.ts';
import type { DiskDescription } from './records.ts';

const CHUNK_BYTES = 1 << 20;
/** Behind magic, version and hash type. */
const SUPERBLOCK_UUID = { offsetBytes: 16, lengthBytes: 16 };

/** Throws RktError DIGEST when data or hash tree differ, IO when the disk cannot be read. */
export async function verifyDisk(disk: DiskDescription): Promise<void> {
  const fd = attempt(disk, () => openSync(disk.path, 'r'));
  try {
    const digests = digestsOf(fd, disk);
    const levels = hashTree(digests, disk.dataBlocks, sha256);
    const found = Buffer.from(rootHashOf(levels)).toString('hex');
    if (found !== disk.rootHashHex) throw new RktError('DIGEST', `${disk.path}: the content has changed: expected the root hash ${disk.rootHashHex}, found ${found}`);
    const uuid = readAt(fd, disk, disk.dataBlocks * BLOCK_BYTES + SUPERBLOCK_UUID.offsetBytes, SUPERBLOCK_UUID.lengthBytes);
    await writeVerity(comparing(fd, disk), { digests, dataBlocks: disk.dataBlocks, levels, uuid });
  } finally {
    closeSync(fd);
  }
}

function digestsOf(fd: number, disk: DiskDescription): BlockDigests {
  const digests = new BlockDigests(sha256(new Uint8Array(BLOCK_BYTES)));
  const endBytes = disk.dataBlocks * BLOCK_BYTES;
  for (let offset = 0; offset < endBytes; offset += CHUNK_BYTES) {
    const chunk = readAt(fd, disk, offset, Math.min(CHUNK_BYTES, endBytes - offset));
    for (let at = 0; at < chunk.length; at += BLOCK_BYTES) digests.set((offset + at) / BLOCK_BYTES, sha256(chunk.subarray(at, at + BLOCK_BYTES)));
  }
  return digests;
}

/** Compares what should be written with what is there. */
function comparing(fd: number, disk: DiskDescription): DiskSink {
  return {
    write: (offsetBytes, data) => {
      if (!readAt(fd, disk, offsetBytes, data.length).equals(data)) throw new RktError('DIGEST', `${disk.path}: the hash tree has changed near byte ${offsetBytes}`);
    },
    zero: () => {},
    truncate: () => {},
  };
}

function readAt(fd: number, disk: DiskDescription, offsetBytes: number, lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes);
  const count = attempt(disk, () => {
    let read = 0;
    for (let got = -1; got !== 0 && read < lengthBytes; read += got) got = readSync(fd, bytes, read, lengthBytes - read, offsetBytes + read);
    return read;
  });
  if (count < lengthBytes) throw new RktError('DIGEST', `${disk.path}: ends at byte ${offsetBytes + count}, which is too early`);
  return bytes;
}

function attempt<T>(disk: DiskDescription, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw fileError(error, disk.path);
  }
}
