// Starts the engine with the few built-in objects the programs use, runs the embedded bytecode, then turns its event loop.
#include <string.h>
#include <sys/syscall.h>
#include "runtime.h"

// Made by the linker: the section of that name, in the order of the objects.
extern const struct bytecode __start_bytecodes[], __stop_bytecodes[];
extern char **environ;

#define FIRST_COLLECTION_BYTES (2u << 20)

static JSValue tick, on_error;

static JSValue js_address(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv) {
    size_t length;
    uint8_t *bytes = bytes_of(ctx, argv[0], &length);
    (void)this_value, (void)argc;
    return bytes ? JS_NewInt64(ctx, (int64_t)(uintptr_t)bytes) : JS_EXCEPTION;
}

// map(address, length) → ArrayBuffer over memory that the engine does not own
static JSValue js_map(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv) {
    int64_t address, length;
    (void)this_value, (void)argc;
    if (JS_ToInt64Ext(ctx, &address, argv[0]) || JS_ToInt64Ext(ctx, &length, argv[1])) return JS_EXCEPTION;
    if (address <= 0 || length < 0 || length > INT32_MAX) return JS_ThrowRangeError(ctx, "map: address or length");
    return JS_NewArrayBuffer(ctx, (uint8_t *)(uintptr_t)address, (size_t)length, NULL, NULL, 0);
}

// detach(buffer): views of it have length 0 from now on
static JSValue js_detach(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv) {
    (void)this_value, (void)argc;
    JS_DetachArrayBuffer(ctx, argv[0]);
    return JS_UNDEFINED;
}

// utf8(text) → Uint8Array with a terminating NUL
static JSValue js_utf8(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv) {
    size_t length;
    const char *text = JS_ToCStringLen(ctx, &length, argv[0]);
    (void)this_value, (void)argc;
    if (!text) return JS_EXCEPTION;
    JSValue bytes = new_bytes(ctx, (const uint8_t *)text, length + 1);
    JS_FreeCString(ctx, text);
    return bytes;
}

// text(bytes): malformed UTF-8 becomes U+FFFD
static JSValue js_text(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv) {
    size_t length;
    uint8_t *bytes = bytes_of(ctx, argv[0], &length);
    (void)this_value, (void)argc;
    return bytes ? JS_NewStringLen(ctx, (const char *)bytes, length) : JS_EXCEPTION;
}

static const char hex_digits[] = "0123456789abcdef";

// hex(bytes) → lower-case digits
static JSValue js_hex(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv) {
    size_t length;
    uint8_t *bytes = bytes_of(ctx, argv[0], &length);
    (void)this_value, (void)argc;
    if (!bytes) return JS_EXCEPTION;
    char *text = js_malloc(ctx, 2 * length + 1);
    if (!text) return JS_EXCEPTION;
    for (size_t i = 0; i < length; i++) {
        text[2 * i] = hex_digits[bytes[i] >> 4];
        text[2 * i + 1] = hex_digits[bytes[i] & 15];
    }
    JSValue value = JS_NewStringLen(ctx, text, 2 * length);
    js_free(ctx, text);
    return value;
}

// unhex(text, bytes): fills bytes from twice as many digits; whether it could
static JSValue js_unhex(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv) {
    size_t digits, length;
    uint8_t *bytes = bytes_of(ctx, argv[1], &length);
    (void)this_value, (void)argc;
    if (!bytes) return JS_EXCEPTION;
    const char *text = JS_ToCStringLen(ctx, &digits, argv[0]);
    if (!text) return JS_EXCEPTION;
    int is_hex = digits == 2 * length;
    for (size_t i = 0; is_hex && i < digits; i++) {
        char digit = text[i] | 0x20; // upper case, too
        int value = text[i] >= '0' && text[i] <= '9' ? text[i] - '0' : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
        if (value < 0) is_hex = 0;
        else bytes[i / 2] = (uint8_t)(i % 2 ? bytes[i / 2] | value : value << 4);
    }
    JS_FreeCString(ctx, text);
    return JS_NewBool(ctx, is_hex);
}

