// The contract's functions, as a script calls them.
//
// A table says of each function how its arguments and its result look (see "Letters"); one C function reads the table,
// passes the arguments by the canonical ABI and makes a JavaScript value of what comes back. A function that the
// contract has as `async` is lowered asynchronously: it gives a promise, and many can be under way. Those that make a
// constraint or an image are not: a `gen` that needs one is then started before the next step, as all steps are.
//
// Resources are objects of the class Handle, dropped when the last reference to them goes (QuickJS counts references),
// or by `drop`. Errors of the contract are thrown, or reject, as objects `{ code, message, retryable }`.
#include <stdlib.h>
#include <string.h>

#include "runtime.h"

#define LM "sgl:program/lm@0.1.0"
#define RUN "sgl:program/run@0.1.0"

// Letters of arguments:
//   h  handle            u  u32           i  s32          b  bool
//   f  f32               l  u64           s  string       o  option<string>
//   B  list<u8>          T  list<u32>     S  list<string>
// Letters of results:
//   v  nothing           u  u32           q  u64          s  string
//   O  option<string>    U  option<u32>   b  bool
//   T  list<u32>         F  list<f32>     S  list<string> L  list<token-logprob>
//   H  a handle, with its kind after it
// `r` before one: a result<…, error>. `a` before that: the function is async.

// Kinds of handles, each with what drops it.
#define KINDS(kind)                                                 \
    kind('o', options, LM, "[resource-drop]options")                \
    kind('c', constraint, LM, "[resource-drop]constraint")          \
    kind('t', outcome, LM, "[resource-drop]outcome")                \
    kind('k', call, LM, "[resource-drop]call")                      \
    kind('m', image, LM, "[resource-drop]image")                    \
    kind('x', context, LM, "[resource-drop]context")                \
    kind('~', stream, LM, "[stream-drop-readable-0][method]call.text")

