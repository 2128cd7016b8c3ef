// Starts a process whose whole set-up is a list of system calls prepared by JavaScript (see Operation in runtime/sys.ts).
//
// The child is created like vfork: it shares this process's memory until it executes a program or exits, while this process
// waits. So nothing is copied, no JavaScript, allocator or libc runs in the child, and a failure is reported by plain stores.
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/syscall.h>
#include "runtime.h"

#define MAX_OPERATIONS 512
#define MAX_ARGUMENTS 6
// Added to a system call number: its failure is ignored.
#define IGNORE_FAILURE 0x10000

#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

// linux/sched.h, which the static C library does not come with.
struct clone_arguments {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

struct operation {
    long nr;
    long arguments[MAX_ARGUMENTS];
    uint8_t result_of; // bit n: argument n is the index of an earlier operation and stands for that one's result
};

static struct operation operations[MAX_OPERATIONS];
static long results[MAX_OPERATIONS];
static int operation_count;
static volatile int failed_operation;
static volatile long failed_result;
static uint8_t child_stack[16384] __attribute__((aligned(16)));

__attribute__((noreturn)) static void run_operations(void) {
    for (int i = 0; i < operation_count; i++) {
        struct operation *op = &operations[i];
        long a[MAX_ARGUMENTS];
        for (int j = 0; j < MAX_ARGUMENTS; j++) a[j] = op->result_of >> j & 1 ? results[op->arguments[j]] : op->arguments[j];
        results[i] = raw_syscall(op->nr & ~IGNORE_FAILURE, a[0], a[1], a[2], a[3], a[4], a[5]);
        if (results[i] < 0 && !(op->nr & IGNORE_FAILURE)) {
            failed_operation = i;
            failed_result = results[i];
            break;
        }
    }
    raw_syscall(SYS_exit_group, 127, 0, 0, 0, 0, 0);
    __builtin_trap(); // a seccomp filter may forbid exit_group: the child must die all the same, its parent waits for it
}

static long clone_child(struct clone_arguments *args) {
    register void (*entry)(void) __asm__("r8") = run_operations;
    long result;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "call *%%r8\n\t"
                     "ud2\n"
                     "1:"
                     : "=a"(result)
                     : "a"((long)SYS_clone3), "D"(args), "S"(sizeof *args), "r"(entry)
                     : "rcx", "r11", "memory");
    return result;
}

// What the converted operations point to, released when the child has its own memory.
struct kept {
    const char **texts;
    size_t count, capacity;
    char ***vectors;
    size_t vector_count, vector_capacity;
};

static const char *keep_text(JSContext *ctx, struct kept *kept, JSValueConst value) {
    if (kept->count == kept->capacity) {
        size_t capacity = kept->capacity ? kept->capacity * 2 : 64;
        const char **texts = js_realloc(ctx, kept->texts, capacity * sizeof *texts);
        if (!texts) return NULL;
        kept->texts = texts;
        kept->capacity = capacity;
    }
    const char *text = path_argument(ctx, value);
    if (text) kept->texts[kept->count++] = text;
    return text;
}

// By their atoms, because a list has dozens of them. There is one context.
static JSAtom length_name, result_name;

static void name_properties(JSContext *ctx) {
    if (length_name != JS_ATOM_NULL) return;
    length_name = JS_NewAtom(ctx, "length");
    result_name = JS_NewAtom(ctx, "result");
}

static int array_length(JSContext *ctx, JSValueConst array, int32_t *length) {
    JSValue value = JS_GetProperty(ctx, array, length_name);
    return JS_ToInt32(ctx, length, value);
}

// string[] → char *[] with a terminating NULL
static int vector_argument(JSContext *ctx, struct kept *kept, JSValueConst array, long *out) {
    int32_t length;
    if (array_length(ctx, array, &length)) return -1;
    if (kept->vector_count == kept->vector_capacity) {
        size_t capacity = kept->vector_capacity ? kept->vector_capacity * 2 : 16;
        char ***vectors = js_realloc(ctx, kept->vectors, capacity * sizeof *vectors);
        if (!vectors) return -1;
        kept->vectors = vectors;
        kept->vector_capacity = capacity;
    }
    char **vector = js_mallocz(ctx, ((size_t)length + 1) * sizeof *vector);
    if (!vector) return -1;
    kept->vectors[kept->vector_count++] = vector;
    for (int32_t i = 0; i < length; i++) {
        JSValue item = JS_GetPropertyUint32(ctx, array, (uint32_t)i);
        const char *text = JS_IsString(item) ? keep_text(ctx, kept, item) : NULL;
        int bad = !text;
        if (!JS_IsString(item)) JS_ThrowTypeError(ctx, "array of strings expected");
        JS_FreeValue(ctx, item);
        if (bad) return -1;
        vector[i] = (char *)text;
    }
    *out = (long)vector;
    return 0;
}

// { result: n }
static int result_argument(JSContext *ctx, JSValueConst value, int index, long *out) {
    JSValue property = JS_GetProperty(ctx, value, result_name);
    int32_t number;
    if (JS_IsUndefined(property)) return 0;
    if (JS_ToInt32(ctx, &number, property)) return -1;
    if (number < 0 || number >= index) {
        JS_ThrowRangeError(ctx, "result of operation %d used by operation %d", number, index);
        return -1;
    }
    *out = number;
    return 1;
}

