// Memory for the engine. Small blocks come from size classes in one lazily touched region (no system call, no lock, never
// returned); large ones are mappings of their own, so they go back to the system and grow by moving page tables.
// Half of the engine's start-up with a general-purpose allocator is spent in that allocator.
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include "runtime.h"

#define SMALL_MAX 16384u
#define CHUNK_BYTES 65536u
#define CHUNK_COUNT (RKT_JS_MEMORY_LIMIT / CHUNK_BYTES)
#define LARGE_HEADER_BYTES 16u
#define CLASS_COUNT 40

static uint8_t region[(size_t)CHUNK_COUNT * CHUNK_BYTES] __attribute__((aligned(4096)));
static uint8_t chunk_class[CHUNK_COUNT];
static uint32_t chunks_used;
static void *free_list[CLASS_COUNT];
static uint8_t *bump_next[CLASS_COUNT], *bump_end[CLASS_COUNT];

// Classes 0..15: multiples of 16 up to 256 bytes; then four per power of two up to SMALL_MAX.
static inline unsigned class_of(size_t size) {
    if (size <= 256) return size ? (unsigned)((size - 1) >> 4) : 0;
    unsigned power = 63 - (unsigned)__builtin_clzl(size - 1);
    return 16 + (power - 8) * 4 + (unsigned)(((size - 1) >> (power - 2)) & 3);
}

static inline size_t class_bytes(unsigned class) {
    if (class < 16) return (class + 1) * 16;
    class -= 16;
    return (size_t)(5 + (class & 3)) << (6 + class / 4);
}

static inline int is_small(const void *block) {
    return (const uint8_t *)block >= region && (const uint8_t *)block < region + sizeof region;
}

static inline size_t *large_size(const void *block) {
    return (size_t *)((uint8_t *)block - LARGE_HEADER_BYTES);
}

static size_t block_bytes(const void *block) {
    if (!block) return 0;
    if (is_small(block)) return class_bytes(chunk_class[((const uint8_t *)block - region) / CHUNK_BYTES]);
    return *large_size(block) - LARGE_HEADER_BYTES;
}

static size_t large_mapping_bytes(size_t size) {
    return (size + LARGE_HEADER_BYTES + 4095) & ~(size_t)4095;
}

static void *large_block(long address, size_t mapping) {
    if (address < 0 && address > -4096) return NULL;
    *(size_t *)address = mapping;
    return (uint8_t *)address + LARGE_HEADER_BYTES;
}

static void *allocate(size_t size) {
    if (size > SMALL_MAX) {
        if (size > RKT_JS_MEMORY_LIMIT) return NULL;
        size_t mapping = large_mapping_bytes(size);
        return large_block(raw_syscall(SYS_mmap, 0, (long)mapping, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), mapping);
    }
    unsigned class = class_of(size);
    void *block = free_list[class];
    if (block) {
        free_list[class] = *(void **)block;
        return block;
    }
    size_t bytes = class_bytes(class);
    if ((size_t)(bump_end[class] - bump_next[class]) < bytes) {
        if (chunks_used >= CHUNK_COUNT) return NULL;
        chunk_class[chunks_used] = (uint8_t)class;
        bump_next[class] = region + (size_t)chunks_used * CHUNK_BYTES;
        bump_end[class] = bump_next[class] + CHUNK_BYTES;
        chunks_used++;
    }
    block = bump_next[class];
    bump_next[class] += bytes;
    return block;
}

static void release(void *block) {
    if (is_small(block)) {
        unsigned class = chunk_class[((uint8_t *)block - region) / CHUNK_BYTES];
        *(void **)block = free_list[class];
        free_list[class] = block;
    } else {
        raw_syscall(SYS_munmap, (long)large_size(block), (long)*large_size(block), 0, 0, 0, 0);
    }
}

static void *arena_malloc(JSMallocState *state, size_t size) {
    if (size > state->malloc_limit || state->malloc_size > state->malloc_limit - size) return NULL;
    void *block = allocate(size);
    if (!block) return NULL;
    state->malloc_count++;
    state->malloc_size += block_bytes(block);
    return block;
}

static void arena_free(JSMallocState *state, void *block) {
    if (!block) return;
    state->malloc_count--;
    state->malloc_size -= block_bytes(block);
    release(block);
}

static void *arena_realloc(JSMallocState *state, void *block, size_t size) {
    if (!block) return size ? arena_malloc(state, size) : NULL;
    if (!size) {
        arena_free(state, block);
        return NULL;
    }
    size_t old = block_bytes(block);
    if (size <= old && (old <= SMALL_MAX || size > SMALL_MAX)) return block;
    if (!is_small(block) && size > SMALL_MAX) {
        if (size - old > state->malloc_limit || state->malloc_size > state->malloc_limit - (size - old)) return NULL;
        size_t mapping = large_mapping_bytes(size);
        void *moved = large_block(raw_syscall(SYS_mremap, (long)large_size(block), (long)*large_size(block), (long)mapping, MREMAP_MAYMOVE, 0, 0), mapping);
        if (moved) state->malloc_size += block_bytes(moved) - old;
        return moved;
    }
    void *copy = arena_malloc(state, size);
    if (!copy) return NULL;
    memcpy(copy, block, size < old ? size : old);
    arena_free(state, block);
    return copy;
}

const JSMallocFunctions arena_functions = { arena_malloc, arena_free, arena_realloc, block_bytes };
