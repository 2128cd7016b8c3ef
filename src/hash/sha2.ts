/**
 * SHA-256, SHA-384 and SHA-512 (FIPS 180-4) for places that have no other, or where loading another takes longer than a
 * short message. 64-bit words are pairs of 32-bit halves, high half first.
 */

/** A whole message to its digest. */
export type Hash = (data: Uint8Array) => Uint8Array;

/** Hash of a message that comes in pieces; `digest` may be called once. */
export interface Hasher {
  update(data: Uint8Array): this;
  digest(): Uint8Array;
}

/** First 32 bits of the fractional parts of the cube roots of the first 80 primes (64 of them for SHA-256), and the next 32. */
const ROUND_HIGH = new Int32Array([
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
  0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
  0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
  0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
  0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
  0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2, 0xca273ece, 0xd186b8c7, 0xeada7dd6, 0xf57d4f7f, 0x06f067aa, 0x0a637dc5,
  0x113f9804, 0x1b710b35, 0x28db77f5, 0x32caab7b, 0x3c9ebe0a, 0x431d67c4, 0x4cc5d4be, 0x597f299c, 0x5fcb6fab, 0x6c44198c,
]);
const ROUND_LOW = new Int32Array([
  0xd728ae22, 0x23ef65cd, 0xec4d3b2f, 0x8189dbbc, 0xf348b538, 0xb605d019, 0xaf194f9b, 0xda6d8118, 0xa3030242, 0x45706fbe,
  0x4ee4b28c, 0xd5ffb4e2, 0xf27b896f, 0x3b1696b1, 0x25c71235, 0xcf692694, 0x9ef14ad2, 0x384f25e3, 0x8b8cd5b5, 0x77ac9c65,
  0x592b0275, 0x6ea6e483, 0xbd41fbd4, 0x831153b5, 0xee66dfab, 0x2db43210, 0x98fb213f, 0xbeef0ee4, 0x3da88fc2, 0x930aa725,
  0xe003826f, 0x0a0e6e70, 0x46d22ffc, 0x5c26c926, 0x5ac42aed, 0x9d95b3df, 0x8baf63de, 0x3c77b2a8, 0x47edaee6, 0x1482353b,
  0x4cf10364, 0xbc423001, 0xd0f89791, 0x0654be30, 0xd6ef5218, 0x5565a910, 0x5771202a, 0x32bbd1b8, 0xb8d2d0c8, 0x5141ab53,
  0xdf8eeb99, 0xe19b48a8, 0xc5c95a63, 0xe3418acb, 0x7763e373, 0xd6b2b8a3, 0x5defb2fc, 0x43172f60, 0xa1f0ab72, 0x1a6439ec,
  0x23631e28, 0xde82bde9, 0xb2c67915, 0xe372532b, 0xea26619c, 0x21c0c207, 0xcde0eb1e, 0xee6ed178, 0x72176fba, 0xa2c898a6,
  0xbef90dae, 0x131c471b, 0x23047d84, 0x40c72493, 0x15c9bebc, 0x9c100d4c, 0xcb3e42b6, 0xfc657e2a, 0x3ad6faec, 0x4a475817,
]);

const SHA256_START = [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];
const SHA384_START = [
  0xcbbb9d5d, 0xc1059ed8, 0x629a292a, 0x367cd507, 0x9159015a, 0x3070dd17, 0x152fecd8, 0xf70e5939,
  0x67332667, 0xffc00b31, 0x8eb44a87, 0x68581511, 0xdb0c2e0d, 0x64f98fa7, 0x47b5481d, 0xbefa4fa4,
];

const SHA512_START = [
  0x6a09e667, 0xf3bcc908, 0xbb67ae85, 0x84caa73b, 0x3c6ef372, 0xfe94f82b, 0xa54ff53a, 0x5f1d36f1,
  0x510e527f, 0xade682d1, 0x9b05688c, 0x2b3e6c1f, 0x1f83d9ab, 0xfb41bd6b, 0x5be0cd19, 0x137e2179,
];

/** What differs between the hashes besides the size of their words. */
interface Variant {
  blockBytes: number;
  /** Of the message's length in the last block. */
  lengthBytes: number;
  digestBytes: number;
  start: readonly number[];
  compress(state: Int32Array, words: Int32Array): void;
}

