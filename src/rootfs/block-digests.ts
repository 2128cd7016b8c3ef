/** Sizes fixed by the disk format: dm-verity with SHA-256 and 4096-byte blocks over EROFS with 4096-byte blocks. */
export const BLOCK_BYTES = 4096;
export const DIGEST_BYTES = 32;

/** One page is for 8 MiB of the disk. */
const PAGE_LEAVES = 2048;
const PAGE_BYTES = PAGE_LEAVES * DIGEST_BYTES;
/** 16 MiB, for 2 GiB of the disk. */
const PAGES_IN_MEMORY = 256;

/** Where digests go that are too many to be kept in memory. What was written stays readable until the disk is done. */
export interface DigestScratch {
  write(offsetBytes: number, data: Uint8Array): void;
  /** Fills all of `into`. */
  read(offsetBytes: number, into: Uint8Array): void;
}

export interface BlockDigestsOptions {
  /** Without it all stay in memory. */
  scratch?: DigestScratch | undefined;
  pagesInMemory?: number;
}

/**
 * The digest of each block of the disk, in pages of 64 KiB. A page that was never touched stands for blocks of zeros and
 * costs nothing, so that a file system with huge holes does not either.
 */
export class BlockDigests {
  /** Digest of a block of zeros. */
  readonly zeroDigest: Uint8Array;
  /** Those in memory, in the order in which they came there. */
  readonly #pages = new Map<number, Uint8Array>();
  readonly #zeroPage: Uint8Array;
  readonly #scratch: DigestScratch | undefined;
  readonly #pagesInMemory: number;
  readonly #inScratch = new Set<number>();

  constructor(zeroDigest: Uint8Array, { scratch, pagesInMemory = PAGES_IN_MEMORY }: BlockDigestsOptions = {}) {
    this.zeroDigest = zeroDigest;
    this.#zeroPage = new Uint8Array(PAGE_BYTES);
    for (let i = 0; i < PAGE_LEAVES; i++) this.#zeroPage.set(zeroDigest, i * DIGEST_BYTES);
    this.#scratch = scratch;
    this.#pagesInMemory = pagesInMemory;
  }

  set(block: number, digest: Uint8Array): void {
    const index = Math.floor(block / PAGE_LEAVES);
    let page = this.#touchedPage(index);
    if (page === undefined) {
      page = this.#newPage(index);
      page.set(this.#zeroPage);
    }
    page.set(digest, (block % PAGE_LEAVES) * DIGEST_BYTES);
  }

  /** The blocks hold zeros again. */
  clear(firstBlock: number, count: number): void {
    const end = firstBlock + count;
    for (let block = firstBlock; block < end; ) {
      const index = Math.floor(block / PAGE_LEAVES);
      const pageEnd = Math.min(end, (index + 1) * PAGE_LEAVES);
      this.#touchedPage(index)?.set(this.#zeroPage.subarray(0, (pageEnd - block) * DIGEST_BYTES), (block % PAGE_LEAVES) * DIGEST_BYTES);
      block = pageEnd;
    }
  }

  /** The digests of `count` blocks, one after the other; the range must not cross a multiple of `count`, a power of two up to 2048. A view, good until the next call. */
  slice(firstBlock: number, count: number): Uint8Array {
    const page = this.#touchedPage(Math.floor(firstBlock / PAGE_LEAVES)) ?? this.#zeroPage;
    const start = (firstBlock % PAGE_LEAVES) * DIGEST_BYTES;
    return page.subarray(start, start + count * DIGEST_BYTES);
  }

  /** Whether all blocks of the page that `block` is in are known to be zeros. */
  isUntouched(block: number): boolean {
    const index = Math.floor(block / PAGE_LEAVES);
    return !this.#pages.has(index) && !this.#inScratch.has(index);
  }

  #touchedPage(index: number): Uint8Array | undefined {
    const page = this.#pages.get(index);
    if (page !== undefined || this.#scratch === undefined || !this.#inScratch.has(index)) return page;
    const restored = this.#newPage(index);
    this.#scratch.read(index * PAGE_BYTES, restored);
    return restored;
  }

  /** With anything in it. What came first goes to the scratch place first, and its memory is used again: a disk is written from its beginning to its end. */
  #newPage(index: number): Uint8Array {
    const [oldest] = this.#pages;
    let page: Uint8Array;
    if (this.#scratch !== undefined && oldest !== undefined && this.#pages.size >= this.#pagesInMemory) {
      this.#scratch.write(oldest[0] * PAGE_BYTES, oldest[1]);
      this.#inScratch.add(oldest[0]);
      this.#pages.delete(oldest[0]);
      page = oldest[1];
    } else page = new Uint8Array(PAGE_BYTES);
    this.#pages.set(index, page);
    return page;
  }
}