static JSValue js_environment(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv) {
    JSValue list = JS_NewArray(ctx);
    (void)this_value, (void)argc, (void)argv;
    for (uint32_t i = 0; environ[i]; i++) JS_SetPropertyUint32(ctx, list, i, JS_NewString(ctx, environ[i]));
    return list;
}

static JSValue js_hooks(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv) {
    (void)this_value, (void)argc;
    JS_FreeValue(ctx, tick);
    JS_FreeValue(ctx, on_error);
    tick = JS_DupValue(ctx, argv[0]);
    on_error = JS_DupValue(ctx, argv[1]);
    return JS_UNDEFINED;
}

static void write_error(const char *text) {
    if (text) raw_syscall(SYS_write, 2, (long)text, (long)strlen(text), 0, 0, 0);
}

// Consumes `error`. The program's own handler comes first, standard error if that fails too.
static void report(JSContext *ctx, JSValue error) {
    JSValue handled = JS_IsFunction(ctx, on_error) ? JS_Call(ctx, on_error, JS_UNDEFINED, 1, (JSValueConst *)&error) : JS_EXCEPTION;
    if (JS_IsException(handled)) {
        JS_FreeValue(ctx, JS_GetException(ctx));
        const char *message = JS_ToCString(ctx, error);
        JSValue stack = JS_GetPropertyStr(ctx, error, "stack");
        const char *trace = JS_IsString(stack) ? JS_ToCString(ctx, stack) : NULL;
        write_error("uncaught: ");
        write_error(message);
        write_error("\n");
        write_error(trace);
        if (message) JS_FreeCString(ctx, message);
        if (trace) JS_FreeCString(ctx, trace);
        JS_FreeValue(ctx, stack);
    }
    JS_FreeValue(ctx, handled);
    JS_FreeValue(ctx, error);
}

// The engine reports a rejection at once, and takes it back when a handler is attached later. Only what has no handler when
// all jobs have run is an error.
static struct { JSValue promise, reason; } rejections[64];
static unsigned rejection_count;

static int is_same_object(JSValueConst a, JSValueConst b) {
    return JS_IsObject(a) && JS_IsObject(b) && JS_VALUE_GET_PTR(a) == JS_VALUE_GET_PTR(b);
}

static void on_rejection(JSContext *ctx, JSValueConst promise, JSValueConst reason, JS_BOOL is_handled, void *opaque) {
    (void)opaque;
    if (!is_handled) {
        if (rejection_count == sizeof rejections / sizeof *rejections) {
            report(ctx, JS_DupValue(ctx, reason));
            return;
        }
        // One error that passed through several promises is one error.
        for (unsigned i = 0; i < rejection_count; i++) {
            if (is_same_object(rejections[i].reason, reason)) return;
        }
        rejections[rejection_count].promise = JS_DupValue(ctx, promise);
        rejections[rejection_count].reason = JS_DupValue(ctx, reason);
        rejection_count++;
        return;
    }
    for (unsigned i = 0; i < rejection_count; i++) {
        if (!is_same_object(rejections[i].promise, promise)) continue;
        JS_FreeValue(ctx, rejections[i].promise);
        JS_FreeValue(ctx, rejections[i].reason);
        rejections[i] = rejections[--rejection_count];
        return;
    }
}

static void report_rejections(JSContext *ctx) {
    while (rejection_count) {
        rejection_count--;
        JSValue promise = rejections[rejection_count].promise;
        report(ctx, rejections[rejection_count].reason);
        JS_FreeValue(ctx, promise);
    }
}