const SHA256: Variant = { blockBytes: 64, lengthBytes: 8, digestBytes: 32, start: SHA256_START, compress: compress256 };
const SHA384: Variant = { blockBytes: 128, lengthBytes: 16, digestBytes: 48, start: SHA384_START, compress: compress512 };

const SHA512: Variant = { ...SHA384, digestBytes: 64, start: SHA512_START };

export const sha256: Hash = (data) => new Sha2(SHA256).update(data).digest();
export const sha384: Hash = (data) => new Sha2(SHA384).update(data).digest();
export const sha512: Hash = (data) => new Sha2(SHA512).update(data).digest();

export function createSha256(): Hasher {
  return new Sha2(SHA256);
}

export function createSha384(): Hasher {
  return new Sha2(SHA384);
}

export function createSha512(): Hasher {
  return new Sha2(SHA512);
}

class Sha2 implements Hasher {
  readonly #variant: Variant;
  readonly #state: Int32Array;
  /** The message schedule; its beginning is the block. */
  readonly #words: Int32Array;
  readonly #block: Uint8Array;
  #filled = 0;
  #totalBytes = 0;

  constructor(variant: Variant) {
    this.#variant = variant;
    this.#state = new Int32Array(variant.start);
    this.#words = new Int32Array(variant.blockBytes === 64 ? 64 : 160);
    this.#block = new Uint8Array(variant.blockBytes);
  }

