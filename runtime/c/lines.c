// Lines of an app's output, each behind a prefix: what a log file holds. A chatty app writes millions of short lines a
// second, and in JavaScript each costs microseconds.
#include <string.h>
#include "runtime.h"

// lines(bytes, full, partial, into, counts): copies each line of `bytes` into `into`, behind `full`; what follows the last
// newline goes behind `partial` and gets a newline. Stops before a line that does not fit. counts[0] becomes the number of
// bytes taken, counts[1] that of bytes written.
JSValue js_lines(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv) {
    uint8_t *buffers[5];
    size_t lengths[5];
    (void)this_value, (void)argc;
    for (int i = 0; i < 5; i++) {
        buffers[i] = bytes_of(ctx, argv[i], &lengths[i]);
        if (!buffers[i]) return JS_EXCEPTION;
    }
    if (lengths[4] != 2 * sizeof(int32_t)) return JS_ThrowRangeError(ctx, "lines: two counts");
    const uint8_t *line = buffers[0], *end = line + lengths[0];
    uint8_t *to = buffers[3], *limit = to + lengths[3];
    while (line < end) {
        const uint8_t *newline = memchr(line, '\n', (size_t)(end - line));
        int prefix = newline ? 1 : 2;
        size_t length = (size_t)((newline ? newline : end) - line);
        if (lengths[prefix] + length + 1 > (size_t)(limit - to)) break;
        memcpy(to, buffers[prefix], lengths[prefix]);
        to += lengths[prefix];
        memcpy(to, line, length);
        to += length;
        *to++ = '\n';
        line += length + (newline != NULL);
    }
    int32_t counts[2] = { (int32_t)(line - buffers[0]), (int32_t)(to - buffers[3]) };
    memcpy(buffers[4], counts, sizeof counts);
    return JS_UNDEFINED;
}
