/** How a file is compressed, told by its first bytes. */
export type Compression = 'none' | 'gzip' | 'zstd' | 'xz' | 'bzip2';

/** First bytes of a file that are enough to tell. */
export const COMPRESSION_HEAD_BYTES = 6;

const MAGICS: readonly { compression: Compression; bytes: readonly number[] }[] = [
  { compression: 'gzip', bytes: [0x1f, 0x8b] },
  { compression: 'zstd', bytes: [0x28, 0xb5, 0x2f, 0xfd] },
  // A skippable frame of zstd may come first; the low four bits of its first byte are free.
  ...Array.from({ length: 16 }, (_, index) => ({ compression: 'zstd' as const, bytes: [0x50 + index, 0x2a, 0x4d, 0x18] })),
  { compression: 'xz', bytes: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00] },
  { compression: 'bzip2', bytes: [0x42, 0x5a, 0x68] },
];

export function compressionOf(head: Uint8Array): Compression {
  return MAGICS.find(({ bytes }) => bytes.every((byte, index) => head[index] === byte))?.compression ?? 'none';
}
