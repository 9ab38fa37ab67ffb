// The component's exports, the script, and the loop that waits for the host.
//
// A script is an ES module that sets `globalThis.sglhostProgram` to `{ describe, run }`: `describe()` gives the
// description, `run(arguments)` a promise of the result, both JSON. What `run` rejects with has `code`, `message` and
// `retryable`. The contract's functions are in `globalThis.sglhostHost`. It may set `globalThis.sglhostFailure` first:
// a function that makes such an error of an exception that the rest of it ends with.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime.h"

// Where the script is. `sglhost build` finds this by its mark, puts the script behind all other memory and writes here
// where that is; the script ends with a NUL, which `length` does not count.
static volatile struct {
    char mark[16];
    const char *script;
    size_t length;
} script = {"sglhost:script1", NULL, 0};

// Bytes of the stack of WebAssembly's own that QuickJS may take for C's variables: with deeper recursion a script gets
// a RangeError. The host's stack, where all else of a call is, must be the larger one.
enum { STACK_BYTES = 384 << 10 };

struct text {
    const char *bytes;
    size_t length;
};

// A result<string, error> as the canonical ABI has it.
struct result {
    uint8_t failed;
    union {
        struct text value;
        struct {
            struct text code, message;
            uint8_t retryable;
        } error;
    };
};

void *take(size_t bytes) {
    void *memory = malloc(bytes ? bytes : 1);
    if (!memory) __builtin_trap();
    return memory;
}

__attribute__((export_name("cabi_realloc")))
void *cabi_realloc(void *old, size_t old_size, size_t align, size_t new_size) {
    void *memory = realloc(old, new_size ? new_size : 1);
    if (!memory) __builtin_trap();
    return memory;
}

// ---- What scripts have besides the language

static JSValue write_line(JSContext *ctx, JSValueConst self, int count, JSValueConst *given, int stream) {
    size_t length;
    const char *text = JS_ToCStringLen(ctx, &length, given[0]);
    if (!text) return JS_EXCEPTION;
    write_output(stream, text, length);
    JS_FreeCString(ctx, text);
    return JS_UNDEFINED;
}

// `decode(bytes)`: text of UTF-8; what is none is U+FFFD.
static JSValue decode(JSContext *ctx, JSValueConst self, int count, JSValueConst *given) {
    size_t length;
    uint8_t *bytes = JS_GetUint8Array(ctx, &length, given[0]);
    if (!bytes && length) return JS_EXCEPTION;
    return JS_NewStringLen(ctx, (const char *)bytes, length);
}

// `encode(text)`: its bytes in UTF-8.
static JSValue encode(JSContext *ctx, JSValueConst self, int count, JSValueConst *given) {
    size_t length;
    const char *text = JS_ToCStringLen(ctx, &length, given[0]);
    if (!text) return JS_EXCEPTION;
    JSValue bytes = JS_NewUint8ArrayCopy(ctx, (const uint8_t *)text, length);
    JS_FreeCString(ctx, text);
    return bytes;
}

static JSValue random_of_the_run(JSContext *ctx, JSValueConst self, int count, JSValueConst *given) {
    return JS_NewFloat64(ctx, random_number());
}

// Promises that were rejected while nobody waited for them, each with its reason: `[promise, reason, …]`.
static JSValue rejected;

static void note_rejection(JSContext *ctx, JSValueConst promise, JSValueConst reason, bool handled, void *opaque) {
    int64_t length = 0;
    JS_GetLength(ctx, rejected, &length);
    if (!handled) {
        JS_SetPropertyInt64(ctx, rejected, length, JS_DupValue(ctx, promise));
        JS_SetPropertyInt64(ctx, rejected, length + 1, JS_DupValue(ctx, reason));
        return;
    }
    // Somebody waits for it now.
    for (int64_t i = 0; i < length; i += 2) {
        JSValue noted = JS_GetPropertyInt64(ctx, rejected, i);
        bool same = JS_IsStrictEqual(ctx, noted, promise);
        JS_FreeValue(ctx, noted);
        if (!same) continue;
        JS_SetPropertyInt64(ctx, rejected, i, JS_UNDEFINED);
        JS_SetPropertyInt64(ctx, rejected, i + 1, JS_UNDEFINED);
    }
}

