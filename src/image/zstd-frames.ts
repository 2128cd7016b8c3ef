import { ByteReader } from '../rootfs/byte-reader.ts';
import type { ByteSource } from '../rootfs/bytes.ts';

const FRAME_MAGIC = 0xfd2f_b528;
const SKIPPABLE_MAGIC = 0x184d_2a5;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8];
const DICTIONARY_ID_BYTES = [0, 1, 2, 4];
const RLE_BLOCK = 1;
const BATCH_BYTES = 256 << 10;

/**
 * Cuts zstd data (RFC 8878) at the ends of its frames and drops skippable frames. Node's decoder silently ignores what
 * follows a skippable frame within one chunk, and such frames are what parallel compressors and seekable formats write.
 * Damaged and truncated data pass: the decoder complains.
 */
export async function* zstdFrames(source: ByteSource, name: string): AsyncGenerator<Uint8Array> {
  const reader = new ByteReader(source, Number.POSITIVE_INFINITY, name);
  try {
    for (;;) {
      const magic = Uint8Array.from(await reader.read(4));
      if (magic.length === 0) return;
      if (magic.length === 4 && littleEndian(magic) >>> 4 === SKIPPABLE_MAGIC) {
        await reader.skip(littleEndian(await reader.read(4)));
        continue;
      }
      yield* batches(magic.length === 4 && littleEndian(magic) === FRAME_MAGIC ? frame(reader, magic) : rest(reader, magic));
    }
  } finally {
    await reader.close();
  }
}

async function* frame(reader: ByteReader, magic: Uint8Array): AsyncGenerator<Uint8Array> {
  yield magic;
  const descriptor = Uint8Array.from(await reader.read(1));
  yield descriptor;
  const flags = descriptor[0] ?? 0;
  const singleSegment = (flags & 0x20) !== 0;
  const windowBytes = singleSegment ? 0 : 1;
  const contentSizeBytes = CONTENT_SIZE_BYTES[flags >> 6] || (singleSegment ? 1 : 0);
  yield* pieces(reader, windowBytes + (DICTIONARY_ID_BYTES[flags & 3] ?? 0) + contentSizeBytes);
  for (let last = false; !last; ) {
    const header = Uint8Array.from(await reader.read(3));
    yield header;
    if (header.length < 3) return;
    const bits = littleEndian(header);
    last = (bits & 1) !== 0;
    yield* pieces(reader, ((bits >> 1) & 3) === RLE_BLOCK ? 1 : bits >> 3);
  }
  if ((flags & 4) !== 0) yield* pieces(reader, 4);
}

async function* rest(reader: ByteReader, begun: Uint8Array): AsyncGenerator<Uint8Array> {
  yield begun;
  yield* pieces(reader, Number.POSITIVE_INFINITY);
}

async function* pieces(reader: ByteReader, sizeBytes: number): AsyncGenerator<Uint8Array> {
  for (let left = sizeBytes; left > 0; ) {
    const piece = await reader.readSome(left);
    if (piece.length === 0) return;
    left -= piece.length;
    yield piece;
  }
}

/** Joins small pieces: each chunk costs the decoder a trip to another thread. */
async function* batches(small: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let batch: Uint8Array[] = [];
  let batchBytes = 0;
  for await (const piece of small) {
    batch.push(piece);
    batchBytes += piece.length;
    if (batchBytes < BATCH_BYTES) continue;
    yield Buffer.concat(batch);
    batch = [];
    batchBytes = 0;
  }
  if (batchBytes > 0) yield Buffer.concat(batch);
}

function littleEndian(bytes: Uint8Array): number {
  return bytes.reduce((sum, byte, index) => sum + byte * 2 ** (8 * index), 0);
}
