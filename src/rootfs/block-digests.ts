/** Sizes fixed by the disk format: dm-verity with SHA-256 and 4096-byte blocks over EROFS with 4096-byte blocks. */
export const BLOCK_BYTES = 4096;
export const DIGEST_BYTES = 32;

const PAGE_LEAVES = 32_768;

/**
 * The digest of each block of the disk, in pages of 1 MiB. A page that was never touched stands for blocks of zeros and
 * costs nothing, so that a file system with huge holes does not either.
 */
export class BlockDigests {
  /** Digest of a block of zeros. */
  readonly zeroDigest: Uint8Array;
  readonly #pages = new Map<number, Uint8Array>();
  readonly #zeroPage: Uint8Array;

  constructor(zeroDigest: Uint8Array) {
    this.zeroDigest = zeroDigest;
    this.#zeroPage = new Uint8Array(PAGE_LEAVES * DIGEST_BYTES);
    for (let i = 0; i < PAGE_LEAVES; i++) this.#zeroPage.set(zeroDigest, i * DIGEST_BYTES);
  }

  set(block: number, digest: Uint8Array): void {
    const index = Math.floor(block / PAGE_LEAVES);
    let page = this.#pages.get(index);
    if (page === undefined) this.#pages.set(index, (page = this.#zeroPage.slice()));
    page.set(digest, (block % PAGE_LEAVES) * DIGEST_BYTES);
  }

  /** The blocks hold zeros again. */
  clear(firstBlock: number, count: number): void {
    const end = firstBlock + count;
    for (let block = firstBlock; block < end; ) {
      const index = Math.floor(block / PAGE_LEAVES);
      const pageEnd = Math.min(end, (index + 1) * PAGE_LEAVES);
      this.#pages.get(index)?.set(this.#zeroPage.subarray(0, (pageEnd - block) * DIGEST_BYTES), (block % PAGE_LEAVES) * DIGEST_BYTES);
      block = pageEnd;
    }
  }

  /** The digests of `count` blocks, one after the other; the range must not cross a multiple of `count`, a power of two up to 32768. A view. */
  slice(firstBlock: number, count: number): Uint8Array {
    const page = this.#pages.get(Math.floor(firstBlock / PAGE_LEAVES)) ?? this.#zeroPage;
    const start = (firstBlock % PAGE_LEAVES) * DIGEST_BYTES;
    return page.subarray(start, start + count * DIGEST_BYTES);
  }

  /** Whether all blocks of the page that `block` is in are known to be zeros. */
  isUntouched(block: number): boolean {
    return !this.#pages.has(Math.floor(block / PAGE_LEAVES));
  }
}
