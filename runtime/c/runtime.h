// Shared by the C files of the runtime. Everything that is policy is TypeScript; see runtime/sys.ts for what JavaScript sees.
#ifndef RKT_RUNTIME_H
#define RKT_RUNTIME_H

#include <stddef.h>
#include <stdint.h>
#include "quickjs.h"

#ifndef RKT_JS_MEMORY_LIMIT
#define RKT_JS_MEMORY_LIMIT (64u << 20)
#endif

// What a program can be, by the name it is called by.
struct bytecode {
    const char *name;
    const uint8_t *bytes;
    size_t size;
};

// One system call without libc: the result, or -errno.
static inline long raw_syscall(long nr, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

// The memory of a typed array or ArrayBuffer; NULL with an exception pending if `value` is neither.
uint8_t *bytes_of(JSContext *ctx, JSValueConst value, size_t *length);

// A Uint8Array of a copy.
JSValue new_bytes(JSContext *ctx, const uint8_t *bytes, size_t length);

// A number, bigint, null/undefined (0), boolean or byte buffer (its address). -1 with an exception pending otherwise.
int scalar_argument(JSContext *ctx, JSValueConst value, long *out);

// A NUL-terminated copy for the kernel, to be released with JS_FreeCString. NULL with an exception pending when the
// string contains a NUL itself: the kernel would see a shorter name than the one that was checked.
const char *path_argument(JSContext *ctx, JSValueConst value);

JSValue js_syscall(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv);
JSValue js_spawn(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv);
JSValue js_prepare(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv);
JSValue js_lines(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv);
JSValue js_hash(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv);

extern const JSMallocFunctions arena_functions;

#endif