// JavaScript's name; module and name of the import; arguments; result; the C type of the import.
#define FUNCTIONS(function)                                                                              \
    function(options, LM, "[constructor]options", "", "Ho", I0)                                          \
    function(optionsName, LM, "[method]options.name", "hs", "v", V3)                                     \
    function(optionsMaxTokens, LM, "[method]options.max-tokens", "hu", "v", V2)                          \
    function(optionsMinTokens, LM, "[method]options.min-tokens", "hu", "v", V2)                          \
    function(optionsTemperature, LM, "[method]options.temperature", "hf", "v", VF)                       \
    function(optionsTopP, LM, "[method]options.top-p", "hf", "v", VF)                                    \
    function(optionsTopK, LM, "[method]options.top-k", "hi", "v", V2)                                    \
    function(optionsMinP, LM, "[method]options.min-p", "hf", "v", VF)                                    \
    function(optionsFrequencyPenalty, LM, "[method]options.frequency-penalty", "hf", "v", VF)            \
    function(optionsPresencePenalty, LM, "[method]options.presence-penalty", "hf", "v", VF)              \
    function(optionsRepetitionPenalty, LM, "[method]options.repetition-penalty", "hf", "v", VF)          \
    function(optionsStop, LM, "[method]options.stop", "hs", "v", V3)                                     \
    function(optionsStopToken, LM, "[method]options.stop-token", "hu", "v", V2)                          \
    function(optionsStopRegex, LM, "[method]options.stop-regex", "hs", "v", V3)                          \
    function(optionsNoStopTrim, LM, "[method]options.no-stop-trim", "hb", "v", V2)                       \
    function(optionsSkipSpecialTokens, LM, "[method]options.skip-special-tokens", "hb", "v", V2)         \
    function(optionsIgnoreEos, LM, "[method]options.ignore-eos", "hb", "v", V2)                          \
    function(optionsSeed, LM, "[method]options.seed", "hl", "v", VL)                                     \
    function(optionsLogitBias, LM, "[method]options.logit-bias", "huf", "v", VIF)                        \
    function(optionsConstrain, LM, "[method]options.constrain", "hh", "v", V2)                           \
    function(optionsTopLogprobs, LM, "[method]options.top-logprobs", "hu", "v", V2)                      \
    function(optionsChoicesMethod, LM, "[method]options.choices-method", "hs", "v", V3)                  \
    function(constraintRegex, LM, "[static]constraint.regex", "s", "rHc", V3)                            \
    function(constraintChoices, LM, "[static]constraint.choices", "S", "rHc", V3)                        \
    function(constraintJsonSchema, LM, "[static]constraint.json-schema", "s", "rHc", V3)                 \
    function(constraintLark, LM, "[static]constraint.lark", "s", "rHc", V3)                              \
    function(constraintStructuralTag, LM, "[static]constraint.structural-tag", "s", "rHc", V3)           \
    function(outcomeText, LM, "[method]outcome.text", "h", "s", V2)                                      \
    function(outcomeTokens, LM, "[method]outcome.tokens", "h", "T", V2)                                  \
    function(outcomeFinishReason, LM, "[method]outcome.finish-reason", "h", "s", V2)                     \
    function(outcomeMatched, LM, "[method]outcome.matched", "h", "O", V2)                                \
    function(outcomeLogprobs, LM, "[method]outcome.logprobs", "h", "L", V2)                              \
    function(outcomeTopLogprobs, LM, "[method]outcome.top-logprobs", "hu", "L", V3)                      \
    function(outcomePromptTokens, LM, "[method]outcome.prompt-tokens", "h", "u", I1)                     \
    function(outcomeCachedTokens, LM, "[method]outcome.cached-tokens", "h", "u", I1)                     \
    function(outcomeCompletionTokens, LM, "[method]outcome.completion-tokens", "h", "u", I1)             \
    function(outcomeForcedTokens, LM, "[method]outcome.forced-tokens", "h", "u", I1)                     \
    function(outcomeChoice, LM, "[method]outcome.choice", "h", "U", V2)                                  \
    function(outcomeScores, LM, "[method]outcome.scores", "h", "F", V2)                                  \
    function(callText, LM, "[method]call.text", "h", "rH~", V2)                                          \
    function(callFinished, LM, "[async-lower][method]call.finished", "h", "arHt", I2)                    \
    function(callCancel, LM, "[method]call.cancel", "h", "v", V1)                                        \
    function(imageDecode, LM, "[static]image.decode", "B", "rHm", V3)                                    \
    function(imageWidth, LM, "[method]image.width", "h", "u", I1)                                        \
    function(imageHeight, LM, "[method]image.height", "h", "u", I1)                                      \
    function(contextCreate, LM, "[static]context.create", "o", "rHx", V4)                                \
    function(contextAppend, LM, "[method]context.append", "hs", "rv", V4)                                \
    function(contextAppendMarkup, LM, "[method]context.append-markup", "hs", "rv", V4)                   \
    function(contextAppendTokens, LM, "[method]context.append-tokens", "hT", "rv", V4)                   \
    function(contextAppendImage, LM, "[method]context.append-image", "hh", "rv", V3)                     \
    function(contextBeginRole, LM, "[method]context.begin-role", "hs", "rv", V4)                         \
    function(contextEndRole, LM, "[method]context.end-role", "h", "rv", V2)                              \
    function(contextGenerate, LM, "[method]context.generate", "hh", "rHk", V3)                           \
    function(contextSelect, LM, "[method]context.select", "hSh", "rHk", V5)                              \
    function(contextScore, LM, "[async-lower][method]context.score", "hs", "arL", I4)                    \
    function(contextNextTokens, LM, "[async-lower][method]context.next-tokens", "hu", "arL", I3)         \
    function(contextFork, LM, "[method]context.fork", "h", "rHx", V2)                                    \
    function(contextTruncate, LM, "[async-lower][method]context.truncate", "hu", "arv", I3)              \
    function(contextTokenCount, LM, "[async-lower][method]context.token-count", "h", "aru", I2)          \
    function(contextText, LM, "[async-lower][method]context.text", "h", "ars", I2)                       \
    function(models, LM, "models", "", "S", V1)                                                          \
    function(contextLength, LM, "context-length", "o", "ru", V4)                                         \
    function(acceptsImages, LM, "accepts-images", "o", "rb", V4)                                         \
    function(emit, RUN, "[async-lower]emit", "ss", "arv", I5)                                            \
    function(tokensLeft, RUN, "tokens-left", "", "q", L0)                                                \
    function(contextsLeft, RUN, "contexts-left", "", "u", I0)                                            \
    function(millisecondsLeft, RUN, "milliseconds-left", "", "q", L0)