// `rejections()`: reasons of promises that were rejected and that nobody has waited for.
static JSValue rejections(JSContext *ctx, JSValueConst self, int count, JSValueConst *given) {
    JSValue reasons = JS_NewArray(ctx);
    int64_t length = 0, found = 0;
    JS_GetLength(ctx, rejected, &length);
    for (int64_t i = 0; i < length; i += 2) {
        JSValue promise = JS_GetPropertyInt64(ctx, rejected, i);
        JSValue reason = JS_GetPropertyInt64(ctx, rejected, i + 1);
        if (!JS_IsUndefined(promise)) JS_SetPropertyInt64(ctx, reasons, found++, JS_DupValue(ctx, reason));
        JS_FreeValue(ctx, reason);
        JS_FreeValue(ctx, promise);
    }
    return reasons;
}

// ---- The script

// The context once the script was evaluated; its value is `sglhostProgram`, or the exception that it ended with.
static JSContext *context;
static JSValue program;
static bool program_failed;

// Runs what can run, and waits for the host, until a promise is settled. False: it never will be.
static bool run_until(JSContext *ctx, JSValueConst promise, bool may_wait) {
    for (;;) {
        JSContext *ran;
        while (JS_ExecutePendingJob(JS_GetRuntime(ctx), &ran)) {}
        if (JS_PromiseState(ctx, promise) != JS_PROMISE_PENDING) return true;
        if (!may_wait || !host_is_waited_for()) return false;
        host_wait(ctx);
    }
}

static void start(bool may_wait) {
    if (context) return;
    JSRuntime *runtime = JS_NewRuntime();
    JSContext *ctx = runtime ? JS_NewContext(runtime) : NULL;
    if (!ctx) __builtin_trap();
    JS_SetMaxStackSize(runtime, STACK_BYTES);
    context = ctx;
    JSValue global = JS_GetGlobalObject(ctx);
    JSValue host = host_functions(ctx);
    for (int stream = 1; stream <= 2; stream++) {
        const char *name = stream == 1 ? "stdout" : "stderr";
        JSValue function = JS_NewCFunctionMagic(ctx, write_line, name, 1, JS_CFUNC_generic_magic, stream);
        JS_SetPropertyStr(ctx, host, name, function);
    }
    JS_SetPropertyStr(ctx, host, "decode", JS_NewCFunction(ctx, decode, "decode", 1));
    JS_SetPropertyStr(ctx, host, "encode", JS_NewCFunction(ctx, encode, "encode", 1));
    JS_SetPropertyStr(ctx, host, "rejections", JS_NewCFunction(ctx, rejections, "rejections", 0));
    rejected = JS_NewArray(ctx);
    JS_SetHostPromiseRejectionTracker(runtime, note_rejection, NULL);
    JSValue math = JS_GetPropertyStr(ctx, global, "Math");
    JS_SetPropertyStr(ctx, math, "random", JS_NewCFunction(ctx, random_of_the_run, "random", 0));
    JS_FreeValue(ctx, math);
    JS_DefinePropertyValueStr(ctx, global, "sglhostHost", host, JS_PROP_CONFIGURABLE);
    JSValue evaluated = JS_Eval(ctx, script.script, script.length, "script.js", JS_EVAL_TYPE_MODULE);
    if (!JS_IsException(evaluated)) {
        if (!run_until(ctx, evaluated, may_wait)) {
            JS_ThrowTypeError(ctx, "the script awaits something, outside of its functions, that never comes");
            evaluated = JS_EXCEPTION;
        } else if (JS_PromiseState(ctx, evaluated) == JS_PROMISE_REJECTED) {
            JS_Throw(ctx, JS_PromiseResult(ctx, evaluated));
            evaluated = JS_EXCEPTION;
        }
    }
    program_failed = JS_IsException(evaluated);
    program = program_failed ? JS_GetException(ctx) : JS_GetPropertyStr(ctx, global, "sglhostProgram");
    if (!program_failed && !JS_IsObject(program)) {
        program_failed = true;
        JS_ThrowTypeError(ctx, "it makes no program: export default program({ name, run })");
        program = JS_GetException(ctx);
    }
    JS_FreeValue(ctx, global);
}

