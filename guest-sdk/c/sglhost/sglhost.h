// sglhost.h: prompt programs in C, in one header.
//
//     #include <sglhost.h>
//
//     SGL_PROGRAM(basic_qa, "Answers a question.",
//         { "question", SGL_STRING, .about = "What to ask." }) {
//         sgl_system(s, "You are a helpful assistant.");
//         sgl_user(s, sgl_string_at(arguments, "question"));
//         sgl_assistant_begin(s);
//         sgl_gen(s, "answer", .max_tokens = 512);
//         sgl_assistant_end(s);
//     }
//
// `sglhost build FOLDER` compiles `program.c` and the other C files beside it with any clang that knows
// wasm32-wasi, and makes a component of them.
//
// Nothing here waits until a result is read: `sgl_gen` starts a call at once, and what is appended after it queues
// behind it on the host. So the calls of forks overlap although the code is plain and blocking.
//
// Errors stay with their state: a step returns nothing to check, and after the first failure the later steps of that
// state do nothing. The program sees it where it asks (`sgl_error_of`, `sgl_sync`, and functions that return NULL or
// false); a failure that nobody looked at ends the run with its code and message.
//
// Text is UTF-8 that ends in a zero byte (one within a text cuts it). What a function returns lives as long as its
// state (`sgl_close` ends it), or, where it has none, as long as the run; nothing needs to be freed.
#ifndef SGLHOST_H
#define SGLHOST_H

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Several files of a program may include this: the linker keeps one of each.
#define SGL_API __attribute__((weak))

// Options that are set replace those that are not, and an argument need not say all that it could.
#if defined(__clang__)
#pragma clang diagnostic ignored "-Winitializer-overrides"
#pragma clang diagnostic ignored "-Wmissing-field-initializers"
#elif defined(__GNUC__)
#pragma GCC diagnostic ignored "-Woverride-init"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#endif

// --------------------------------------------------------------------------------------------------------- the program

// One conversation so far, SGLang's `s`.
typedef struct sgl_state sgl_state;
// A value of JSON that was read.
typedef struct sgl_value sgl_value;
// JSON that is written: the run's result.
typedef struct sgl_json sgl_json;

// Types of arguments, and of what is generated (`.type`).
typedef enum {
    SGL_ANY,      // any JSON; as the type of an output: no constraint
    SGL_STRING,   // text; as the type of an output a JSON string, with its quotes
    SGL_INT,      // an integer; of an output at most 18 digits, without + or leading zeros
    SGL_FLOAT,    // a number; of an output a decimal one
    SGL_BOOL,     // true or false
    SGL_STRINGS,  // a list of texts; no type of an output
} sgl_type;

// An argument of a program.
typedef struct {
    const char *name;
    sgl_type type;
    // What it is, for people; NULL for nothing.
    const char *about;
    // Its value as JSON where the caller gives none ("512", "\"en\""); NULL if it has none.
    const char *preset;
    // It may be left out, and is then not among the arguments.
    bool optional;
} sgl_argument;

// What SGL_PROGRAM makes.
typedef struct {
    const char *name, *about;
    const sgl_argument *arguments;
    size_t argument_count;
    void (*run)(sgl_state *s, const sgl_value *arguments, sgl_json *result);
} sgl_program;
extern const sgl_program sgl_this_program;

// The program: a function that is given a conversation, its arguments and the result to write (null if it writes none).
// After name and description come its arguments, each as the initializer of an `sgl_argument`.
#define SGL_PROGRAM(function, description, ...)                                                             \
    static void function(sgl_state *s, const sgl_value *arguments, sgl_json *result);                       \
    static const sgl_argument sgl_arguments_[] = { __VA_ARGS__ __VA_OPT__(,) { 0 } };                       \
    const sgl_program sgl_this_program = {                                                                  \
        #function, description, sgl_arguments_, sizeof sgl_arguments_ / sizeof *sgl_arguments_ - 1, function \
    };                                                                                                      \
    static void function(                                                                                   \
        __attribute__((unused)) sgl_state *s,                                                               \
        __attribute__((unused)) const sgl_value *arguments,                                                 \
        __attribute__((unused)) sgl_json *result                                                            \
    )