static JSContext *new_context(JSRuntime *runtime) {
    // No Eval, RegExp, Date, Proxy, WeakRef: the linker then drops parser and Unicode tables.
    JSContext *ctx = JS_NewContextRaw(runtime);
    if (!ctx) return NULL;
    JS_AddIntrinsicBaseObjects(ctx);
    JS_AddIntrinsicJSON(ctx);
    JS_AddIntrinsicMapSet(ctx);
    JS_AddIntrinsicTypedArrays(ctx);
    JS_AddIntrinsicPromise(ctx);
    return ctx;
}

static void add_bindings(JSContext *ctx, int argc, char **argv) {
    static const struct {
        const char *name;
        JSCFunction *function;
        int arguments;
    } bindings[] = {
        { "call", js_syscall, 7 }, { "spawn", js_spawn, 4 }, { "prepare", js_prepare, 1 }, { "address", js_address, 1 }, { "map", js_map, 2 },
        { "detach", js_detach, 1 }, { "utf8", js_utf8, 1 }, { "text", js_text, 1 }, { "environment", js_environment, 0 },
        { "hooks", js_hooks, 2 }, { "hash", js_hash, 2 }, { "hex", js_hex, 1 }, { "unhex", js_unhex, 2 },
        { "lines", js_lines, 5 },
    };
    JSValue global = JS_GetGlobalObject(ctx), sys = JS_NewObject(ctx), arguments = JS_NewArray(ctx);
    for (size_t i = 0; i < sizeof bindings / sizeof *bindings; i++) {
        JS_SetPropertyStr(ctx, sys, bindings[i].name, JS_NewCFunction(ctx, bindings[i].function, bindings[i].name, bindings[i].arguments));
    }
    for (int i = 0; i < argc; i++) JS_SetPropertyUint32(ctx, arguments, (uint32_t)i, JS_NewString(ctx, argv[i]));
    JS_SetPropertyStr(ctx, sys, "argv", arguments);
    JS_SetPropertyStr(ctx, global, "sys", sys);
    JS_FreeValue(ctx, global);
}

// The one of the name the program was called by, else the first.
static const struct bytecode *choose_bytecode(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    for (const struct bytecode *one = __start_bytecodes; one < __stop_bytecodes; one++) {
        if (strcmp(one->name, name) == 0) return one;
    }
    return __start_bytecodes;
}

int main(int argc, char **argv) {
#ifdef RKT_SYSTEM_MALLOC
    JSRuntime *runtime = JS_NewRuntime();
#else
    JSRuntime *runtime = JS_NewRuntime2(&arena_functions, NULL);
#endif
    if (!runtime) return 70;
    JS_SetMemoryLimit(runtime, RKT_JS_MEMORY_LIMIT);
    // Only cycles need collecting, and loading the program makes none.
    JS_SetGCThreshold(runtime, FIRST_COLLECTION_BYTES);
    JS_SetMaxStackSize(runtime, 512 << 10);
    JSContext *ctx = new_context(runtime);
    if (!ctx) return 70;
    tick = on_error = JS_UNDEFINED;
    JS_SetHostPromiseRejectionTracker(runtime, on_rejection, NULL);
    add_bindings(ctx, argc, argv);
    const struct bytecode *bytecode = choose_bytecode(argc > 0 ? argv[0] : "");
    JSValue value = JS_ReadObject(ctx, bytecode->bytes, bytecode->size, JS_READ_OBJ_BYTECODE);
    if (!JS_IsException(value) && JS_ResolveModule(ctx, value) == 0) value = JS_EvalFunction(ctx, value);
    for (;;) {
        if (JS_IsException(value)) report(ctx, JS_GetException(ctx));
        else JS_FreeValue(ctx, value);
        JSContext *job_context;
        int jobs;
        while ((jobs = JS_ExecutePendingJob(runtime, &job_context)) != 0) {
            if (jobs < 0) report(job_context, JS_GetException(job_context));
        }
        report_rejections(ctx);
        if (!JS_IsFunction(ctx, tick)) return 70; // the program failed before it had a loop
        value = JS_Call(ctx, tick, JS_UNDEFINED, 0, NULL);
    }
}