// ---- Exports

// A string for the host. It is never freed: the instance goes after the run.
static struct text text_of(JSContext *ctx, JSValueConst value, const char *otherwise) {
    struct text text = {NULL, 0};
    if (!JS_IsUndefined(value)) text.bytes = JS_ToCStringLen(ctx, &text.length, value);
    if (!text.bytes) text = (struct text){otherwise, strlen(otherwise)};
    return text;
}

static struct text property(JSContext *ctx, JSValueConst object, const char *name, const char *otherwise) {
    JSValue value = JS_IsObject(object) ? JS_GetPropertyStr(ctx, object, name) : JS_UNDEFINED;
    return text_of(ctx, value, otherwise);
}

static struct result *failure(JSContext *ctx, JSValueConst reason) {
    static struct result result;
    result.failed = 1;
    result.error.code = property(ctx, reason, "code", "program");
    result.error.message = JS_IsObject(reason) ? property(ctx, reason, "message", "") : text_of(ctx, reason, "");
    JSValue retryable = JS_IsObject(reason) ? JS_GetPropertyStr(ctx, reason, "retryable") : JS_UNDEFINED;
    result.error.retryable = JS_ToBool(ctx, retryable) > 0;
    return &result;
}

// The error of an exception that the script itself ended with, after it was told on standard error.
static JSValue error_of_script(JSContext *ctx, JSValueConst reason) {
    JSValue global = JS_GetGlobalObject(ctx);
    JSValue function = JS_GetPropertyStr(ctx, global, "sglhostFailure");
    if (JS_IsFunction(ctx, function)) {
        JSValue error = JS_Call(ctx, function, JS_UNDEFINED, 1, (JSValueConst[]){reason});
        if (!JS_IsException(error)) return error;
    }
    struct text said = text_of(ctx, reason, "");
    struct text stack = property(ctx, reason, "stack", "");
    write_output(2, said.bytes, said.length);
    write_output(2, "\n", 1);
    write_output(2, stack.bytes, stack.length);
    return JS_DupValue(ctx, reason);
}

__attribute__((export_name("run-program"))) struct result *run_program(const char *arguments, size_t length) {
    start(true);
    JSContext *ctx = context;
    if (program_failed) return failure(ctx, error_of_script(ctx, program));
    JSValue run = JS_GetPropertyStr(ctx, program, "run");
    JSValue given = JS_NewStringLen(ctx, arguments, length);
    JSValue promise = JS_Call(ctx, run, program, 1, (JSValueConst[]){given});
    if (JS_IsException(promise)) return failure(ctx, JS_GetException(ctx));
    static struct result result;
    if (!run_until(ctx, promise, true)) {
        static const char CODE[] = "program", MESSAGE[] = "the program awaits a promise that nothing will settle";
        result.failed = 1;
        result.error.code = (struct text){CODE, sizeof CODE - 1};
        result.error.message = (struct text){MESSAGE, sizeof MESSAGE - 1};
        return &result;
    }
    JSValue value = JS_PromiseResult(ctx, promise);
    if (JS_PromiseState(ctx, promise) == JS_PROMISE_REJECTED) return failure(ctx, value);
    result.value = text_of(ctx, value, "null");
    return &result;
}

__attribute__((export_name("describe"))) struct text *describe(void) {
    start(false);
    JSContext *ctx = context;
    static struct text description;
    JSValue reason = program;
    if (!program_failed) {
        JSValue function = JS_GetPropertyStr(ctx, program, "describe");
        JSValue value = JS_Call(ctx, function, program, 0, NULL);
        if (!JS_IsException(value)) {
            description = text_of(ctx, value, "");
            return &description;
        }
        reason = JS_GetException(ctx);
    }
    error_of_script(ctx, reason);
    __builtin_trap();
}
