// SHA-256 and SHA-384 (FIPS 180-4). What is measured is hashed before a pod starts, in a guest that may be emulated, where
// the same in JavaScript takes a tenth of a second.
#include <string.h>
#include "runtime.h"

// First 64 bits of the fractional parts of the cube roots of the first 80 primes; SHA-256 uses the upper halves of 64 of them.
static const uint64_t round_constants[80] = {
    0x428a2f98d728ae22, 0x7137449123ef65cd, 0xb5c0fbcfec4d3b2f, 0xe9b5dba58189dbbc,
    0x3956c25bf348b538, 0x59f111f1b605d019, 0x923f82a4af194f9b, 0xab1c5ed5da6d8118,
    0xd807aa98a3030242, 0x12835b0145706fbe, 0x243185be4ee4b28c, 0x550c7dc3d5ffb4e2,
    0x72be5d74f27b896f, 0x80deb1fe3b1696b1, 0x9bdc06a725c71235, 0xc19bf174cf692694,
    0xe49b69c19ef14ad2, 0xefbe4786384f25e3, 0x0fc19dc68b8cd5b5, 0x240ca1cc77ac9c65,
    0x2de92c6f592b0275, 0x4a7484aa6ea6e483, 0x5cb0a9dcbd41fbd4, 0x76f988da831153b5,
    0x983e5152ee66dfab, 0xa831c66d2db43210, 0xb00327c898fb213f, 0xbf597fc7beef0ee4,
    0xc6e00bf33da88fc2, 0xd5a79147930aa725, 0x06ca6351e003826f, 0x142929670a0e6e70,
    0x27b70a8546d22ffc, 0x2e1b21385c26c926, 0x4d2c6dfc5ac42aed, 0x53380d139d95b3df,
    0x650a73548baf63de, 0x766a0abb3c77b2a8, 0x81c2c92e47edaee6, 0x92722c851482353b,
    0xa2bfe8a14cf10364, 0xa81a664bbc423001, 0xc24b8b70d0f89791, 0xc76c51a30654be30,
    0xd192e819d6ef5218, 0xd69906245565a910, 0xf40e35855771202a, 0x106aa07032bbd1b8,
    0x19a4c116b8d2d0c8, 0x1e376c085141ab53, 0x2748774cdf8eeb99, 0x34b0bcb5e19b48a8,
    0x391c0cb3c5c95a63, 0x4ed8aa4ae3418acb, 0x5b9cca4f7763e373, 0x682e6ff3d6b2b8a3,
    0x748f82ee5defb2fc, 0x78a5636f43172f60, 0x84c87814a1f0ab72, 0x8cc702081a6439ec,
    0x90befffa23631e28, 0xa4506cebde82bde9, 0xbef9a3f7b2c67915, 0xc67178f2e372532b,
    0xca273eceea26619c, 0xd186b8c721c0c207, 0xeada7dd6cde0eb1e, 0xf57d4f7fee6ed178,
    0x06f067aa72176fba, 0x0a637dc5a2c898a6, 0x113f9804bef90dae, 0x1b710b35131c471b,
    0x28db77f523047d84, 0x32caab7b40c72493, 0x3c9ebe0a15c9bebc, 0x431d67c49c100d4c,
    0x4cc5d4becb3e42b6, 0x597f299cfc657e2a, 0x5fcb6fab3ad6faec, 0x6c44198c4a475817,
};

#define ROTATE(type, x, n) ((type)((x) >> (n) | (x) << (8 * sizeof(type) - (n))))

// Instead of moving the eight words along in each round, their numbers move.
#define V(k) v[((unsigned)(k) - (unsigned)i) & 7]