// C types of imports: what they return (V nothing, I i32, L i64), then how many i32 they take, or letters.
typedef int32_t word;
typedef void V1(word);
typedef void V2(word, word);
typedef void V3(word, word, word);
typedef void V4(word, word, word, word);
typedef void V5(word, word, word, word, word);
typedef void VF(word, float);
typedef void VIF(word, word, float);
typedef void VL(word, int64_t);
typedef word I0(void);
typedef word I1(word);
typedef word I2(word, word);
typedef word I3(word, word, word);
typedef word I4(word, word, word, word);
typedef word I5(word, word, word, word, word);
typedef int64_t L0(void);

#define DECLARE(name, module, import, arguments, result, type) IMPORT(module, import) extern type import_##name;
FUNCTIONS(DECLARE)
#undef DECLARE

#define DECLARE(kind, name, module, import) IMPORT(module, import) extern void drop_##name(word);
KINDS(DECLARE)
#undef DECLARE

IMPORT(LM, "[async-lower][stream-read-0][method]call.text")
extern word stream_read(word stream, void *into, word count);
IMPORT("$root", "[waitable-set-new]") extern word waitable_set_new(void);
IMPORT("$root", "[waitable-set-wait]") extern word waitable_set_wait(word set, void *event);
IMPORT("$root", "[waitable-join]") extern void waitable_join(word waitable, word set);
IMPORT("$root", "[subtask-drop]") extern void subtask_drop(word subtask);

enum type { TV1, TV2, TV3, TV4, TV5, TVF, TVIF, TVL, TI0, TI1, TI2, TI3, TI4, TI5, TL0 };