static int operation_argument(JSContext *ctx, struct kept *kept, JSValueConst value, int index, int position) {
    long *out = &operations[index].arguments[position];
    if (JS_IsString(value)) {
        *out = (long)keep_text(ctx, kept, value);
        return *out ? 0 : -1;
    }
    if (!JS_IsObject(value)) return scalar_argument(ctx, value, out);
    if (JS_IsArray(ctx, value) > 0) return vector_argument(ctx, kept, value, out);
    int found = result_argument(ctx, value, index, out);
    if (found < 0) return -1;
    if (found) {
        operations[index].result_of |= (uint8_t)(1 << position);
        return 0;
    }
    return scalar_argument(ctx, value, out);
}

static int convert_operation(JSContext *ctx, struct kept *kept, JSValueConst op, int index) {
    int32_t length;
    if (array_length(ctx, op, &length)) return -1;
    if (length < 1 || length > 1 + MAX_ARGUMENTS) {
        JS_ThrowRangeError(ctx, "operation %d has %d elements", index, length);
        return -1;
    }
    memset(&operations[index], 0, sizeof operations[index]);
    for (int i = 0; i < length; i++) {
        JSValue value = JS_GetPropertyUint32(ctx, op, (uint32_t)i);
        int bad = i ? operation_argument(ctx, kept, value, index, i - 1) : scalar_argument(ctx, value, &operations[index].nr);
        JS_FreeValue(ctx, value);
        if (bad) return -1;
    }
    return 0;
}

// Of a list: an operation, or the bytes of one that js_prepare made.
static int add_operation(JSContext *ctx, struct kept *kept, JSValueConst op, int index) {
    if (JS_IsArray(ctx, op) > 0) return convert_operation(ctx, kept, op, index);
    size_t length;
    uint8_t *bytes = bytes_of(ctx, op, &length);
    if (!bytes) return -1;
    if (length != sizeof operations[index]) {
        JS_ThrowRangeError(ctx, "operation %d is none that was prepared", index);
        return -1;
    }
    memcpy(&operations[index], bytes, length);
    return 0;
}

static void release(JSContext *ctx, struct kept *kept) {
    for (size_t i = 0; i < kept->count; i++) JS_FreeCString(ctx, kept->texts[i]);
    for (size_t i = 0; i < kept->vector_count; i++) js_free(ctx, kept->vectors[i]);
    js_free(ctx, kept->vectors);
    js_free(ctx, kept->texts);
}

// prepare(operation) → Uint8Array for spawn. Only numbers and buffers: what is copied for a list is gone after it.
JSValue js_prepare(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv) {
    (void)this_value, (void)argc;
    struct kept kept = { 0 };
    name_properties(ctx);
    int bad = convert_operation(ctx, &kept, argv[0], 0);
    if (!bad && (kept.count > 0 || kept.vector_count > 0)) {
        JS_ThrowTypeError(ctx, "prepare: numbers and buffers expected");
        bad = 1;
    }
    release(ctx, &kept);
    return bad ? JS_EXCEPTION : new_bytes(ctx, (const uint8_t *)&operations[0], sizeof operations[0]);
}

static long start_child(uint64_t flags, int64_t cgroup_fd, int32_t wanted_pid) {
    pid_t set_tid = wanted_pid;
    struct clone_arguments args = {
        .flags = flags | CLONE_VM | CLONE_VFORK,
        .exit_signal = SIGCHLD,
        .stack = (uint64_t)(uintptr_t)child_stack,
        .stack_size = sizeof child_stack,
    };
    if (cgroup_fd >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)cgroup_fd;
    }
    if (set_tid > 0) {
        args.set_tid = (uint64_t)(uintptr_t)&set_tid;
        args.set_tid_size = 1;
    }
    failed_operation = -1;
    return clone_child(&args);
}

// spawn(flags, cgroupFd, operations, failure: Int32Array(2), wantedPid) → pid; -errno when no process could be made; 0 when operation
// failure[0] failed with errno failure[1] (that child is gone and reaped).
JSValue js_spawn(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv) {
    (void)this_value;
    struct kept kept = { 0 };
    int64_t flags, cgroup_fd;
    size_t failure_bytes;
    if (JS_ToInt64Ext(ctx, &flags, argv[0]) || JS_ToInt64Ext(ctx, &cgroup_fd, argv[1])) return JS_EXCEPTION;
    int32_t wanted_pid = 0; // any
    if (argc > 4 && JS_ToInt32(ctx, &wanted_pid, argv[4])) return JS_EXCEPTION;
    int32_t *failure = (int32_t *)bytes_of(ctx, argv[3], &failure_bytes);
    if (!failure) return JS_EXCEPTION;
    if (failure_bytes < 8) return JS_ThrowRangeError(ctx, "failure: Int32Array(2) expected");
    int32_t count;
    name_properties(ctx);
    if (array_length(ctx, argv[2], &count)) return JS_EXCEPTION;
    if (count < 1 || count > MAX_OPERATIONS) return JS_ThrowRangeError(ctx, "%d operations", count);
    operation_count = count;
    int bad = 0;
    for (int32_t i = 0; i < count && !bad; i++) {
        JSValue op = JS_GetPropertyUint32(ctx, argv[2], (uint32_t)i);
        bad = add_operation(ctx, &kept, op, i);
        JS_FreeValue(ctx, op);
    }
    long pid = bad ? 0 : start_child((uint64_t)flags, cgroup_fd, wanted_pid);
    if (pid > 0 && failed_operation >= 0) {
        raw_syscall(SYS_wait4, pid, 0, 0x40000000 /* __WALL */, 0, 0, 0);
        failure[0] = failed_operation;
        failure[1] = (int32_t)-failed_result;
        pid = 0;
    }
    release(ctx, &kept);
    return bad ? JS_EXCEPTION : JS_NewInt64(ctx, pid);
}