// One variant of the compression function: `word` is its type, the numbers are its rotations and shifts.
#define DEFINE_COMPRESS(name, word, rounds, shift, S0a, S0b, S0c, S1a, S1b, S1c, s0a, s0b, s0c, s1a, s1b, s1c) \
    static void name(word state[8], const uint8_t *block) { \
        word w[rounds], v[8]; \
        for (int i = 0; i < 16; i++) { \
            w[i] = 0; \
            for (unsigned j = 0; j < sizeof(word); j++) w[i] = (word)(w[i] << 8 | block[i * sizeof(word) + j]); \
        } \
        for (int i = 16; i < rounds; i++) { \
            word a = w[i - 15], b = w[i - 2]; \
            w[i] = w[i - 16] + w[i - 7] + (ROTATE(word, a, s0a) ^ ROTATE(word, a, s0b) ^ a >> s0c) + (ROTATE(word, b, s1a) ^ ROTATE(word, b, s1b) ^ b >> s1c); \
        } \
        memcpy(v, state, sizeof v); \
        for (int i = 0; i < rounds; i++) { \
            word t1 = V(7) + (ROTATE(word, V(4), S1a) ^ ROTATE(word, V(4), S1b) ^ ROTATE(word, V(4), S1c)) + ((V(4) & V(5)) ^ (~V(4) & V(6))) + (word)(round_constants[i] >> shift) + w[i]; \
            V(3) += t1; \
            V(7) = t1 + (ROTATE(word, V(0), S0a) ^ ROTATE(word, V(0), S0b) ^ ROTATE(word, V(0), S0c)) + ((V(0) & V(1)) ^ (V(0) & V(2)) ^ (V(1) & V(2))); \
        } \
        for (int i = 0; i < 8; i++) state[i] += v[i]; \
    }

DEFINE_COMPRESS(compress256, uint32_t, 64, 32, 2, 13, 22, 6, 11, 25, 7, 18, 3, 17, 19, 10)
DEFINE_COMPRESS(compress512, uint64_t, 80, 0, 28, 34, 39, 14, 18, 41, 1, 8, 7, 19, 61, 6)

// Hashes a whole message with one of the two: full blocks, then one or two with the padding and the length in bits.
#define DEFINE_HASH(name, word, compress, start, digest_bytes) \
    static void name(const uint8_t *message, size_t length, uint8_t *digest) { \
        enum { BLOCK = 16 * sizeof(word), LENGTH = 2 * sizeof(word) }; \
        word state[8] = start; \
        uint8_t tail[2 * BLOCK] = { 0 }; \
        size_t rest = length % BLOCK, tail_bytes = rest + 1 + LENGTH <= BLOCK ? BLOCK : 2 * BLOCK; \
        for (size_t i = 0; i + BLOCK <= length; i += BLOCK) compress(state, message + i); \
        if (rest) memcpy(tail, message + length - rest, rest); \
        tail[rest] = 0x80; \
        for (int i = 0; i < 8; i++) tail[tail_bytes - 1 - i] = (uint8_t)((uint64_t)length * 8 >> 8 * i); \
        for (size_t i = 0; i < tail_bytes; i += BLOCK) compress(state, tail + i); \
        for (int i = 0; i < digest_bytes; i++) digest[i] = (uint8_t)(state[i / sizeof(word)] >> 8 * (sizeof(word) - 1 - i % sizeof(word))); \
    }

#define START256 { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 }
#define START384 { \
    0xcbbb9d5dc1059ed8, 0x629a292a367cd507, 0x9159015a3070dd17, 0x152fecd8f70e5939, \
    0x67332667ffc00b31, 0x8eb44a8768581511, 0xdb0c2e0d64f98fa7, 0x47b5481dbefa4fa4 }

DEFINE_HASH(hash256, uint32_t, compress256, START256, 32)
DEFINE_HASH(hash384, uint64_t, compress512, START384, 48)

// hash(bits, bytes) → Uint8Array; bits 256 or 384
JSValue js_hash(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv) {
    int32_t bits;
    size_t length;
    uint8_t digest[48];
    (void)this_value, (void)argc;
    if (JS_ToInt32(ctx, &bits, argv[0])) return JS_EXCEPTION;
    if (bits != 256 && bits != 384) return JS_ThrowRangeError(ctx, "hash: 256 or 384 bits");
    uint8_t *bytes = bytes_of(ctx, argv[1], &length);
    if (!bytes) return JS_EXCEPTION;
    (bits == 256 ? hash256 : hash384)(bytes, length, digest);
    return new_bytes(ctx, digest, (size_t)bits / 8);
}
