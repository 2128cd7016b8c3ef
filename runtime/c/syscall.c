// System calls for JavaScript: argument conversion and nothing else.
#include <string.h>
#include "runtime.h"

uint8_t *bytes_of(JSContext *ctx, JSValueConst value, size_t *length) {
    size_t offset = 0, total = 0;
    // Typed arrays first: asking an object that is no ArrayBuffer for its bytes builds an Error with a stack trace.
    JSValue buffer = JS_GetTypedArrayBuffer(ctx, value, &offset, length, NULL);
    if (JS_IsException(buffer)) return NULL;
    uint8_t *bytes = JS_GetArrayBuffer(ctx, &total, buffer);
    JS_FreeValue(ctx, buffer);
    return bytes ? bytes + offset : NULL;
}

JSValue new_bytes(JSContext *ctx, const uint8_t *bytes, size_t length) {
    JSValue buffer = JS_NewArrayBufferCopy(ctx, bytes, length);
    if (JS_IsException(buffer)) return buffer;
    JSValue arguments[3] = { buffer, JS_UNDEFINED, JS_UNDEFINED };
    JSValue array = JS_NewTypedArray(ctx, 3, (JSValueConst *)arguments, JS_TYPED_ARRAY_UINT8);
    JS_FreeValue(ctx, buffer);
    return array;
}

int scalar_argument(JSContext *ctx, JSValueConst value, long *out) {
    int tag = JS_VALUE_GET_TAG(value);
    if (tag == JS_TAG_INT) {
        *out = JS_VALUE_GET_INT(value);
        return 0;
    }
    if (tag == JS_TAG_OBJECT) {
        size_t length;
        uint8_t *bytes = bytes_of(ctx, value, &length);
        if (!bytes) return -1;
        *out = (long)bytes;
        return 0;
    }
    if (tag == JS_TAG_NULL || tag == JS_TAG_UNDEFINED) {
        *out = 0;
        return 0;
    }
    int64_t number;
    if (JS_ToInt64Ext(ctx, &number, value)) return -1;
    *out = number;
    return 0;
}

const char *path_argument(JSContext *ctx, JSValueConst value) {
    size_t length;
    const char *text = JS_ToCStringLen(ctx, &length, value);
    if (!text) return NULL;
    if (memchr(text, 0, length)) {
        JS_FreeCString(ctx, text);
        JS_ThrowTypeError(ctx, "string with a NUL byte");
        return NULL;
    }
    return text;
}

JSValue js_syscall(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv) {
    long arguments[7] = { 0 };
    const char *texts[7];
    int text_count = 0, failed = 0;
    (void)this_value;
    if (argc > 7) argc = 7;
    for (int i = 0; i < argc && !failed; i++) {
        if (JS_IsString(argv[i])) {
            const char *text = path_argument(ctx, argv[i]);
            failed = !text;
            if (text) texts[text_count++] = text;
            arguments[i] = (long)text;
        } else {
            failed = scalar_argument(ctx, argv[i], &arguments[i]);
        }
    }
    long result = 0;
    if (!failed) result = raw_syscall(arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5], arguments[6]);
    for (int i = 0; i < text_count; i++) JS_FreeCString(ctx, texts[i]);
    return failed ? JS_EXCEPTION : JS_NewInt64(ctx, result);
}