// Ends the run with an error of the program's own (code `program`) once the function returns: the first counts.
SGL_API void sgl_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
// Writes the message and the line to the run's log, and traps.
#define sgl_panic(...) sgl_panic_at(__FILE__, __LINE__, __VA_ARGS__)
SGL_API _Noreturn void sgl_panic_at(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// `exit` and `abort` end the run as an error; with the line in the run's log.
#define exit(status) sgl_exit_at(__FILE__, __LINE__, status)
SGL_API _Noreturn void sgl_exit_at(const char *file, int line, int status);
#define abort() sgl_abort_at(__FILE__, __LINE__)
SGL_API _Noreturn void sgl_abort_at(const char *file, int line);

// -------------------------------------------------------------------------------------------------------------- errors

// Why a step failed.
typedef struct {
    // invalid, limit-exceeded, too-long, unsupported, cancelled, deadline-exceeded, unavailable, program.
    const char *code;
    // For people.
    const char *message;
    // Whether the same step may succeed later.
    bool retryable;
} sgl_error;

// Why this state stopped taking steps; NULL if it did not. Who asks has seen it: it no longer ends the run.
SGL_API const sgl_error *sgl_error_of(sgl_state *s);
// Waits for all calls of this state; then the same.
SGL_API const sgl_error *sgl_sync(sgl_state *s);
// Why the last function without a state (`sgl_emit`, `sgl_context_length`, `sgl_accepts_images`) failed; NULL if it did
// not.
SGL_API const sgl_error *sgl_last_error(void);

// ------------------------------------------------------------------------------------------------------------- prompts

// Appends text. It never becomes control tokens, whatever it says.
SGL_API void sgl_append(sgl_state *s, const char *text);
// The same, formatted as by printf.
SGL_API void sgl_appendf(sgl_state *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
// Text in which the model's special tokens are recognised. Never give it what a user wrote: it can forge roles.
SGL_API void sgl_append_markup(sgl_state *s, const char *text);
// Tokens of the model, as they are.
SGL_API void sgl_append_tokens(sgl_state *s, const uint32_t *tokens, size_t count);
// An image file's bytes: PNG, JPEG, WebP or GIF (first frame).
SGL_API void sgl_append_image(sgl_state *s, const void *bytes, size_t length);

// A whole message of any role that the model's chat template knows, and its two ends.
SGL_API void sgl_role(sgl_state *s, const char *role, const char *text);
SGL_API void sgl_role_begin(sgl_state *s, const char *role);
SGL_API void sgl_role_end(sgl_state *s);

#define SGL_ROLE_(name)                                                                                  \
    SGL_API void sgl_##name(sgl_state *s, const char *text) { sgl_role(s, #name, text); }                \
    SGL_API void sgl_##name##_begin(sgl_state *s) { sgl_role_begin(s, #name); }                          \
    SGL_API void sgl_##name##_end(sgl_state *s) { sgl_role_end(s); }
// sgl_system, sgl_system_begin, sgl_system_end, and so on.
SGL_ROLE_(system)
SGL_ROLE_(user)
SGL_ROLE_(assistant)

// Steps between the two ends of a message, SGLang's `with s.user():`. Leave it at its end only.
//
//     sgl_user_block(s) { sgl_append(s, "Question: "); sgl_append(s, question); }
#define SGL_BLOCK_(s, role)                                                                              \
    for (bool sgl_open_ = (sgl_role_begin(s, role), true); sgl_open_; sgl_open_ = (sgl_role_end(s), false))
#define sgl_system_block(s) SGL_BLOCK_(s, "system")
#define sgl_user_block(s) SGL_BLOCK_(s, "user")
#define sgl_assistant_block(s) SGL_BLOCK_(s, "assistant")

// ---------------------------------------------------------------------------------------------------------- generating

// A list of texts, which may be empty.
#define SGL_TEXTS(...) ((const char *const[]){ __VA_ARGS__ __VA_OPT__(,) NULL })

typedef struct {
    uint32_t token;
    float bias;
} sgl_bias;

// Options of `sgl_gen` and `sgl_select`. What is not set takes the host's default, which is SGLang's.
typedef struct {
    int64_t max_tokens;           // most tokens (128)
    int64_t min_tokens;           // until so many, neither end-of-text nor a stop token is taken
    float temperature;            // 0 takes the likeliest token; 1 (the default) leaves the distribution as it is
    float top_p;                  // in (0, 1]
    int32_t top_k;                // -1 keeps all
    float min_p;                  // in [0, 1]
    float frequency_penalty;      // in [-2, 2]
    float presence_penalty;       // in [-2, 2]
    float repetition_penalty;     // in [0.01, 2]
    const char *const *stop;        // texts that end the output, and are cut from it: SGL_TEXTS("\n")
    const char *const *stop_regex;  // patterns whose match ends it, and is kept
    const uint32_t *stop_tokens;  // tokens that end it: (uint32_t[]){ 2 }, with
    size_t stop_token_count;      // how many
    int no_stop_trim;             // keep in the output what ended it
    int skip_special_tokens;      // leave control tokens out of the text (the default)
    int ignore_eos;               // go on after end-of-text
    int64_t seed;                 // same seed, same prompt, same output; from 0 on
    const sgl_bias *logit_bias;   // added to the logits of tokens: (sgl_bias[]){ { 2, -100 } }, with
    size_t logit_bias_count;      // how many
    int64_t top_logprobs;         // log-probabilities of the output's tokens, with so many alternatives
    // token-length-normalized, greedy-token-selection or unconditional-likelihood-normalized
    const char *choices_method;
    // At most one of these: what the whole output must match.
    sgl_type type;                // SGL_INT, SGL_FLOAT, SGL_BOOL or SGL_STRING
    const char *regex;            // a regular expression of Rust's, without word boundaries
    const char *json_schema;      // a JSON Schema
    const char *lark;             // a grammar in Lark's notation
    const char *structural_tag;   // free text with calls of tools, as SGLang takes it
    const char *const *one_of;    // one of these texts, sampled: SGL_TEXTS("red", "green")
} sgl_options;

#define SGL_UNSET_OPTIONS_                                                                                            \
    .max_tokens = -1, .min_tokens = -1, .temperature = NAN, .top_p = NAN, .top_k = INT32_MIN, .min_p = NAN,           \
    .frequency_penalty = NAN, .presence_penalty = NAN, .repetition_penalty = NAN, .no_stop_trim = -1,                 \
    .skip_special_tokens = -1, .ignore_eos = -1, .seed = -1, .top_logprobs = -1

// Generates text under a name: sgl_gen(s, "answer", .max_tokens = 512, .stop = SGL_TEXTS("\n")).
#define sgl_gen(s, name, ...) sgl_gen_with(s, name, (sgl_options){ SGL_UNSET_OPTIONS_ __VA_OPT__(,) __VA_ARGS__ })
SGL_API void sgl_gen_with(sgl_state *s, const char *name, sgl_options options);
// The likeliest of several continuations: sgl_select(s, "tool", SGL_TEXTS("calculator", "search engine")).
#define sgl_select(s, name, choices, ...)                                                                             \
    sgl_select_with(s, name, choices, (sgl_options){ SGL_UNSET_OPTIONS_ __VA_OPT__(,) __VA_ARGS__ })
SGL_API void sgl_select_with(sgl_state *s, const char *name, const char *const *choices, sgl_options options);

// ------------------------------------------------------------------------------------------------------------- results

// The text generated under a name; waits for it. Of a failed call it is empty, and the failure ends the run unless the
// program looks at it. A name under which nothing was generated is a panic.
SGL_API const char *sgl_get(sgl_state *s, const char *name);
// The same as a number or truth value; false, with the failure in `sgl_error_of`, if there is none or it is no such.
SGL_API bool sgl_get_int(sgl_state *s, const char *name, int64_t *value);
SGL_API bool sgl_get_float(sgl_state *s, const char *name, double *value);
SGL_API bool sgl_get_bool(sgl_state *s, const char *name, bool *value);
// The same, read as JSON; NULL if it is none.
SGL_API const sgl_value *sgl_get_json(sgl_state *s, const char *name);

// The next piece of the text generated under a name, as soon as it is there; NULL at its end. Each piece once;
// `sgl_get` is the whole text in any case. The piece lives until the next is asked for.
SGL_API const char *sgl_next_piece(sgl_state *s, const char *name);
// Stops generating; what was delivered stays.
SGL_API void sgl_cancel(sgl_state *s, const char *name);

// How a call ended.
typedef struct sgl_outcome sgl_outcome;

// A token, the bytes it stands for (not always whole characters), and its natural log-probability.
typedef struct {
    uint32_t token;
    const char *bytes;
    size_t length;
    float logprob;
} sgl_logprob;

// Of the call of a name; waits for it. NULL if it failed. `sgl_error_of` tells why, and has it seen.
SGL_API const sgl_outcome *sgl_outcome_of(sgl_state *s, const char *name);
SGL_API const char *sgl_outcome_text(const sgl_outcome *o);
SGL_API const uint32_t *sgl_outcome_tokens(const sgl_outcome *o, size_t *count);
// stop, length or end-of-text.
SGL_API const char *sgl_outcome_finish_reason(const sgl_outcome *o);
// The stop text, match or token that ended it; NULL if none did.
SGL_API const char *sgl_outcome_matched(const sgl_outcome *o);
// Of each token, if `.top_logprobs` was set; and the alternatives at a position, likeliest first.
SGL_API const sgl_logprob *sgl_outcome_logprobs(const sgl_outcome *o, size_t *count);
SGL_API const sgl_logprob *sgl_outcome_top_logprobs(const sgl_outcome *o, uint32_t position, size_t *count);
// Tokens before the output, and of those the ones that the cache held; tokens of the output, and of those the ones that
// its constraint left no choice about.
SGL_API uint32_t sgl_outcome_prompt_tokens(const sgl_outcome *o);
SGL_API uint32_t sgl_outcome_cached_tokens(const sgl_outcome *o);
SGL_API uint32_t sgl_outcome_completion_tokens(const sgl_outcome *o);
SGL_API uint32_t sgl_outcome_forced_tokens(const sgl_outcome *o);
// Of a select: which choice (-1 if it was none), and the score of each that the method compared.
SGL_API int64_t sgl_outcome_choice(const sgl_outcome *o);
SGL_API const float *sgl_outcome_scores(const sgl_outcome *o, size_t *count);

// -------------------------------------------------------------------------------------------------------------- states

// An independent copy from here on, with the results so far: its calls run at the same time as others'.
SGL_API sgl_state *sgl_fork(sgl_state *s);
// An empty conversation with a model that the host serves; NULL is its default.
SGL_API sgl_state *sgl_open(const char *model);
// Ends a state that is no longer needed: its calls under way are cancelled, unless a fork has them too. A run may have
// so many open (`sgl_contexts_left`).
SGL_API void sgl_close(sgl_state *s);

// The whole text so far, role markers included, and its length in tokens; both wait for what is queued. NULL and -1 on
// a failure.
SGL_API const char *sgl_text(sgl_state *s);
SGL_API int64_t sgl_token_count(sgl_state *s);
// Cuts the conversation back to its first tokens.
SGL_API bool sgl_truncate(sgl_state *s, uint32_t tokens);
// Log-probability of each token of a text as the continuation; the conversation stays as it is. NULL on a failure.
SGL_API const sgl_logprob *sgl_score(sgl_state *s, const char *text, size_t *count);
// The likeliest next tokens, likeliest first. NULL on a failure.
SGL_API const sgl_logprob *sgl_next_tokens(sgl_state *s, uint32_t wanted, size_t *count);
// A text formatted as by printf, which lives as long as the state.
SGL_API char *sgl_format(sgl_state *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

// ------------------------------------------------------------------------------------------------------------- the run

// Sends a piece of output to whoever started the run, at once; false if nobody can take it (`sgl_last_error`).
SGL_API bool sgl_emit(const char *channel, const char *data);
// What the run may still use: tokens, states open at once, milliseconds.
SGL_API uint64_t sgl_tokens_left(void);
SGL_API uint32_t sgl_contexts_left(void);
SGL_API uint64_t sgl_milliseconds_left(void);
// Names of the models served here, the default first; a NULL after the last.
SGL_API const char *const *sgl_models(void);
// Most tokens of a conversation with a model, -1 on a failure; whether it takes images. NULL is the default model.
SGL_API int64_t sgl_context_length(const char *model);
SGL_API bool sgl_accepts_images(const char *model);

// ---------------------------------------------------------------------------------------------------------------- JSON

// A text read as JSON; NULL if it is none. Values are read below; of NULL, or of another type, they are empty, 0 or
// NULL.
SGL_API const sgl_value *sgl_parse(const char *text, size_t length);
SGL_API const char *sgl_string(const sgl_value *v);
SGL_API int64_t sgl_int(const sgl_value *v);
SGL_API double sgl_float(const sgl_value *v);
SGL_API bool sgl_bool(const sgl_value *v);
// Members of an object or items of a list.
SGL_API size_t sgl_count(const sgl_value *v);
SGL_API const sgl_value *sgl_item(const sgl_value *v, size_t index);
SGL_API const sgl_value *sgl_at(const sgl_value *v, const char *name);
// The members of an object, read at once: sgl_string_at(arguments, "question").
static inline const char *sgl_string_at(const sgl_value *v, const char *name) { return sgl_string(sgl_at(v, name)); }
static inline int64_t sgl_int_at(const sgl_value *v, const char *name) { return sgl_int(sgl_at(v, name)); }
static inline double sgl_float_at(const sgl_value *v, const char *name) { return sgl_float(sgl_at(v, name)); }
static inline bool sgl_bool_at(const sgl_value *v, const char *name) { return sgl_bool(sgl_at(v, name)); }

// Writes JSON, one value after the other; commas come by themselves. Inside an object a key comes before each value.
SGL_API void sgl_write_object(sgl_json *json);
SGL_API void sgl_write_list(sgl_json *json);
// Ends the object or list that was begun last.
SGL_API void sgl_write_end(sgl_json *json);
SGL_API void sgl_write_key(sgl_json *json, const char *key);
SGL_API void sgl_write_string(sgl_json *json, const char *text);
SGL_API void sgl_write_int(sgl_json *json, int64_t value);
SGL_API void sgl_write_float(sgl_json *json, double value);
SGL_API void sgl_write_bool(sgl_json *json, bool value);
SGL_API void sgl_write_null(sgl_json *json);
// JSON as it is.
SGL_API void sgl_write_raw(sgl_json *json, const char *text);

// ===================================================================================================== how it is done
//
// Below are the contract's imports and exports as the component model's canonical ABI has them (a `result` of the host
// is written to memory: first whether it is an error, then the value), and what the functions above make of them.
// Imports that the contract calls async are called synchronously: the guest waits, the host goes on. A stream has no
// such way: it is asked, and waited for.

#define SGL_LM_(name) __attribute__((import_module("sgl:program/lm@0.1.0"), import_name(name)))
#define SGL_RUN_(name) __attribute__((import_module("sgl:program/run@0.1.0"), import_name(name)))

typedef struct { const char *at; size_t length; } sgl_text_;
// A record `token-logprob`.
typedef struct { uint32_t token; sgl_text_ bytes; float logprob; } sgl_host_logprob_;
// A `result<…, error>`, or an `option<…>` without the error.
typedef struct {
    uint8_t tag;
    union {
        uint32_t value;
        uint8_t flag;
        sgl_text_ list;
        struct { sgl_text_ code, message; uint8_t retryable; } error;
    } as;
} sgl_result_;

#define SGL_SET_(name, function, ...) SGL_LM_("[method]options." name) void function(int32_t options, __VA_ARGS__);
SGL_LM_("[constructor]options") int32_t sgl_host_options_(void);
SGL_SET_("name", sgl_host_name_, const char *, size_t)
SGL_SET_("max-tokens", sgl_host_max_tokens_, uint32_t)
SGL_SET_("min-tokens", sgl_host_min_tokens_, uint32_t)
SGL_SET_("temperature", sgl_host_temperature_, float)
SGL_SET_("top-p", sgl_host_top_p_, float)
SGL_SET_("top-k", sgl_host_top_k_, int32_t)
SGL_SET_("min-p", sgl_host_min_p_, float)
SGL_SET_("frequency-penalty", sgl_host_frequency_penalty_, float)
SGL_SET_("presence-penalty", sgl_host_presence_penalty_, float)
SGL_SET_("repetition-penalty", sgl_host_repetition_penalty_, float)
SGL_SET_("stop", sgl_host_stop_, const char *, size_t)
SGL_SET_("stop-token", sgl_host_stop_token_, uint32_t)
SGL_SET_("stop-regex", sgl_host_stop_regex_, const char *, size_t)
SGL_SET_("no-stop-trim", sgl_host_no_stop_trim_, int32_t)
SGL_SET_("skip-special-tokens", sgl_host_skip_special_tokens_, int32_t)
SGL_SET_("ignore-eos", sgl_host_ignore_eos_, int32_t)
SGL_SET_("seed", sgl_host_seed_, uint64_t)
SGL_SET_("logit-bias", sgl_host_logit_bias_, uint32_t, float)
SGL_SET_("constrain", sgl_host_constrain_, int32_t)
SGL_SET_("top-logprobs", sgl_host_top_logprobs_, uint32_t)
SGL_SET_("choices-method", sgl_host_choices_method_, const char *, size_t)
SGL_LM_("[resource-drop]options") void sgl_host_drop_options_(int32_t);

SGL_LM_("[static]constraint.regex") void sgl_host_regex_(const char *, size_t, sgl_result_ *);
SGL_LM_("[static]constraint.choices") void sgl_host_choices_(const sgl_text_ *, size_t, sgl_result_ *);
SGL_LM_("[static]constraint.json-schema") void sgl_host_json_schema_(const char *, size_t, sgl_result_ *);
SGL_LM_("[static]constraint.lark") void sgl_host_lark_(const char *, size_t, sgl_result_ *);
SGL_LM_("[static]constraint.structural-tag") void sgl_host_structural_tag_(const char *, size_t, sgl_result_ *);
SGL_LM_("[resource-drop]constraint") void sgl_host_drop_constraint_(int32_t);

SGL_LM_("[method]outcome.text") void sgl_host_outcome_text_(int32_t, sgl_text_ *);
SGL_LM_("[method]outcome.tokens") void sgl_host_outcome_tokens_(int32_t, sgl_text_ *);
SGL_LM_("[method]outcome.finish-reason") void sgl_host_outcome_finish_reason_(int32_t, sgl_text_ *);
SGL_LM_("[method]outcome.matched") void sgl_host_outcome_matched_(int32_t, sgl_result_ *);
SGL_LM_("[method]outcome.logprobs") void sgl_host_outcome_logprobs_(int32_t, sgl_text_ *);
SGL_LM_("[method]outcome.top-logprobs") void sgl_host_outcome_top_logprobs_(int32_t, uint32_t, sgl_text_ *);
SGL_LM_("[method]outcome.prompt-tokens") uint32_t sgl_host_outcome_prompt_tokens_(int32_t);
SGL_LM_("[method]outcome.cached-tokens") uint32_t sgl_host_outcome_cached_tokens_(int32_t);
SGL_LM_("[method]outcome.completion-tokens") uint32_t sgl_host_outcome_completion_tokens_(int32_t);
SGL_LM_("[method]outcome.forced-tokens") uint32_t sgl_host_outcome_forced_tokens_(int32_t);
SGL_LM_("[method]outcome.choice") void sgl_host_outcome_choice_(int32_t, sgl_result_ *);
SGL_LM_("[method]outcome.scores") void sgl_host_outcome_scores_(int32_t, sgl_text_ *);
SGL_LM_("[resource-drop]outcome") void sgl_host_drop_outcome_(int32_t);

SGL_LM_("[method]call.text") void sgl_host_call_text_(int32_t, sgl_result_ *);
SGL_LM_("[method]call.finished") void sgl_host_call_finished_(int32_t, sgl_result_ *);
SGL_LM_("[method]call.cancel") void sgl_host_call_cancel_(int32_t);
SGL_LM_("[resource-drop]call") void sgl_host_drop_call_(int32_t);
SGL_LM_("[async-lower][stream-read-0][method]call.text") uint32_t sgl_host_stream_read_(int32_t, sgl_text_ *, uint32_t);
SGL_LM_("[stream-drop-readable-0][method]call.text") void sgl_host_drop_stream_(int32_t);

#define SGL_ROOT_(name) __attribute__((import_module("$root"), import_name(name)))
SGL_ROOT_("[waitable-set-new]") int32_t sgl_host_new_set_(void);
SGL_ROOT_("[waitable-set-wait]") uint32_t sgl_host_wait_(int32_t, uint32_t *);
SGL_ROOT_("[waitable-join]") void sgl_host_join_(int32_t, int32_t);

SGL_LM_("[static]image.decode") void sgl_host_image_decode_(const void *, size_t, sgl_result_ *);
SGL_LM_("[resource-drop]image") void sgl_host_drop_image_(int32_t);

SGL_LM_("[static]context.create") void sgl_host_create_(int32_t, const char *, size_t, sgl_result_ *);
SGL_LM_("[method]context.append") void sgl_host_append_(int32_t, const char *, size_t, sgl_result_ *);
SGL_LM_("[method]context.append-markup") void sgl_host_append_markup_(int32_t, const char *, size_t, sgl_result_ *);
SGL_LM_("[method]context.append-tokens") void sgl_host_append_tokens_(int32_t, const uint32_t *, size_t, sgl_result_ *);
SGL_LM_("[method]context.append-image") void sgl_host_append_image_(int32_t, int32_t, sgl_result_ *);
SGL_LM_("[method]context.begin-role") void sgl_host_begin_role_(int32_t, const char *, size_t, sgl_result_ *);
SGL_LM_("[method]context.end-role") void sgl_host_end_role_(int32_t, sgl_result_ *);
SGL_LM_("[method]context.generate") void sgl_host_generate_(int32_t, int32_t, sgl_result_ *);
SGL_LM_("[method]context.select") void sgl_host_select_(int32_t, const sgl_text_ *, size_t, int32_t, sgl_result_ *);
SGL_LM_("[method]context.score") void sgl_host_score_(int32_t, const char *, size_t, sgl_result_ *);
SGL_LM_("[method]context.next-tokens") void sgl_host_next_tokens_(int32_t, uint32_t, sgl_result_ *);
SGL_LM_("[method]context.fork") void sgl_host_fork_(int32_t, sgl_result_ *);
SGL_LM_("[method]context.truncate") void sgl_host_truncate_(int32_t, uint32_t, sgl_result_ *);
SGL_LM_("[method]context.token-count") void sgl_host_token_count_(int32_t, sgl_result_ *);
SGL_LM_("[method]context.text") void sgl_host_text_(int32_t, sgl_result_ *);
SGL_LM_("[resource-drop]context") void sgl_host_drop_context_(int32_t);

SGL_LM_("models") void sgl_host_models_(sgl_text_ *);
SGL_LM_("context-length") void sgl_host_context_length_(int32_t, const char *, size_t, sgl_result_ *);
SGL_LM_("accepts-images") void sgl_host_accepts_images_(int32_t, const char *, size_t, sgl_result_ *);
SGL_RUN_("emit") void sgl_host_emit_(const char *, size_t, const char *, size_t, sgl_result_ *);
SGL_RUN_("tokens-left") uint64_t sgl_host_tokens_left_(void);
SGL_RUN_("contexts-left") uint32_t sgl_host_contexts_left_(void);
SGL_RUN_("milliseconds-left") uint64_t sgl_host_milliseconds_left_(void);

// -------------------------------------------------------------------------------------------------------------- memory

SGL_API void *sgl_allocate_(size_t size) {
    void *memory = calloc(1, size ? size : 1);
    if (!memory) sgl_panic("out of memory: %zu bytes are not to be had", size);
    return memory;
}

SGL_API void *sgl_resize_(void *memory, size_t size) {
    memory = realloc(memory, size ? size : 1);
    if (!memory) sgl_panic("out of memory: %zu bytes are not to be had", size);
    return memory;
}

// Where the host puts texts and lists. A zero byte after each makes a text one of C's.
__attribute__((weak, export_name("cabi_realloc")))
void *sgl_realloc_(void *old, size_t old_size, size_t align, size_t new_size) {
    (void)align; // At most 8, as malloc's is at least.
    (void)old_size;
    char *memory = sgl_resize_(old, new_size + 1);
    memory[new_size] = 0;
    return memory;
}

// Memory that goes with its owner.
typedef struct { void **at; size_t count, room; } sgl_kept_;

SGL_API void *sgl_keep_(sgl_kept_ *kept, void *memory) {
    if (kept->count == kept->room) {
        kept->room = kept->room ? 2 * kept->room : 4;
        kept->at = sgl_resize_(kept->at, kept->room * sizeof *kept->at);
    }
    return kept->at[kept->count++] = memory;
}

SGL_API void sgl_free_kept_(sgl_kept_ *kept) {
    while (kept->count) free(kept->at[--kept->count]);
    free(kept->at);
    kept->at = NULL;
    kept->room = 0;
}

SGL_API char *sgl_vformat_(const char *format, va_list values) {
    va_list again;
    va_copy(again, values);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    char *text = sgl_allocate_(length < 0 ? 1 : (size_t)length + 1);
    if (length > 0) vsnprintf(text, (size_t)length + 1, format, values);
    return text;
}

SGL_API _Noreturn void sgl_panic_at(const char *file, int line, const char *format, ...) {
    va_list values;
    va_start(values, format);
    fprintf(stderr, "panic at %s:%d: ", file, line);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    fflush(stdout);
    fflush(stderr);
    va_end(values);
    __builtin_trap();
}

SGL_API _Noreturn void sgl_exit_at(const char *file, int line, int status) {
    fprintf(stderr, "exit(%d) at %s:%d\n", status, file, line);
    (exit)(status);
}

SGL_API _Noreturn void sgl_abort_at(const char *file, int line) {
    fflush(stdout);
    fprintf(stderr, "abort() at %s:%d\n", file, line);
    (abort)();
}

// ------------------------------------------------------------------------------------------------------------ failures

typedef struct sgl_failure_ {
    sgl_error error;
    bool seen;
    struct sgl_failure_ *next;
} sgl_failure_;

// All failures of the run, in order: an instance serves one run.
SGL_API sgl_failure_ *sgl_first_failure_;
SGL_API sgl_failure_ **sgl_failures_end_;
// The program's own.
SGL_API char *sgl_own_failure_;
SGL_API sgl_failure_ *sgl_last_failure_;

SGL_API sgl_failure_ *sgl_note_(const char *code, const char *message, bool retryable) {
    sgl_failure_ *failure = sgl_allocate_(sizeof *failure);
    failure->error = (sgl_error){ code, message, retryable };
    if (!sgl_failures_end_) sgl_failures_end_ = &sgl_first_failure_;
    *sgl_failures_end_ = failure;
    sgl_failures_end_ = &failure->next;
    return failure;
}

SGL_API sgl_failure_ *sgl_note_result_(const sgl_result_ *result) {
    return sgl_note_(result->as.error.code.at, result->as.error.message.at, result->as.error.retryable);
}

SGL_API void sgl_fail(const char *format, ...) {
    if (sgl_own_failure_) return;
    va_list values;
    va_start(values, format);
    sgl_own_failure_ = sgl_vformat_(format, values);
    va_end(values);
}

SGL_API const sgl_error *sgl_last_error(void) { return sgl_last_failure_ ? &sgl_last_failure_->error : NULL; }

// -------------------------------------------------------------------------------------------------------------- states

struct sgl_outcome {
    int32_t handle;
    const char *text;
    sgl_kept_ kept;
};

// A call, and how it ended once somebody waited for it. Forks share it.
typedef struct {
    int32_t call, stream;
    size_t owners;
    // Whether it was waited for; whether its stream was asked for, told that nothing more comes, and was let go.
    bool finished, streams, ended, drained;
    sgl_outcome outcome;
    sgl_failure_ *failure;
    char *piece;
} sgl_pending_;

typedef struct { char *name; sgl_pending_ *pending; } sgl_named_;

struct sgl_state {
    int32_t context;
    bool has_context;
    sgl_failure_ *failure;
    sgl_named_ *results;
    size_t count, room;
    unsigned empty_reads;
    sgl_kept_ kept;
};

// Keeps the first failure. Later ones follow from it, so nobody need look at them.
SGL_API void sgl_state_failed_(sgl_state *s, sgl_failure_ *failure) {
    if (!s->failure) s->failure = failure;
    else if (s->failure != failure) failure->seen = true;
}

// Whether a step went well.
SGL_API bool sgl_done_(sgl_state *s, const sgl_result_ *result) {
    if (result->tag) sgl_state_failed_(s, sgl_note_result_(result));
    return !result->tag;
}

SGL_API sgl_state *sgl_new_state_(const sgl_result_ *result) {
    sgl_state *s = sgl_allocate_(sizeof *s);
    if (result->tag) {
        s->failure = sgl_note_result_(result);
    } else {
        s->context = (int32_t)result->as.value;
        s->has_context = true;
    }
    return s;
}

SGL_API sgl_state *sgl_open(const char *model) {
    sgl_result_ result = { 0 };
    sgl_host_create_(model != NULL, model ? model : "", model ? strlen(model) : 0, &result);
    return sgl_new_state_(&result);
}

SGL_API void sgl_add_result_(sgl_state *s, const char *name, sgl_pending_ *pending) {
    if (s->count == s->room) {
        s->room = s->room ? 2 * s->room : 4;
        s->results = sgl_resize_(s->results, s->room * sizeof *s->results);
    }
    char *copy = sgl_allocate_(strlen(name) + 1);
    strcpy(copy, name);
    s->results[s->count++] = (sgl_named_){ copy, pending };
    pending->owners++;
}

SGL_API sgl_state *sgl_fork(sgl_state *s) {
    sgl_state *fork;
    if (s->failure) {
        fork = sgl_allocate_(sizeof *fork);
        fork->failure = s->failure;
    } else {
        sgl_result_ result = { 0 };
        sgl_host_fork_(s->context, &result);
        fork = sgl_new_state_(&result);
        if (fork->failure) sgl_state_failed_(s, fork->failure);
    }
    for (size_t i = 0; i < s->count; i++) sgl_add_result_(fork, s->results[i].name, s->results[i].pending);
    return fork;
}

SGL_API void sgl_close(sgl_state *s) {
    if (!s) return;
    for (size_t i = 0; i < s->count; i++) {
        sgl_pending_ *pending = s->results[i].pending;
        free(s->results[i].name);
        if (--pending->owners) continue;
        if (pending->streams && !pending->drained) sgl_host_drop_stream_(pending->stream);
        if (pending->finished && !pending->failure) sgl_host_drop_outcome_(pending->outcome.handle);
        sgl_host_drop_call_(pending->call);
        sgl_free_kept_(&pending->outcome.kept);
        free(pending->piece);
        free(pending);
    }
    if (s->has_context) sgl_host_drop_context_(s->context);
    free(s->results);
    sgl_free_kept_(&s->kept);
    free(s);
}

SGL_API char *sgl_format(sgl_state *s, const char *format, ...) {
    va_list values;
    va_start(values, format);
    char *text = sgl_keep_(&s->kept, sgl_vformat_(format, values));
    va_end(values);
    return text;
}

// Waits for a call; whether it went well.
SGL_API bool sgl_wait_(sgl_state *s, sgl_pending_ *pending) {
    if (!pending->finished) {
        sgl_result_ result = { 0 };
        sgl_host_call_finished_(pending->call, &result);
        pending->finished = true;
        if (result.tag) pending->failure = sgl_note_result_(&result);
        else pending->outcome.handle = (int32_t)result.as.value;
    }
    if (pending->failure) sgl_state_failed_(s, pending->failure);
    return !pending->failure;
}

SGL_API const sgl_error *sgl_error_of(sgl_state *s) {
    if (!s->failure) return NULL;
    s->failure->seen = true;
    return &s->failure->error;
}

SGL_API void sgl_wait_for_all_(sgl_state *s) {
    for (size_t i = 0; i < s->count; i++) sgl_wait_(s, s->results[i].pending);
}

SGL_API const sgl_error *sgl_sync(sgl_state *s) {
    sgl_wait_for_all_(s);
    return sgl_error_of(s);
}

// --------------------------------------------------------------------------------------------------------------- steps

SGL_API void sgl_append(sgl_state *s, const char *text) {
    sgl_result_ result = { 0 };
    if (s->failure || !*text) return;
    sgl_host_append_(s->context, text, strlen(text), &result);
    sgl_done_(s, &result);
}

SGL_API void sgl_appendf(sgl_state *s, const char *format, ...) {
    va_list values;
    va_start(values, format);
    char *text = sgl_vformat_(format, values);
    va_end(values);
    sgl_append(s, text);
    free(text);
}

SGL_API void sgl_append_markup(sgl_state *s, const char *text) {
    sgl_result_ result = { 0 };
    if (s->failure) return;
    sgl_host_append_markup_(s->context, text, strlen(text), &result);
    sgl_done_(s, &result);
}

SGL_API void sgl_append_tokens(sgl_state *s, const uint32_t *tokens, size_t count) {
    sgl_result_ result = { 0 };
    if (s->failure) return;
    sgl_host_append_tokens_(s->context, tokens, count, &result);
    sgl_done_(s, &result);
}

SGL_API void sgl_append_image(sgl_state *s, const void *bytes, size_t length) {
    sgl_result_ result = { 0 };
    if (s->failure) return;
    sgl_host_image_decode_(bytes, length, &result);
    if (!sgl_done_(s, &result)) return;
    int32_t image = (int32_t)result.as.value;
    sgl_host_append_image_(s->context, image, &result);
    sgl_done_(s, &result);
    sgl_host_drop_image_(image);
}

SGL_API void sgl_role_begin(sgl_state *s, const char *role) {
    sgl_result_ result = { 0 };
    if (s->failure) return;
    sgl_host_begin_role_(s->context, role, strlen(role), &result);
    sgl_done_(s, &result);
}

SGL_API void sgl_role_end(sgl_state *s) {
    sgl_result_ result = { 0 };
    if (s->failure) return;
    sgl_host_end_role_(s->context, &result);
    sgl_done_(s, &result);
}

SGL_API void sgl_role(sgl_state *s, const char *role, const char *text) {
    sgl_role_begin(s, role);
    sgl_append(s, text);
    sgl_role_end(s);
}

// A list of texts as the host takes it; to be freed.
SGL_API sgl_text_ *sgl_texts_(const char *const *texts, size_t *count) {
    for (*count = 0; texts[*count];) ++*count;
    sgl_text_ *list = sgl_allocate_(*count * sizeof *list);
    for (size_t i = 0; i < *count; i++) list[i] = (sgl_text_){ texts[i], strlen(texts[i]) };
    return list;
}

// Compiles what the output must match. Whether there is something, and it went well.
SGL_API bool sgl_constraint_(const sgl_options *options, sgl_result_ *result) {
    const char *regex = options->regex;
    switch (options->type) {
        case SGL_INT: regex = "0|-?[1-9][0-9]{0,17}"; break;
        case SGL_FLOAT: regex = "-?(0|[1-9][0-9]{0,17})(\\.[0-9]{1,17})?"; break;
        case SGL_BOOL: regex = "true|false"; break;
        case SGL_STRING:
            // Escapes that are half of a character (surrogates) are left out.
            regex =
                "\"([^\"\\\\\\x00-\\x1f\\x7f]|\\\\([\"\\\\/bfnrt]|u([0-9a-cefA-CEF][0-9a-fA-F]|[dD][0-7])[0-9a-fA-F]{2}))*\"";
            break;
        default: break;
    }
    if (regex) sgl_host_regex_(regex, strlen(regex), result);
    else if (options->json_schema) sgl_host_json_schema_(options->json_schema, strlen(options->json_schema), result);
    else if (options->lark) sgl_host_lark_(options->lark, strlen(options->lark), result);
    else if (options->structural_tag)
        sgl_host_structural_tag_(options->structural_tag, strlen(options->structural_tag), result);
    else if (options->one_of) {
        size_t count;
        sgl_text_ *texts = sgl_texts_(options->one_of, &count);
        sgl_host_choices_(texts, count, result);
        free(texts);
    } else return false;
    return !result->tag;
}

SGL_API void sgl_start_(sgl_state *s, const char *name, const char *const *choices, const sgl_options *options) {
    sgl_result_ result = { 0 };
    if (s->failure) return;
    int32_t set = sgl_host_options_();
    sgl_host_name_(set, name, strlen(name));
    if (options->max_tokens >= 0) sgl_host_max_tokens_(set, (uint32_t)options->max_tokens);
    if (options->min_tokens >= 0) sgl_host_min_tokens_(set, (uint32_t)options->min_tokens);
    if (!isnan(options->temperature)) sgl_host_temperature_(set, options->temperature);
    if (!isnan(options->top_p)) sgl_host_top_p_(set, options->top_p);
    if (options->top_k != INT32_MIN) sgl_host_top_k_(set, options->top_k);
    if (!isnan(options->min_p)) sgl_host_min_p_(set, options->min_p);
    if (!isnan(options->frequency_penalty)) sgl_host_frequency_penalty_(set, options->frequency_penalty);
    if (!isnan(options->presence_penalty)) sgl_host_presence_penalty_(set, options->presence_penalty);
    if (!isnan(options->repetition_penalty)) sgl_host_repetition_penalty_(set, options->repetition_penalty);
    for (const char *const *text = options->stop; text && *text; text++) sgl_host_stop_(set, *text, strlen(*text));
    for (const char *const *pattern = options->stop_regex; pattern && *pattern; pattern++)
        sgl_host_stop_regex_(set, *pattern, strlen(*pattern));
    for (size_t i = 0; i < options->stop_token_count; i++) sgl_host_stop_token_(set, options->stop_tokens[i]);
    if (options->no_stop_trim >= 0) sgl_host_no_stop_trim_(set, options->no_stop_trim != 0);
    if (options->skip_special_tokens >= 0) sgl_host_skip_special_tokens_(set, options->skip_special_tokens != 0);
    if (options->ignore_eos >= 0) sgl_host_ignore_eos_(set, options->ignore_eos != 0);
    if (options->seed >= 0) sgl_host_seed_(set, (uint64_t)options->seed);
    for (size_t i = 0; i < options->logit_bias_count; i++)
        sgl_host_logit_bias_(set, options->logit_bias[i].token, options->logit_bias[i].bias);
    if (options->top_logprobs >= 0) sgl_host_top_logprobs_(set, (uint32_t)options->top_logprobs);
    if (options->choices_method)
        sgl_host_choices_method_(set, options->choices_method, strlen(options->choices_method));
    bool constrained = sgl_constraint_(options, &result);
    int32_t constraint = (int32_t)result.as.value;
    if (constrained) sgl_host_constrain_(set, constraint);
    if (!result.tag) {
        if (choices) {
            size_t count;
            sgl_text_ *texts = sgl_texts_(choices, &count);
            sgl_host_select_(s->context, texts, count, set, &result);
            free(texts);
        } else {
            sgl_host_generate_(s->context, set, &result);
        }
    }
    if (constrained) sgl_host_drop_constraint_(constraint);
    sgl_host_drop_options_(set);
    if (!sgl_done_(s, &result)) return;
    sgl_pending_ *pending = sgl_allocate_(sizeof *pending);
    pending->call = (int32_t)result.as.value;
    sgl_add_result_(s, name, pending);
}

SGL_API void sgl_gen_with(sgl_state *s, const char *name, sgl_options options) { sgl_start_(s, name, NULL, &options); }

SGL_API void sgl_select_with(sgl_state *s, const char *name, const char *const *choices, sgl_options options) {
    sgl_start_(s, name, choices, &options);
}

// ------------------------------------------------------------------------------------------------------------- results

// The last result of a name; NULL if there is none because the state failed. A panic if there is none at all.
SGL_API sgl_pending_ *sgl_find_(sgl_state *s, const char *name) {
    for (size_t i = s->count; i--;) {
        if (!strcmp(s->results[i].name, name)) return s->results[i].pending;
    }
    if (!s->failure) sgl_panic("nothing was generated as \"%s\"", name);
    return NULL;
}

SGL_API const sgl_outcome *sgl_outcome_of(sgl_state *s, const char *name) {
    sgl_pending_ *pending = sgl_find_(s, name);
    return pending && sgl_wait_(s, pending) ? &pending->outcome : NULL;
}

// Functions of a const outcome keep what they fetched with it.
SGL_API void *sgl_fetched_(const sgl_outcome *o, void *memory) { return sgl_keep_(&((sgl_outcome *)o)->kept, memory); }

SGL_API const char *sgl_outcome_text(const sgl_outcome *o) {
    if (!o->text) {
        sgl_text_ text;
        sgl_host_outcome_text_(o->handle, &text);
        ((sgl_outcome *)o)->text = sgl_fetched_(o, (char *)text.at);
    }
    return o->text;
}

SGL_API const char *sgl_get(sgl_state *s, const char *name) {
    const sgl_outcome *o = sgl_outcome_of(s, name);
    if (o) return sgl_outcome_text(o);
    // A loop that waits for an answer would go on for ever.
    if (++s->empty_reads == 10000)
        sgl_panic("\"%s\" was read 10000 times after it failed: %s", name, s->failure->error.message);
    return "";
}

SGL_API bool sgl_no_such_(sgl_state *s, const char *name, const char *what) {
    if (!s->failure) {
        char *message = sgl_format(s, "the text generated as \"%s\" is no %s: \"%s\"", name, what, sgl_get(s, name));
        // It outlives the state.
        char *copy = sgl_allocate_(strlen(message) + 1);
        s->failure = sgl_note_("program", strcpy(copy, message), false);
    }
    return false;
}

SGL_API const char *sgl_trim_(const char *text, size_t *length) {
    while (*text && strchr(" \t\r\n", *text)) text++;
    for (*length = strlen(text); *length && strchr(" \t\r\n", text[*length - 1]);) --*length;
    return text;
}

SGL_API bool sgl_get_int(sgl_state *s, const char *name, int64_t *value) {
    size_t length;
    const char *text = sgl_trim_(sgl_get(s, name), &length);
    char *end;
    *value = strtoll(text, &end, 10);
    return (length && end == text + length) || sgl_no_such_(s, name, "integer");
}

SGL_API bool sgl_get_float(sgl_state *s, const char *name, double *value) {
    size_t length;
    const char *text = sgl_trim_(sgl_get(s, name), &length);
    char *end;
    *value = strtod(text, &end);
    return (length && end == text + length) || sgl_no_such_(s, name, "number");
}

SGL_API bool sgl_get_bool(sgl_state *s, const char *name, bool *value) {
    size_t length;
    const char *text = sgl_trim_(sgl_get(s, name), &length);
    *value = length == 4 && !strncmp(text, "true", 4);
    return *value || (length == 5 && !strncmp(text, "false", 5)) || sgl_no_such_(s, name, "truth value");
}

SGL_API const sgl_value *sgl_get_json(sgl_state *s, const char *name) {
    const char *text = sgl_get(s, name);
    const sgl_value *value = sgl_parse(text, strlen(text));
    if (!value) sgl_no_such_(s, name, "JSON");
    return value;
}

SGL_API const char *sgl_next_piece(sgl_state *s, const char *name) {
    sgl_pending_ *pending = sgl_find_(s, name);
    if (!pending || pending->drained) return NULL;
    if (pending->ended) {
        sgl_host_drop_stream_(pending->stream);
        pending->drained = true;
        return NULL;
    }
    if (!pending->streams) {
        sgl_result_ result = { 0 };
        sgl_host_call_text_(pending->call, &result);
        if (!sgl_done_(s, &result)) return NULL;
        pending->stream = (int32_t)result.as.value;
        pending->streams = true;
    }
    sgl_text_ piece;
    // How many were read, and in the lowest four bits whether the stream has ended; or that it is still to come.
    uint32_t read = sgl_host_stream_read_(pending->stream, &piece, 1);
    if (read == UINT32_MAX) {
        static int32_t set;
        uint32_t event[2];
        if (!set) set = sgl_host_new_set_();
        sgl_host_join_(pending->stream, set);
        sgl_host_wait_(set, event);
        sgl_host_join_(pending->stream, 0);
        read = event[1];
    }
    // The last piece may come with the end, after which nothing may be read any more.
    pending->ended = (read & 15) != 0;
    if (read >> 4 == 0) return sgl_next_piece(s, name);
    free(pending->piece);
    return pending->piece = (char *)piece.at;
}

SGL_API void sgl_cancel(sgl_state *s, const char *name) {
    sgl_pending_ *pending = sgl_find_(s, name);
    if (pending) sgl_host_call_cancel_(pending->call);
}

SGL_API const uint32_t *sgl_outcome_tokens(const sgl_outcome *o, size_t *count) {
    sgl_text_ list;
    sgl_host_outcome_tokens_(o->handle, &list);
    *count = list.length;
    return sgl_fetched_(o, (void *)list.at);
}

SGL_API const char *sgl_outcome_finish_reason(const sgl_outcome *o) {
    sgl_text_ text;
    sgl_host_outcome_finish_reason_(o->handle, &text);
    return sgl_fetched_(o, (char *)text.at);
}

SGL_API const char *sgl_outcome_matched(const sgl_outcome *o) {
    sgl_result_ option = { 0 };
    sgl_host_outcome_matched_(o->handle, &option);
    return option.tag ? sgl_fetched_(o, (char *)option.as.list.at) : NULL;
}

// Those of the host, as they are shown; both lists are kept.
SGL_API const sgl_logprob *sgl_logprobs_(sgl_kept_ *kept, sgl_text_ list, size_t *count) {
    const sgl_host_logprob_ *from = sgl_keep_(kept, (void *)list.at);
    sgl_logprob *to = sgl_keep_(kept, sgl_allocate_(list.length * sizeof *to));
    for (size_t i = 0; i < list.length; i++) {
        const char *bytes = sgl_keep_(kept, (char *)from[i].bytes.at);
        to[i] = (sgl_logprob){ from[i].token, bytes, from[i].bytes.length, from[i].logprob };
    }
    *count = list.length;
    return to;
}

SGL_API const sgl_logprob *sgl_outcome_logprobs(const sgl_outcome *o, size_t *count) {
    sgl_text_ list;
    sgl_host_outcome_logprobs_(o->handle, &list);
    return sgl_logprobs_(&((sgl_outcome *)o)->kept, list, count);
}

SGL_API const sgl_logprob *sgl_outcome_top_logprobs(const sgl_outcome *o, uint32_t position, size_t *count) {
    sgl_text_ list;
    sgl_host_outcome_top_logprobs_(o->handle, position, &list);
    return sgl_logprobs_(&((sgl_outcome *)o)->kept, list, count);
}

SGL_API uint32_t sgl_outcome_prompt_tokens(const sgl_outcome *o) { return sgl_host_outcome_prompt_tokens_(o->handle); }
SGL_API uint32_t sgl_outcome_cached_tokens(const sgl_outcome *o) { return sgl_host_outcome_cached_tokens_(o->handle); }
SGL_API uint32_t sgl_outcome_completion_tokens(const sgl_outcome *o) {
    return sgl_host_outcome_completion_tokens_(o->handle);
}
SGL_API uint32_t sgl_outcome_forced_tokens(const sgl_outcome *o) { return sgl_host_outcome_forced_tokens_(o->handle); }

SGL_API int64_t sgl_outcome_choice(const sgl_outcome *o) {
    sgl_result_ option = { 0 };
    sgl_host_outcome_choice_(o->handle, &option);
    return option.tag ? (int64_t)option.as.value : -1;
}

SGL_API const float *sgl_outcome_scores(const sgl_outcome *o, size_t *count) {
    sgl_text_ list;
    sgl_host_outcome_scores_(o->handle, &list);
    *count = list.length;
    return sgl_fetched_(o, (void *)list.at);
}

SGL_API const char *sgl_text(sgl_state *s) {
    sgl_result_ result = { 0 };
    if (s->failure) return NULL;
    sgl_host_text_(s->context, &result);
    return sgl_done_(s, &result) ? sgl_keep_(&s->kept, (char *)result.as.list.at) : NULL;
}

SGL_API int64_t sgl_token_count(sgl_state *s) {
    sgl_result_ result = { 0 };
    if (s->failure) return -1;
    sgl_host_token_count_(s->context, &result);
    return sgl_done_(s, &result) ? (int64_t)result.as.value : -1;
}

SGL_API bool sgl_truncate(sgl_state *s, uint32_t tokens) {
    sgl_result_ result = { 0 };
    if (s->failure) return false;
    sgl_host_truncate_(s->context, tokens, &result);
    return sgl_done_(s, &result);
}

SGL_API const sgl_logprob *sgl_score(sgl_state *s, const char *text, size_t *count) {
    sgl_result_ result = { 0 };
    *count = 0;
    if (s->failure) return NULL;
    sgl_host_score_(s->context, text, strlen(text), &result);
    return sgl_done_(s, &result) ? sgl_logprobs_(&s->kept, result.as.list, count) : NULL;
}

SGL_API const sgl_logprob *sgl_next_tokens(sgl_state *s, uint32_t wanted, size_t *count) {
    sgl_result_ result = { 0 };
    *count = 0;
    if (s->failure) return NULL;
    sgl_host_next_tokens_(s->context, wanted, &result);
    return sgl_done_(s, &result) ? sgl_logprobs_(&s->kept, result.as.list, count) : NULL;
}

// ------------------------------------------------------------------------------------------------------------- the run

// Remembers why a function without a state failed; who has such a function's answer has seen it.
SGL_API bool sgl_well_(const sgl_result_ *result) {
    sgl_last_failure_ = NULL;
    if (result->tag) {
        sgl_last_failure_ = sgl_note_result_(result);
        sgl_last_failure_->seen = true;
    }
    return !result->tag;
}

SGL_API bool sgl_emit(const char *channel, const char *data) {
    sgl_result_ result = { 0 };
    sgl_host_emit_(channel, strlen(channel), data, strlen(data), &result);
    return sgl_well_(&result);
}

SGL_API uint64_t sgl_tokens_left(void) { return sgl_host_tokens_left_(); }
SGL_API uint32_t sgl_contexts_left(void) { return sgl_host_contexts_left_(); }
SGL_API uint64_t sgl_milliseconds_left(void) { return sgl_host_milliseconds_left_(); }

SGL_API const char *const *sgl_models(void) {
    static const char **names;
    if (!names) {
        sgl_text_ list;
        sgl_host_models_(&list);
        const sgl_text_ *texts = (const sgl_text_ *)(const void *)list.at;
        names = sgl_allocate_((list.length + 1) * sizeof *names);
        for (size_t i = 0; i < list.length; i++) names[i] = texts[i].at;
    }
    return names;
}

SGL_API int64_t sgl_context_length(const char *model) {
    sgl_result_ result = { 0 };
    sgl_host_context_length_(model != NULL, model ? model : "", model ? strlen(model) : 0, &result);
    return sgl_well_(&result) ? (int64_t)result.as.value : -1;
}

SGL_API bool sgl_accepts_images(const char *model) {
    sgl_result_ result = { 0 };
    sgl_host_accepts_images_(model != NULL, model ? model : "", model ? strlen(model) : 0, &result);
    return sgl_well_(&result) && result.as.flag;
}

// ---------------------------------------------------------------------------------------------------------------- JSON

struct sgl_value {
    enum { SGL_IS_NULL_, SGL_IS_BOOL_, SGL_IS_NUMBER_, SGL_IS_STRING_, SGL_IS_LIST_, SGL_IS_OBJECT_ } kind;
    bool truth;
    double number;
    int64_t whole;
    char *string;
    // Of a list or an object; the latter's keys beside them.
    sgl_value *items;
    char **keys;
    size_t count;
};

// What is still to be read. `at` is NULL after a mistake.
typedef struct { const char *at, *end; } sgl_reader_;

SGL_API bool sgl_next_is_(sgl_reader_ *r, const char *text) {
    while (r->at && r->at < r->end && strchr(" \t\r\n", *r->at)) r->at++;
    size_t length = strlen(text);
    if (!r->at || (size_t)(r->end - r->at) < length || memcmp(r->at, text, length)) return false;
    r->at += length;
    return true;
}

SGL_API unsigned sgl_read_hex_(sgl_reader_ *r) {
    unsigned code = 0;
    for (int i = 0; i < 4; i++) {
        char c = r->at < r->end ? *r->at++ : 0;
        bool decimal = c >= '0' && c <= '9', letter = (c | 32) >= 'a' && (c | 32) <= 'f';
        if (!decimal && !letter) { r->at = NULL; return 0; }
        code = code * 16 + (unsigned)(decimal ? c - '0' : (c | 32) - 'a' + 10);
    }
    return code;
}

// The rest of a string after its first quote.
SGL_API char *sgl_read_string_(sgl_reader_ *r) {
    // An escape is never shorter than what it stands for.
    char *text = sgl_allocate_((size_t)(r->end - r->at) + 1), *to = text;
    while (r->at && r->at < r->end && *r->at != '"') {
        unsigned char c = (unsigned char)*r->at++;
        if (c < 0x20) { r->at = NULL; break; }
        if (c != '\\') { *to++ = (char)c; continue; }
        static const char escapes[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
        char escape = r->at < r->end ? *r->at++ : 0;
        if (escape != 'u') {
            size_t i = 0;
            while (i < sizeof escapes - 1 && escapes[i] != escape) i += 2;
            if (i >= sizeof escapes - 1) { r->at = NULL; break; }
            *to++ = escapes[i + 1];
            continue;
        }
        unsigned code = sgl_read_hex_(r);
        if (r->at && code >= 0xd800 && code < 0xdc00 && r->end - r->at >= 6 && r->at[0] == '\\' && r->at[1] == 'u') {
            r->at += 2;
            unsigned low = sgl_read_hex_(r);
            code = low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00) : 0xfffd;
        }
        // Half a character, and the zero byte, which ends texts here, are shown as what cannot be shown.
        if (code == 0 || (code >= 0xd800 && code < 0xe000)) code = 0xfffd;
        if (code < 0x80) { *to++ = (char)code; continue; }
        if (code < 0x800) *to++ = (char)(0xc0 | code >> 6);
        else {
            if (code < 0x10000) *to++ = (char)(0xe0 | code >> 12);
            else {
                *to++ = (char)(0xf0 | code >> 18);
                *to++ = (char)(0x80 | (code >> 12 & 0x3f));
            }
            *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        }
        *to++ = (char)(0x80 | (code & 0x3f));
    }
    if (!r->at || r->at == r->end) r->at = NULL;
    else r->at++;
    return sgl_resize_(text, (size_t)(to - text) + 1);
}

SGL_API sgl_value sgl_read_value_(sgl_reader_ *r, int depth) {
    sgl_value v = { .kind = SGL_IS_NULL_ };
    if (depth > 100) r->at = NULL;
    if (sgl_next_is_(r, "null")) return v;
    if (sgl_next_is_(r, "true")) return (sgl_value){ .kind = SGL_IS_BOOL_, .truth = true };
    if (sgl_next_is_(r, "false")) return (sgl_value){ .kind = SGL_IS_BOOL_ };
    if (sgl_next_is_(r, "\"")) return (sgl_value){ .kind = SGL_IS_STRING_, .string = sgl_read_string_(r) };
    bool object = sgl_next_is_(r, "{");
    if (object || sgl_next_is_(r, "[")) {
        v.kind = object ? SGL_IS_OBJECT_ : SGL_IS_LIST_;
        const char *closing = object ? "}" : "]";
        size_t room = 0;
        while (r->at && !sgl_next_is_(r, closing)) {
            if (v.count && !sgl_next_is_(r, ",")) { r->at = NULL; break; }
            if (v.count == room) {
                room = room ? 2 * room : 4;
                v.items = sgl_resize_(v.items, room * sizeof *v.items);
                v.keys = sgl_resize_(v.keys, room * sizeof *v.keys);
            }
            v.keys[v.count] = object && sgl_next_is_(r, "\"") ? sgl_read_string_(r) : NULL;
            if (object && (!v.keys[v.count] || !sgl_next_is_(r, ":"))) { r->at = NULL; break; }
            v.items[v.count] = sgl_read_value_(r, depth + 1);
            v.count++;
        }
        return v;
    }
    // A number. `strtod` takes more than JSON has, none of which begins so.
    char number[400];
    size_t length = 0;
    while (r->at && r->at + length < r->end && length < sizeof number - 1 && strchr("+-.eE0123456789", r->at[length])) {
        number[length] = r->at[length];
        length++;
    }
    number[length] = 0;
    char *end = number;
    v.kind = SGL_IS_NUMBER_;
    v.number = strtod(number, &end);
    v.whole = strpbrk(number, ".eE") ? (fabs(v.number) < 9.2e18 ? (int64_t)v.number : 0) : strtoll(number, NULL, 10);
    if (!length || end != number + length || number[0] == '+') r->at = NULL;
    else r->at += length;
    return v;
}

SGL_API const sgl_value *sgl_parse(const char *text, size_t length) {
    sgl_reader_ reader = { text, text + length };
    sgl_value *value = sgl_allocate_(sizeof *value);
    *value = sgl_read_value_(&reader, 0);
    sgl_next_is_(&reader, "");
    return reader.at == reader.end ? value : NULL;
}

SGL_API const char *sgl_string(const sgl_value *v) { return v && v->kind == SGL_IS_STRING_ ? v->string : NULL; }
SGL_API int64_t sgl_int(const sgl_value *v) { return v && v->kind == SGL_IS_NUMBER_ ? v->whole : 0; }
SGL_API double sgl_float(const sgl_value *v) { return v && v->kind == SGL_IS_NUMBER_ ? v->number : 0; }
SGL_API bool sgl_bool(const sgl_value *v) { return v && v->truth; }
SGL_API size_t sgl_count(const sgl_value *v) { return v ? v->count : 0; }
SGL_API const sgl_value *sgl_item(const sgl_value *v, size_t index) {
    return index < sgl_count(v) ? &v->items[index] : NULL;
}

SGL_API const sgl_value *sgl_at(const sgl_value *v, const char *name) {
    // The last of a name counts.
    for (size_t i = v && v->kind == SGL_IS_OBJECT_ ? v->count : 0; i--;) {
        if (!strcmp(v->keys[i], name)) return &v->items[i];
    }
    return NULL;
}

struct sgl_json {
    char *text;
    size_t length, room;
    // What ends each object and list that is open.
    char *closing;
    size_t depth, closing_room;
};

SGL_API void sgl_put_(sgl_json *json, const char *text, size_t length) {
    if (json->length + length + 1 > json->room) {
        json->room = 2 * (json->length + length + 1);
        json->text = sgl_resize_(json->text, json->room);
    }
    memcpy(json->text + json->length, text, length);
    json->text[json->length += length] = 0;
}

// A value comes: a comma before it, unless it is the first of its object or list, or comes after its key.
SGL_API void sgl_before_(sgl_json *json) {
    if (json->length && !strchr("{[:", json->text[json->length - 1])) sgl_put_(json, ",", 1);
}

SGL_API void sgl_write_raw(sgl_json *json, const char *text) {
    sgl_before_(json);
    sgl_put_(json, text, strlen(text));
}

SGL_API void sgl_open_(sgl_json *json, char opening, char closing) {
    sgl_before_(json);
    sgl_put_(json, &opening, 1);
    if (json->depth == json->closing_room) {
        json->closing_room = json->closing_room ? 2 * json->closing_room : 16;
        json->closing = sgl_resize_(json->closing, json->closing_room);
    }
    json->closing[json->depth++] = closing;
}

SGL_API void sgl_write_object(sgl_json *json) { sgl_open_(json, '{', '}'); }
SGL_API void sgl_write_list(sgl_json *json) { sgl_open_(json, '[', ']'); }

SGL_API void sgl_write_end(sgl_json *json) {
    if (!json->depth) sgl_panic("sgl_write_end: no object or list is open");
    sgl_put_(json, &json->closing[--json->depth], 1);
}

SGL_API void sgl_write_string(sgl_json *json, const char *text) {
    sgl_before_(json);
    sgl_put_(json, "\"", 1);
    for (; *text; text++) {
        char escaped[8];
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') snprintf(escaped, sizeof escaped, "\\%c", c);
        else if (c < 0x20) snprintf(escaped, sizeof escaped, "\\u%04x", c);
        else { escaped[0] = (char)c; escaped[1] = 0; }
        sgl_put_(json, escaped, strlen(escaped));
    }
    sgl_put_(json, "\"", 1);
}

SGL_API void sgl_write_key(sgl_json *json, const char *key) {
    sgl_write_string(json, key);
    sgl_put_(json, ":", 1);
}

SGL_API void sgl_write_int(sgl_json *json, int64_t value) {
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)value);
    sgl_write_raw(json, text);
}

SGL_API void sgl_write_float(sgl_json *json, double value) {
    char text[32];
    // The shortest that is read as the same; JSON has no infinity.
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    sgl_write_raw(json, isfinite(value) ? text : "null");
}

SGL_API void sgl_write_bool(sgl_json *json, bool value) { sgl_write_raw(json, value ? "true" : "false"); }
SGL_API void sgl_write_null(sgl_json *json) { sgl_write_raw(json, "null"); }

// ------------------------------------------------------------------------------------------------------------- exports

SGL_API const char *sgl_type_name_(sgl_type type) {
    static const char *const names[] = { NULL, "string", "integer", "number", "boolean", "array" };
    return names[type];
}

__attribute__((weak, export_name("describe"))) sgl_text_ *sgl_describe_(void) {
    const sgl_program *program = &sgl_this_program;
    sgl_json json = { 0 };
    sgl_write_object(&json);
    sgl_write_key(&json, "name");
    sgl_write_string(&json, program->name);
    sgl_write_key(&json, "description");
    sgl_write_string(&json, program->about);
    sgl_write_key(&json, "arguments");
    sgl_write_object(&json);
    sgl_write_key(&json, "type");
    sgl_write_string(&json, "object");
    sgl_write_key(&json, "properties");
    sgl_write_object(&json);
    for (size_t i = 0; i < program->argument_count; i++) {
        const sgl_argument *argument = &program->arguments[i];
        sgl_write_key(&json, argument->name);
        sgl_write_object(&json);
        if (argument->preset) {
            sgl_write_key(&json, "default");
            sgl_write_raw(&json, argument->preset);
        }
        if (argument->about) {
            sgl_write_key(&json, "description");
            sgl_write_string(&json, argument->about);
        }
        if (argument->type == SGL_STRINGS) {
            sgl_write_key(&json, "items");
            sgl_write_raw(&json, "{\"type\":\"string\"}");
        }
        if (argument->type != SGL_ANY) {
            sgl_write_key(&json, "type");
            sgl_write_string(&json, sgl_type_name_(argument->type));
        }
        sgl_write_end(&json);
    }
    sgl_write_end(&json);
    sgl_write_key(&json, "required");
    sgl_write_list(&json);
    for (size_t i = 0; i < program->argument_count; i++) {
        const sgl_argument *argument = &program->arguments[i];
        if (!argument->optional && !argument->preset) sgl_write_string(&json, argument->name);
    }
    sgl_write_end(&json);
    sgl_write_key(&json, "additionalProperties");
    sgl_write_bool(&json, false);
    sgl_write_end(&json);
    sgl_write_end(&json);
    static sgl_text_ description;
    description = (sgl_text_){ json.text, json.length };
    return &description;
}

// The arguments of a run, with presets in place of those that are missing or null.
SGL_API const sgl_value *sgl_arguments_of_(const char *text, size_t length) {
    const sgl_program *program = &sgl_this_program;
    const sgl_value *given = sgl_parse(text, length);
    sgl_value *all = sgl_allocate_(sizeof *all);
    all->kind = SGL_IS_OBJECT_;
    all->items = sgl_allocate_(program->argument_count * sizeof *all->items);
    all->keys = sgl_allocate_(program->argument_count * sizeof *all->keys);
    for (size_t i = 0; i < program->argument_count; i++) {
        const sgl_argument *argument = &program->arguments[i];
        const sgl_value *value = sgl_at(given, argument->name);
        if ((!value || value->kind == SGL_IS_NULL_) && argument->preset)
            value = sgl_parse(argument->preset, strlen(argument->preset));
        if (!value || (value->kind == SGL_IS_NULL_ && argument->type != SGL_ANY)) continue;
        all->items[all->count] = *value;
        all->keys[all->count++] = (char *)argument->name;
    }
    return all;
}

__attribute__((weak, export_name("run-program"))) sgl_result_ *sgl_run_(const char *text, size_t length) {
    static sgl_result_ ended;
    const sgl_value *arguments = sgl_arguments_of_(text, length);
    sgl_json json = { 0 };
    sgl_state *s = sgl_open(NULL);
    sgl_this_program.run(s, arguments, &json);
    // What nobody read must still be generated: it is part of the run's text and of its variables.
    if (!sgl_own_failure_) sgl_wait_for_all_(s);
    fflush(stdout);
    fflush(stderr);
    // What failed first, and nobody looked at: what the program made of it meanwhile follows from it.
    const sgl_failure_ *failure = sgl_first_failure_;
    while (failure && failure->seen) failure = failure->next;
    sgl_error error = failure ? failure->error : (sgl_error){ "program", sgl_own_failure_, false };
    if (error.message) {
        ended.tag = 1;
        ended.as.error.code = (sgl_text_){ error.code, strlen(error.code) };
        ended.as.error.message = (sgl_text_){ error.message, strlen(error.message) };
        ended.as.error.retryable = error.retryable;
        return &ended;
    }
    while (json.depth) sgl_write_end(&json);
    if (!json.length) sgl_write_null(&json);
    ended.as.list = (sgl_text_){ json.text, json.length };
    return &ended;
}

#endif
