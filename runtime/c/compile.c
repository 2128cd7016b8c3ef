// compile NAME < bundle.js > bundle.bytecode: build-time only. Linked with the very engine objects of the programs, so the
// bytecode version always matches. Keeps line numbers, drops the source.
#include <stdio.h>
#include <stdlib.h>
#include "quickjs.h"

int main(int argc, char **argv) {
    static char source[8 << 20];
    size_t length = fread(source, 1, sizeof source - 1, stdin), bytecode_size;
    if (argc != 2 || length == sizeof source - 1) return 2;
    JSRuntime *runtime = JS_NewRuntime();
    JSContext *ctx = JS_NewContextRaw(runtime);
    JS_AddIntrinsicBaseObjects(ctx);
    JS_AddIntrinsicEval(ctx);
    JS_SetStripInfo(runtime, JS_STRIP_SOURCE);
    JSValue function = JS_Eval(ctx, source, length, argv[1], JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY);
    if (JS_IsException(function)) {
        JSValue error = JS_GetException(ctx);
        fprintf(stderr, "%s\n%s\n", JS_ToCString(ctx, error), JS_ToCString(ctx, JS_GetPropertyStr(ctx, error, "stack")));
        return 1;
    }
    uint8_t *bytecode = JS_WriteObject(ctx, &bytecode_size, function, JS_WRITE_OBJ_BYTECODE);
    return !bytecode || fwrite(bytecode, 1, bytecode_size, stdout) != bytecode_size;
}