  update(data: Uint8Array): this {
    const { blockBytes } = this.#variant;
    this.#totalBytes += data.length;
    let at = 0;
    if (this.#filled > 0) {
      at = Math.min(data.length, blockBytes - this.#filled);
      this.#block.set(data.subarray(0, at), this.#filled);
      this.#filled += at;
      if (this.#filled < blockBytes) return this;
      this.#compress(this.#block, 0);
    }
    for (; at + blockBytes <= data.length; at += blockBytes) this.#compress(data, at);
    this.#block.set(data.subarray(at));
    this.#filled = data.length - at;
    return this;
  }

  digest(): Uint8Array {
    const { blockBytes, lengthBytes, digestBytes } = this.#variant;
    const block = this.#block;
    block[this.#filled] = 0x80;
    block.fill(0, this.#filled + 1);
    if (this.#filled + 1 + lengthBytes > blockBytes) {
      this.#compress(block, 0);
      block.fill(0);
    }
    const view = new DataView(block.buffer);
    // A message's length in bits fits 53 bits and thus these two words, whatever the format allows.
    view.setUint32(blockBytes - 8, Math.floor(this.#totalBytes / 0x20000000));
    view.setUint32(blockBytes - 4, this.#totalBytes << 3);
    this.#compress(block, 0);
    const digest = new Uint8Array(digestBytes);
    const out = new DataView(digest.buffer);
    for (let i = 0; i < digestBytes; i += 4) out.setInt32(i, this.#state[i >> 2]!);
    return digest;
  }

  #compress(data: Uint8Array, at: number): void {
    const words = this.#words;
    const count = this.#variant.blockBytes >> 2;
    for (let i = 0, j = at; i < count; i++, j += 4) words[i] = (data[j]! << 24) | (data[j + 1]! << 16) | (data[j + 2]! << 8) | data[j + 3]!;
    this.#variant.compress(this.#state, words);
  }
}

function compress256(state: Int32Array, w: Int32Array): void {
  for (let i = 16; i < 64; i++) {
    const x = w[i - 15]!;
    const y = w[i - 2]!;
    const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
    const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
    w[i] = w[i - 16]! + s0 + w[i - 7]! + s1;
  }
  let a = state[0]!, b = state[1]!, c = state[2]!, d = state[3]!, e = state[4]!, f = state[5]!, g = state[6]!, h = state[7]!;
  for (let i = 0; i < 64; i++) {
    const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const t1 = (h + s1 + ((e & f) ^ (~e & g)) + ROUND_HIGH[i]! + w[i]!) | 0;
    const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g; g = f; f = e;
    e = (d + t1) | 0;
    d = c; c = b; b = a;
    a = (t1 + t2) | 0;
  }
  state[0]! += a; state[1]! += b; state[2]! += c; state[3]! += d; state[4]! += e; state[5]! += f; state[6]! += g; state[7]! += h;
}

/** What is carried out of a sum of low halves into the sum of the high ones. Up to five summands. */
function carryOf(lowSum: number): number {
  return (lowSum / 0x100000000) | 0;
}

/** The compression of SHA-512, which SHA-384 shares. */
function compress512(state: Int32Array, w: Int32Array): void {
  for (let i = 32; i < 160; i += 2) {
    const xh = w[i - 30]!, xl = w[i - 29]!, yh = w[i - 4]!, yl = w[i - 3]!;
    const s0h = ((xh >>> 1) | (xl << 31)) ^ ((xh >>> 8) | (xl << 24)) ^ (xh >>> 7);
    const s0l = ((xl >>> 1) | (xh << 31)) ^ ((xl >>> 8) | (xh << 24)) ^ ((xl >>> 7) | (xh << 25));
    const s1h = ((yh >>> 19) | (yl << 13)) ^ ((yl >>> 29) | (yh << 3)) ^ (yh >>> 6);
    const s1l = ((yl >>> 19) | (yh << 13)) ^ ((yh >>> 29) | (yl << 3)) ^ ((yl >>> 6) | (yh << 26));
    const low = (w[i - 31]! >>> 0) + (s0l >>> 0) + (w[i - 13]! >>> 0) + (s1l >>> 0);
    w[i + 1] = low;
    w[i] = w[i - 32]! + s0h + w[i - 14]! + s1h + carryOf(low);
  }
  let ah = state[0]!, al = state[1]!, bh = state[2]!, bl = state[3]!, ch = state[4]!, cl = state[5]!, dh = state[6]!, dl = state[7]!;
  let eh = state[8]!, el = state[9]!, fh = state[10]!, fl = state[11]!, gh = state[12]!, gl = state[13]!, hh = state[14]!, hl = state[15]!;
  for (let i = 0; i < 80; i++) {
    const s1h = ((eh >>> 14) | (el << 18)) ^ ((eh >>> 18) | (el << 14)) ^ ((el >>> 9) | (eh << 23));
    const s1l = ((el >>> 14) | (eh << 18)) ^ ((el >>> 18) | (eh << 14)) ^ ((eh >>> 9) | (el << 23));
    const choiceL = (el & fl) ^ (~el & gl);
    const t1Low = (hl >>> 0) + (s1l >>> 0) + (choiceL >>> 0) + (ROUND_LOW[i]! >>> 0) + (w[2 * i + 1]! >>> 0);
    const t1l = t1Low | 0;
    const t1h = (hh + s1h + ((eh & fh) ^ (~eh & gh)) + ROUND_HIGH[i]! + w[2 * i]! + carryOf(t1Low)) | 0;
    const s0h = ((ah >>> 28) | (al << 4)) ^ ((al >>> 2) | (ah << 30)) ^ ((al >>> 7) | (ah << 25));
    const s0l = ((al >>> 28) | (ah << 4)) ^ ((ah >>> 2) | (al << 30)) ^ ((ah >>> 7) | (al << 25));
    const t2Low = (s0l >>> 0) + (((al & bl) ^ (al & cl) ^ (bl & cl)) >>> 0);
    const t2h = (s0h + ((ah & bh) ^ (ah & ch) ^ (bh & ch)) + carryOf(t2Low)) | 0;
    hh = gh; hl = gl; gh = fh; gl = fl; fh = eh; fl = el;
    const eLow = (dl >>> 0) + (t1l >>> 0);
    el = eLow | 0;
    eh = (dh + t1h + carryOf(eLow)) | 0;
    dh = ch; dl = cl; ch = bh; cl = bl; bh = ah; bl = al;
    const aLow = (t1l >>> 0) + (t2Low >>> 0);
    al = aLow | 0;
    ah = (t1h + t2h + carryOf(aLow)) | 0;
  }
  add64(state, 0, ah, al); add64(state, 2, bh, bl); add64(state, 4, ch, cl); add64(state, 6, dh, dl);
  add64(state, 8, eh, el); add64(state, 10, fh, fl); add64(state, 12, gh, gl); add64(state, 14, hh, hl);
}

function add64(state: Int32Array, at: number, high: number, low: number): void {
  const sum = (state[at + 1]! >>> 0) + (low >>> 0);
  state[at + 1] = sum;
  state[at]! += high + carryOf(sum);
}