static const struct function {
    const char *name, *arguments, *result;
    void (*import)(void);
    enum type type;
} FUNCTION[] = {
#define ROW(name, module, import, arguments, result, type) \
    {#name, arguments, result, (void (*)(void))import_##name, T##type},
    FUNCTIONS(ROW)
#undef ROW
};
enum { FUNCTION_COUNT = sizeof FUNCTION / sizeof *FUNCTION };

// What an async function answers: a state in the low 4 bits, the subtask above.
enum { STATE_BITS = 4, RETURNED = 2 };
// What a read of a stream answers: a state in the low 4 bits, how many were read above.
enum { BLOCKED = -1, COMPLETED = 0 };
enum { EVENT_SUBTASK = 1, EVENT_STREAM_READ = 2 };
// Most pieces of text that one read of a stream takes.
enum { PIECES_MAX = 16 };
// Bytes of the largest result: result<string, error>.
enum { RESULT_BYTES = 24 };
// Most values of an import's arguments, and of blocks of memory they take.
enum { VALUES_MAX = 6, BLOCKS_MAX = 4, ARGUMENTS_MAX = 3 };

struct text {
    char *bytes;
    size_t length;
};

struct error {
    struct text code, message;
    uint8_t retryable;
};

struct logprob {
    uint32_t token;
    struct text bytes;
    float logprob;
};

// ---- Handles

struct handle {
    char kind;
    bool open;
    word number;
};

static JSClassID handle_class;

static void close_handle(struct handle *handle) {
    if (!handle->open) return;
    handle->open = false;
    switch (handle->kind) {
#define DROP(letter, name, module, import) \
    case letter:                           \
        drop_##name(handle->number);       \
        break;
        KINDS(DROP)
#undef DROP
    }
}

static void finalize_handle(JSRuntime *runtime, JSValueConst value) {
    struct handle *handle = JS_GetOpaque(value, handle_class);
    if (!handle) return;
    close_handle(handle);
    free(handle);
}

static const JSClassDef HANDLE_CLASS = {"Handle", .finalizer = finalize_handle};

static JSValue new_handle(JSContext *ctx, char kind, word number) {
    struct handle *handle = take(sizeof *handle);
    *handle = (struct handle){kind, true, number};
    JSValue value = JS_NewObjectClass(ctx, (int)handle_class);
    JS_SetOpaque(value, handle);
    return value;
}

static struct handle *handle_of(JSContext *ctx, JSValueConst value) {
    struct handle *handle = JS_GetOpaque2(ctx, value, handle_class);
    if (handle && !handle->open) {
        JS_ThrowTypeError(ctx, "it is closed");
        return NULL;
    }
    return handle;
}

// ---- Results

// A string that the host wrote for us.
static JSValue string_of(JSContext *ctx, struct text text) {
    JSValue value = JS_NewStringLen(ctx, text.bytes, text.length);
    if (text.length) free(text.bytes);
    return value;
}

static JSValue error_of(JSContext *ctx, const struct error *error) {
    JSValue value = JS_NewObject(ctx);
    JS_SetPropertyStr(ctx, value, "code", string_of(ctx, error->code));
    JS_SetPropertyStr(ctx, value, "message", string_of(ctx, error->message));
    JS_SetPropertyStr(ctx, value, "retryable", JS_NewBool(ctx, error->retryable));
    return value;
}

static JSValue logprob_of(JSContext *ctx, const struct logprob *logprob) {
    JSValue value = JS_NewObject(ctx);
    JS_SetPropertyStr(ctx, value, "token", JS_NewUint32(ctx, logprob->token));
    const uint8_t *bytes = (const uint8_t *)logprob->bytes.bytes;
    JS_SetPropertyStr(ctx, value, "bytes", JS_NewUint8ArrayCopy(ctx, bytes, logprob->bytes.length));
    JS_SetPropertyStr(ctx, value, "logprob", JS_NewFloat64(ctx, logprob->logprob));
    if (logprob->bytes.length) free(logprob->bytes.bytes);
    return value;
}

// A list, of which `text` says where it is and how many items it has.
static JSValue list_of(JSContext *ctx, char letter, struct text text) {
    JSValue list = JS_NewArray(ctx);
    for (uint32_t i = 0; i < text.length; i++) {
        JSValue item;
        switch (letter) {
        case 'T': item = JS_NewUint32(ctx, ((uint32_t *)text.bytes)[i]); break;
        case 'F': item = JS_NewFloat64(ctx, ((float *)text.bytes)[i]); break;
        case 'S': item = string_of(ctx, ((struct text *)text.bytes)[i]); break;
        default: item = logprob_of(ctx, &((struct logprob *)text.bytes)[i]);
        }
        JS_SetPropertyUint32(ctx, list, i, item);
    }
    if (text.length) free(text.bytes);
    return list;
}

// The value that the host wrote to memory. May be an exception.
static JSValue result_of(JSContext *ctx, const char *letters, const void *result) {
    if (*letters == 'r') {
        const void *payload = (const uint8_t *)result + 4;
        if (*(const uint8_t *)result) return JS_Throw(ctx, error_of(ctx, payload));
        result = payload;
        letters++;
    }
    switch (*letters) {
    case 'v': return JS_UNDEFINED;
    case 'u': return JS_NewUint32(ctx, *(const uint32_t *)result);
    case 'b': return JS_NewBool(ctx, *(const uint8_t *)result);
    case 's': return string_of(ctx, *(const struct text *)result);
    case 'H': return new_handle(ctx, letters[1], *(const word *)result);
    case 'O':
        if (!*(const uint8_t *)result) return JS_NULL;
        return string_of(ctx, *(const struct text *)((const uint8_t *)result + 4));
    case 'U':
        if (!*(const uint8_t *)result) return JS_NULL;
        return JS_NewUint32(ctx, ((const uint32_t *)result)[1]);
    default: return list_of(ctx, *letters, *(const struct text *)result);
    }
}

// ---- Arguments

// Arguments as the host takes them, and the memory that they are in.
struct arguments {
    word values[VALUES_MAX];
    int count;
    float real;
    int64_t large;
    void *blocks[BLOCKS_MAX];
    int block_count;
    // Of an array of strings: its strings, after its own block.
    struct text *strings;
    size_t string_count;
};

static void free_arguments(struct arguments *arguments) {
    for (size_t i = 0; i < arguments->string_count; i++) free(arguments->strings[i].bytes);
    for (int i = 0; i < arguments->block_count; i++) free(arguments->blocks[i]);
    arguments->string_count = 0;
    arguments->block_count = 0;
}

static void push_block(struct arguments *arguments, void *bytes, size_t length) {
    arguments->blocks[arguments->block_count++] = bytes;
    arguments->values[arguments->count++] = (word)bytes;
    arguments->values[arguments->count++] = (word)length;
}

// A copy of a JavaScript string. Halves of characters, which no string of the contract has, become U+FFFD.
static bool copy_string(JSContext *ctx, JSValueConst value, struct text *into) {
    size_t length;
    const char *string = JS_ToCStringLen(ctx, &length, value);
    if (!string) return false;
    char *bytes = take(length);
    memcpy(bytes, string, length);
    JS_FreeCString(ctx, string);
    // QuickJS writes a lone surrogate as three bytes, of which the first two are ED and A0 to BF.
    for (size_t i = 0; i + 2 < length; i++) {
        if ((uint8_t)bytes[i] == 0xED && (uint8_t)bytes[i + 1] >= 0xA0) memcpy(bytes + i, "\xEF\xBF\xBD", 3);
    }
    *into = (struct text){bytes, length};
    return true;
}

static bool push_bytes(JSContext *ctx, struct arguments *arguments, JSValueConst value) {
    size_t length;
    uint8_t *bytes = JS_GetUint8Array(ctx, &length, value);
    if (!bytes && length) return false;
    void *copy = take(length);
    if (length) memcpy(copy, bytes, length);
    push_block(arguments, copy, length);
    return true;
}

static bool push_list(JSContext *ctx, struct arguments *arguments, char letter, JSValueConst value) {
    int64_t length;
    if (JS_GetLength(ctx, value, &length)) return false;
    size_t item_bytes = letter == 'T' ? sizeof(uint32_t) : sizeof(struct text);
    if (length < 0 || (uint64_t)length > (SIZE_MAX / 2) / item_bytes) {
        JS_ThrowRangeError(ctx, "a list is too long");
        return false;
    }
    void *items = take((size_t)length * item_bytes);
    push_block(arguments, items, (size_t)length);
    if (letter == 'S') arguments->strings = items;
    for (uint32_t i = 0; i < length; i++) {
        JSValue item = JS_GetPropertyUint32(ctx, value, i);
        bool good;
        if (letter == 'T') {
            good = !JS_ToUint32(ctx, &((uint32_t *)items)[i], item);
        } else {
            good = copy_string(ctx, item, &((struct text *)items)[i]);
            arguments->string_count += good;
        }
        JS_FreeValue(ctx, item);
        if (!good) return false;
    }
    return true;
}

static bool push_argument(JSContext *ctx, struct arguments *arguments, char letter, JSValueConst value) {
    word *next = &arguments->values[arguments->count];
    switch (letter) {
    case 'h': {
        struct handle *handle = handle_of(ctx, value);
        if (!handle) return false;
        *next = handle->number;
        break;
    }
    case 'u':
        if (JS_ToUint32(ctx, (uint32_t *)next, value)) return false;
        break;
    case 'i':
        if (JS_ToInt32(ctx, next, value)) return false;
        break;
    case 'b': *next = JS_ToBool(ctx, value) > 0; break;
    case 'f': {
        double real;
        if (JS_ToFloat64(ctx, &real, value)) return false;
        arguments->real = (float)real;
        return true;
    }
    case 'l': return !JS_ToInt64Ext(ctx, &arguments->large, value);
    case 'o':
        if (JS_IsUndefined(value) || JS_IsNull(value)) {
            arguments->count += 3;
            return true;
        }
        *next = 1;
        arguments->count++;
        letter = 's';
        // Falls through.
    case 's': {
        struct text text;
        if (!copy_string(ctx, value, &text)) return false;
        push_block(arguments, text.bytes, text.length);
        return true;
    }
    case 'B': return push_bytes(ctx, arguments, value);
    default: return push_list(ctx, arguments, letter, value);
    }
    arguments->count++;
    return true;
}

// ---- What the script waits for

struct waiting {
    // A subtask, or the end of a stream.
    word waitable;
    const char *letters;
    JSValue resolve, reject;
    // What must live until then.
    struct arguments arguments;
    JSValue values[ARGUMENTS_MAX];
    int value_count;
    // Where the result goes.
    union {
        uint8_t result[RESULT_BYTES];
        struct text pieces[PIECES_MAX];
    } __attribute__((aligned(8)));
    struct waiting *next;
};

static struct waiting *all_waiting;
static word waitables;

bool host_is_waited_for(void) { return all_waiting; }

static void wait_later(struct waiting *waiting, word waitable) {
    if (!waitables) waitables = waitable_set_new();
    waiting->waitable = waitable;
    waiting->next = all_waiting;
    all_waiting = waiting;
    waitable_join(waitable, waitables);
}

static struct waiting *new_waiting(void) {
    struct waiting *waiting = take(sizeof *waiting);
    memset(waiting, 0, sizeof *waiting);
    waiting->resolve = waiting->reject = JS_UNDEFINED;
    return waiting;
}

static void free_waiting(JSContext *ctx, struct waiting *waiting) {
    JS_FreeValue(ctx, waiting->resolve);
    JS_FreeValue(ctx, waiting->reject);
    for (int i = 0; i < waiting->value_count; i++) JS_FreeValue(ctx, waiting->values[i]);
    free_arguments(&waiting->arguments);
    free(waiting);
}

// Ends a wait: settles its promise with a value, or with the exception that is pending.
static void settle(JSContext *ctx, struct waiting *waiting, JSValue value) {
    bool failed = JS_IsException(value);
    if (failed) value = JS_GetException(ctx);
    JSValue function = failed ? waiting->reject : waiting->resolve;
    JSValue ignored = JS_Call(ctx, function, JS_UNDEFINED, 1, (JSValueConst[]){value});
    JS_FreeValue(ctx, ignored);
    JS_FreeValue(ctx, value);
    free_waiting(ctx, waiting);
}

// A promise, settled when `waiting` is.
static JSValue promise_of(JSContext *ctx, struct waiting *waiting) {
    JSValue settlers[2];
    JSValue promise = JS_NewPromiseCapability(ctx, settlers);
    waiting->resolve = settlers[0];
    waiting->reject = settlers[1];
    return promise;
}

static JSValue pieces_of(JSContext *ctx, struct waiting *waiting, word read) {
    word count = read >> STATE_BITS;
    // Nothing was read, and nothing will be.
    if (!count && (read & ((1 << STATE_BITS) - 1)) != COMPLETED) return JS_NULL;
    JSValue list = JS_NewArray(ctx);
    for (word i = 0; i < count; i++) JS_SetPropertyUint32(ctx, list, (uint32_t)i, string_of(ctx, waiting->pieces[i]));
    return list;
}

void host_wait(JSContext *ctx) {
    word event[2];
    word kind = waitable_set_wait(waitables, event);
    struct waiting **link = &all_waiting;
    while (*link && (*link)->waitable != event[0]) link = &(*link)->next;
    struct waiting *waiting = *link;
    if (!waiting) return;
    if (kind == EVENT_SUBTASK) {
        if (event[1] != RETURNED) return;
        *link = waiting->next;
        waitable_join(waiting->waitable, 0);
        subtask_drop(waiting->waitable);
        settle(ctx, waiting, result_of(ctx, waiting->letters, waiting->result));
    } else if (kind == EVENT_STREAM_READ) {
        *link = waiting->next;
        waitable_join(waiting->waitable, 0);
        settle(ctx, waiting, pieces_of(ctx, waiting, event[1]));
    }
}

// ---- Functions

static word call_import(const struct function *function, const struct arguments *arguments, int64_t *large) {
    const word *v = arguments->values;
    void (*import)(void) = function->import;
    switch (function->type) {
    case TV1: ((V1 *)import)(v[0]); break;
    case TV2: ((V2 *)import)(v[0], v[1]); break;
    case TV3: ((V3 *)import)(v[0], v[1], v[2]); break;
    case TV4: ((V4 *)import)(v[0], v[1], v[2], v[3]); break;
    case TV5: ((V5 *)import)(v[0], v[1], v[2], v[3], v[4]); break;
    case TVF: ((VF *)import)(v[0], arguments->real); break;
    case TVIF: ((VIF *)import)(v[0], v[1], arguments->real); break;
    case TVL: ((VL *)import)(v[0], arguments->large); break;
    case TI0: return ((I0 *)import)();
    case TI1: return ((I1 *)import)(v[0]);
    case TI2: return ((I2 *)import)(v[0], v[1]);
    case TI3: return ((I3 *)import)(v[0], v[1], v[2]);
    case TI4: return ((I4 *)import)(v[0], v[1], v[2], v[3]);
    case TI5: return ((I5 *)import)(v[0], v[1], v[2], v[3], v[4]);
    case TL0: *large = ((L0 *)import)(); break;
    }
    return 0;
}

static JSValue call_async(JSContext *ctx, const struct function *function, struct waiting *waiting) {
    struct arguments *arguments = &waiting->arguments;
    waiting->letters = function->result + 1;
    arguments->values[arguments->count++] = (word)waiting->result;
    JSValue promise = promise_of(ctx, waiting);
    word answer = call_import(function, arguments, NULL);
    if ((answer & ((1 << STATE_BITS) - 1)) == RETURNED) {
        settle(ctx, waiting, result_of(ctx, waiting->letters, waiting->result));
    } else {
        wait_later(waiting, (word)((uint32_t)answer >> STATE_BITS));
    }
    return promise;
}

static JSValue call_sync(JSContext *ctx, const struct function *function, struct arguments *arguments) {
    uint8_t result[RESULT_BYTES] __attribute__((aligned(8)));
    const char *letters = function->result;
    bool direct = function->type >= TI0 || *letters == 'v';
    if (!direct) arguments->values[arguments->count++] = (word)result;
    int64_t large = 0;
    word answer = call_import(function, arguments, &large);
    if (*letters == 'q') return JS_NewFloat64(ctx, (double)(uint64_t)large);
    return result_of(ctx, letters, direct ? (const void *)&answer : result);
}

static JSValue call(JSContext *ctx, JSValueConst self, int count, JSValueConst *given, int magic) {
    const struct function *function = &FUNCTION[magic];
    struct waiting *waiting = new_waiting();
    struct arguments *arguments = &waiting->arguments;
    for (int i = 0; function->arguments[i]; i++) {
        JSValueConst value = i < count ? given[i] : JS_UNDEFINED;
        waiting->values[waiting->value_count++] = JS_DupValue(ctx, value);
        if (!push_argument(ctx, arguments, function->arguments[i], value)) {
            free_waiting(ctx, waiting);
            return JS_EXCEPTION;
        }
    }
    if (*function->result == 'a') return call_async(ctx, function, waiting);
    JSValue value = call_sync(ctx, function, arguments);
    free_waiting(ctx, waiting);
    return value;
}

// `read(stream)`: a promise of the next pieces, or of null at the end.
static JSValue read_stream(JSContext *ctx, JSValueConst self, int count, JSValueConst *given) {
    struct handle *handle = handle_of(ctx, given[0]);
    if (!handle) return JS_EXCEPTION;
    struct waiting *waiting = new_waiting();
    waiting->values[waiting->value_count++] = JS_DupValue(ctx, given[0]);
    JSValue promise = promise_of(ctx, waiting);
    word read = stream_read(handle->number, waiting->pieces, PIECES_MAX);
    if (read == BLOCKED) {
        wait_later(waiting, handle->number);
    } else {
        settle(ctx, waiting, pieces_of(ctx, waiting, read));
    }
    return promise;
}

// `drop(handle)`: now, rather than when it is no longer referenced.
static JSValue drop_now(JSContext *ctx, JSValueConst self, int count, JSValueConst *given) {
    struct handle *handle = JS_GetOpaque2(ctx, given[0], handle_class);
    if (!handle) return JS_EXCEPTION;
    for (struct waiting *waiting = all_waiting; waiting; waiting = waiting->next) {
        for (int i = 0; i < waiting->value_count; i++) {
            if (JS_GetOpaque(waiting->values[i], handle_class) == handle) {
                return JS_ThrowTypeError(ctx, "it is waited for, and cannot be closed");
            }
        }
    }
    close_handle(handle);
    return JS_UNDEFINED;
}

JSValue host_functions(JSContext *ctx) {
    JS_NewClassID(JS_GetRuntime(ctx), &handle_class);
    JS_NewClass(JS_GetRuntime(ctx), handle_class, &HANDLE_CLASS);
    JSValue functions = JS_NewObject(ctx);
    for (int i = 0; i < FUNCTION_COUNT; i++) {
        const struct function *function = &FUNCTION[i];
        int length = (int)strlen(function->arguments);
        JSValue value = JS_NewCFunctionMagic(ctx, call, function->name, length, JS_CFUNC_generic_magic, i);
        JS_SetPropertyStr(ctx, functions, function->name, value);
    }
    JS_SetPropertyStr(ctx, functions, "read", JS_NewCFunction(ctx, read_stream, "read", 1));
    JS_SetPropertyStr(ctx, functions, "drop", JS_NewCFunction(ctx, drop_now, "drop", 1));
    return functions;
}
