// Calls every function of the contract and says what came of it; `../README.md` says how.
#include <assert.h>
#include <sglhost.h>

static const char SCHEMA[] = "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\", \"minimum\": 1, \"maximum\": 9}}, "
                             "\"required\": [\"a\"], \"additionalProperties\": false}";
static const char TAGS[] =
    "{\"structures\": [{\"begin\": \"<f>\", \"schema\": {\"const\": 7}, \"end\": \"</f>\"}], \"triggers\": [\"<f\"]}";

static sgl_json *lines;

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
    static char line[1 << 16];
    va_list values;
    va_start(values, format);
    vsnprintf(line, sizeof line, format, values);
    va_end(values);
    sgl_write_string(lines, line);
}

static long milli(double value) { return lround(value * 1000); }

// How an error is told.
static const char *told(const sgl_error *error) {
    static char text[4096];
    if (!error) return "";
    const char *retryable = error->retryable ? "true" : "false";
    snprintf(text, sizeof text, "%s: %s (retryable=%s)", error->code, error->message, retryable);
    return text;
}

static const char *shown_logprobs(const sgl_logprob *logprobs, size_t count) {
    static char text[1024];
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        length += (size_t)snprintf(text + length, sizeof text - length, "%s%u:%.*s:%ld", i ? " " : "",
                                   logprobs[i].token, (int)logprobs[i].length, logprobs[i].bytes, milli(logprobs[i].logprob));
    }
    return text;
}

static void host(void) {
    static char names[256];
    for (const char *const *name = sgl_models(); *name; name++) {
        if (*names) strcat(names, ", ");
        strcat(names, *name);
    }
    say("models: %s", names);
    say("context length: %lld %lld", sgl_context_length(NULL), sgl_context_length("scripted"));
    say("images: %s", sgl_accepts_images(NULL) ? "true" : "false");
    sgl_context_length("nobody");
    say("no such model: %s", told(sgl_last_error()));
    uint64_t tokens = sgl_tokens_left();
    uint32_t contexts = sgl_contexts_left();
    sgl_state *other = sgl_open("scripted");
    sgl_append(other, "abc");
    sgl_gen(other, "x", .max_tokens = 5, .temperature = 0);
    say("another state: %s", sgl_get(other, "x"));
    say("tokens used: %llu, contexts used: %u", tokens - sgl_tokens_left(), contexts - sgl_contexts_left());
    sgl_close(other);
    say("contexts used after: %u", contexts - sgl_contexts_left());
    say("time left: %s", sgl_milliseconds_left() > 0 ? "true" : "false");
    sgl_emit("note", "hello");
}

static void prompts(sgl_state *s, const char *topic) {
    sgl_state *f = sgl_fork(s);
    sgl_system(f, "Be brief.");
    sgl_user(f, sgl_format(f, "About %s: é🙂", topic));
    sgl_role(f, "tool", "42");
    sgl_user_block(f) sgl_append(f, "in a block");
    sgl_assistant_begin(f);
    sgl_append(f, "plain <|end|> ");
    sgl_append_markup(f, "marked<|end|>");
    sgl_append_tokens(f, (uint32_t[]){ 65, 66 }, 2);
    sgl_assistant_end(f);
    say("text: %s", sgl_text(f));
    say("tokens: %lld", sgl_token_count(f));
    sgl_close(f);
}

// What a call on a copy of the state says.
static void say_call_with(sgl_state *s, const char *label, const char *prompt, sgl_options options) {
    sgl_state *f = sgl_fork(s);
    sgl_append(f, prompt);
    sgl_gen_with(f, "x", options);
    const sgl_outcome *o = sgl_outcome_of(f, "x");
    if (o) {
        sgl_json quoted = { 0 };
        sgl_write_string(&quoted, sgl_outcome_text(o));
        const char *matched = sgl_outcome_matched(o);
        say("%s: %s %s matched=%s prompt=%u tokens=%u forced=%u", label, quoted.text, sgl_outcome_finish_reason(o),
            matched ? matched : "none", sgl_outcome_prompt_tokens(o), sgl_outcome_completion_tokens(o),
            sgl_outcome_forced_tokens(o));
    } else {
        say("%s: %s", label, told(sgl_error_of(f)));
    }
    sgl_close(f);
}

// Options are set anew where they are given again.
#define CALL(s, label, prompt, ...) \
    say_call_with(s, label, prompt, (sgl_options){ SGL_UNSET_OPTIONS_, __VA_ARGS__ })
// Always the likeliest letter.
#define X(label, ...) CALL(s, label, "options", .max_tokens = 8, .temperature = 0 __VA_OPT__(,) __VA_ARGS__)
// The scripted model says something else for each.
#define Y(label, ...) CALL(s, label, "options", .max_tokens = 4, .temperature = 1, .seed = 7 __VA_OPT__(,) __VA_ARGS__)

static const char *part_of(sgl_state *s, const char *text, int from, int to) {
    return sgl_format(s, "%.*s", to - from, text + from);
}

static void options(sgl_state *s) {
    sgl_state *f = sgl_fork(s);
    sgl_append(f, "options");
    sgl_gen(f, "x", .max_tokens = 8, .temperature = 0);
    const sgl_outcome *o = sgl_outcome_of(f, "x");
    size_t count;
    const char *letters = sgl_outcome_text(o);
    const uint32_t *tokens = sgl_outcome_tokens(o, &count);
    char all[256] = "";
    for (size_t i = 0; i < count; i++) sprintf(all + strlen(all), " %u", tokens[i]);
    say("eight letters: %s%s", letters, all);
    sgl_gen(f, "x", .max_tokens = 8, .temperature = 0);
    say("again, cached: %u", sgl_outcome_cached_tokens(sgl_outcome_of(f, "x")));
    X("max_tokens 0", .max_tokens = 0);
    X("seed", .temperature = 1, .seed = 7);
    X("stop", .stop = SGL_TEXTS(part_of(s, letters, 3, 5)));
    X("stop, one of two", .stop = SGL_TEXTS("#", part_of(s, letters, 2, 4)));
    X("stop kept", .stop = SGL_TEXTS(part_of(s, letters, 3, 5)), .no_stop_trim = true);
    X("stop token", .stop_tokens = &tokens[4], .stop_token_count = 1);
    X("stop token after", .stop_tokens = &tokens[1], .stop_token_count = 1, .min_tokens = 4);
    X("stop regex", .stop_regex = SGL_TEXTS(sgl_format(s, "%c.", letters[4])));
    Y("another seed", .seed = 8);
    Y("top_p", .top_p = 0.5f);
    Y("top_k", .top_k = 5);
    Y("min_p", .min_p = 0.25f);
    Y("frequency_penalty", .frequency_penalty = 0.5f);
    Y("presence_penalty", .presence_penalty = -0.5f);
    Y("repetition_penalty", .repetition_penalty = 1.5f);
    Y("logit_bias", .logit_bias = (sgl_bias[]){ { 97, -1 }, { 98, 2 } }, .logit_bias_count = 2);
    Y("the end is text", .ignore_eos = true, .skip_special_tokens = false);
    sgl_close(f);
    f = sgl_fork(s);
    sgl_append(f, "options");
    sgl_gen(f, "x", .max_tokens = 2, .temperature = 0, .top_logprobs = 2);
    o = sgl_outcome_of(f, "x");
    const sgl_logprob *logprobs = sgl_outcome_logprobs(o, &count);
    say("logprobs: %s", shown_logprobs(logprobs, count));
    logprobs = sgl_outcome_top_logprobs(o, 1, &count);
    say("top logprobs: %s", shown_logprobs(logprobs, count));
    sgl_close(f);
}

// A value that is refused tells that it arrived.
#define WRONG(name, ...) CALL(s, "wrong " name, "wrong", .max_tokens = 1, __VA_ARGS__)

static void wrong_options(sgl_state *s) {
    WRONG("temperature", .temperature = -1.5f);
    WRONG("top_p", .top_p = 1.5f);
    WRONG("top_k", .top_k = -2);
    WRONG("min_p", .min_p = 1.5f);
    WRONG("frequency_penalty", .frequency_penalty = 2.5f);
    WRONG("presence_penalty", .presence_penalty = -2.5f);
    WRONG("repetition_penalty", .repetition_penalty = 4);
    WRONG("stop_regex", .stop_regex = SGL_TEXTS("("));
    WRONG("logit_bias", .logit_bias = &(sgl_bias){ 1000, 1 }, .logit_bias_count = 1);
    WRONG("top_logprobs", .top_logprobs = 1000);
    WRONG("regex", .regex = "(");
    WRONG("json_schema", .json_schema = "{\"type\": 7}");
    WRONG("lark", .lark = "begin: \"x\"");
    WRONG("structural_tag", .structural_tag = "{}");
    WRONG("choices", .one_of = SGL_TEXTS());
    sgl_state *f = sgl_fork(s);
    sgl_append(f, "wrong");
    sgl_select(f, "x", SGL_TEXTS());
    sgl_outcome_of(f, "x");
    say("wrong no choices: %s", told(sgl_error_of(f)));
    sgl_close(f);
}

#define Z(label, ...) CALL(s, label, "constraints", .max_tokens = 24, .temperature = 0, __VA_ARGS__)

static void constraints(sgl_state *s) {
    Z("regex", .regex = "[0-9]{3}-[a-f]{2}");
    Z("choices", .one_of = SGL_TEXTS("red", "green"));
    Z("json_schema", .json_schema = SCHEMA);
    Z("lark", .lark = "start: \"<\" /[0-9]/ \">\"");
    Z("structural_tag", .structural_tag = TAGS, .stop = SGL_TEXTS("</f>"), .max_tokens = 6);
    Z("int", .type = SGL_INT);
    Z("float", .type = SGL_FLOAT);
    Z("bool", .type = SGL_BOOL);
    Z("string", .type = SGL_STRING);
    sgl_state *f = sgl_fork(s);
    sgl_append(f, "typed");
    sgl_gen(f, "x", .max_tokens = 24, .temperature = 0, .json_schema = SCHEMA);
    int64_t a = sgl_int_at(sgl_get_json(f, "x"), "a"), number = 0;
    sgl_append(f, " ");
    sgl_gen(f, "x", .max_tokens = 24, .temperature = 0, .regex = "[1-9]{2}");
    sgl_get_int(f, "x", &number);
    say("typed: %lld %lld", a, number);
    sgl_close(f);
}

static void streams(sgl_state *s) {
    sgl_state *f = sgl_fork(s);
    sgl_append(f, "streams");
    sgl_gen(f, "x", .max_tokens = 12, .temperature = 0);
    sgl_append(f, "!");
    char all[64] = "";
    for (const char *piece; (piece = sgl_next_piece(f, "x"));) strcat(all, piece);
    say("stream: %s %s", all, strcmp(all, sgl_get(f, "x")) ? "false" : "true");
    sgl_close(f);
}

static void selects(sgl_state *s) {
    const char *names[] = { "token length", "greedy", "unconditional" };
    const char *methods[] = { "token-length-normalized", "greedy-token-selection", "unconditional-likelihood-normalized" };
    for (int i = 0; i < 3; i++) {
        sgl_state *f = sgl_fork(s);
        sgl_append(f, "selects 0 ");
        sgl_select(f, "x", SGL_TEXTS("rare", "red", "ruby", "ready"), .choices_method = methods[i]);
        const sgl_outcome *o = sgl_outcome_of(f, "x");
        size_t count;
        const float *scores = sgl_outcome_scores(o, &count);
        char all[128] = "";
        for (size_t j = 0; j < count; j++) sprintf(all + strlen(all), " %ld", milli(scores[j]));
        say("select by %s: %s %lld%s", names[i], sgl_outcome_text(o), sgl_outcome_choice(o), all);
        sgl_close(f);
    }
}

static void forks(sgl_state *s) {
    sgl_state *f = sgl_fork(s), *forks[3];
    sgl_append(f, "forks ");
    for (int i = 0; i < 3; i++) {
        forks[i] = sgl_fork(f);
        sgl_appendf(forks[i], "%d", i);
        sgl_gen(forks[i], "x", .max_tokens = 4, .temperature = 0);
    }
    sgl_append(f, "then");
    sgl_gen(f, "y", .max_tokens = 4, .temperature = 0);
    const char *said[] = { sgl_get(forks[0], "x"), sgl_get(forks[1], "x"), sgl_get(forks[2], "x") };
    say("forks: %s %s %s %s", said[0], said[1], said[2], sgl_get(f, "y"));
    say("a fork's text: %s", sgl_text(forks[2]));
    sgl_state *copy = sgl_fork(f);
    say("a fork knows: %s", strcmp(sgl_get(copy, "y"), sgl_get(f, "y")) ? "false" : "true");
    sgl_close(copy);
    for (int i = 0; i < 3; i++) sgl_close(forks[i]);
    sgl_close(f);
}

static void queued(sgl_state *s) {
    sgl_state *f = sgl_fork(s);
    sgl_append(f, "queued ");
    sgl_gen(f, "a", .max_tokens = 3, .temperature = 0);
    sgl_append(f, " and ");
    sgl_gen(f, "b", .max_tokens = 3, .temperature = 0);
    sgl_append(f, ".");
    sgl_gen(f, "a", .max_tokens = 3, .temperature = 0);
    const char *b = sgl_get(f, "b"), *a = sgl_get(f, "a");
    say("queued: %s %s %s", b, a, sgl_text(f));
    sgl_close(f);
}

static void tokens(sgl_state *s) {
    sgl_state *f = sgl_fork(s);
    size_t count;
    sgl_append(f, "tokens");
    const sgl_logprob *logprobs = sgl_next_tokens(f, 3, &count);
    say("next: %s", shown_logprobs(logprobs, count));
    logprobs = sgl_score(f, "abc", &count);
    say("score: %s", shown_logprobs(logprobs, count));
    say("as before: %lld", sgl_token_count(f));
    sgl_truncate(f, 3);
    const char *text = sgl_text(f);
    say("cut: %s %lld", text, sgl_token_count(f));
    sgl_close(f);
}

static void say_error(const char *label, sgl_state *f) {
    const sgl_error *error = sgl_sync(f);
    int64_t count = error ? -1 : sgl_token_count(f);
    if (count >= 0) say("%s: %lld", label, count);
    else say("%s: %s", label, told(sgl_error_of(f)));
    sgl_close(f);
}

static void errors(sgl_state *s) {
    sgl_state *f = sgl_fork(s);
    for (int i = 0; i < 500; i++) sgl_append(f, "0123456789");
    sgl_gen(f, "x");
    say_error("too long", f);
    f = sgl_fork(s);
    sgl_append_image(f, "\0\0\0\0", 4);
    say_error("image", f);
    f = sgl_fork(s);
    sgl_role_end(f);
    say_error("end of no role", f);
    f = sgl_fork(s);
    sgl_append_tokens(f, (uint32_t[]){ 100000 }, 1);
    say_error("no such token", f);
    f = sgl_fork(s);
    sgl_truncate(f, 1000);
    say("cut to more: %s", told(sgl_error_of(f)));
    sgl_close(f);
}

static void cancelled(sgl_state *s) {
    sgl_state *f = sgl_fork(s);
    sgl_append(f, "cancelled");
    sgl_gen(f, "x", .max_tokens = 3000);
    bool first = sgl_next_piece(f, "x") != NULL;
    sgl_cancel(f, "x");
    const sgl_outcome *o = sgl_outcome_of(f, "x");
    say("cancelled: %s %s", first ? "true" : "false", o ? sgl_outcome_finish_reason(o) : sgl_error_of(f)->code);
    sgl_close(f);
    f = sgl_fork(s);
    sgl_append(f, "dropped");
    sgl_gen(f, "x", .max_tokens = 3000);
    sgl_close(f);
    say("dropped");
}

// Long calls, all started before the first is read.
static void slow(sgl_state *s, int calls, sgl_json *result) {
    sgl_state *forks[4];
    int64_t length = 0;
    for (int i = 0; i < calls; i++) {
        forks[i] = sgl_fork(s);
        sgl_appendf(forks[i], "%d", i);
        sgl_gen(forks[i], "x", .max_tokens = 40, .temperature = 0);
    }
    for (int i = 0; i < calls; i++) length += (int64_t)strlen(sgl_get(forks[i], "x"));
    sgl_write_int(result, length);
}

// Uses up what the run may use, and says how that ended.
static void budget(sgl_state *s, sgl_json *result) {
    for (int i = 0; i < 1000; i++) {
        sgl_append(s, "more ");
        sgl_gen(s, "x", .max_tokens = 20);
        if (sgl_outcome_of(s, "x")) continue;
        const sgl_error *error = sgl_error_of(s);
        sgl_write_string(result, sgl_format(s, "%s: %s", error->code, error->message));
        return;
    }
    sgl_write_string(result, "no end");
}

static volatile int deepest;

__attribute__((noinline)) static int recurse(int depth) {
    volatile int room[64] = { depth };
    deepest = depth;
    return depth < 0 ? 0 : recurse(depth + 1) + room[7];
}

SGL_PROGRAM(every_function, "Calls every function of the contract.",
    { "topic", SGL_STRING, .about = "What it talks about." },
    { "part", SGL_STRING, .about = "What to do instead.", .preset = "\"all\"" },
    { "count", SGL_INT, .preset = "3" },
    { "ratio", SGL_FLOAT, .preset = "0.5" },
    { "loud", SGL_BOOL, .preset = "false" },
    { "words", SGL_STRINGS, .about = "Said one after the other.", .optional = true },
    { "note", SGL_STRING, .optional = true }) {
    const char *topic = sgl_string_at(arguments, "topic"), *part = sgl_string_at(arguments, "part");
    if (!strcmp(part, "one")) { slow(s, 1, result); return; }
    if (!strcmp(part, "four")) { slow(s, 4, result); return; }
    if (!strcmp(part, "budget")) { budget(s, result); return; }
    if (!strcmp(part, "unread")) { sgl_gen(s, "unread", .top_p = 2); return; }
    if (!strcmp(part, "own error")) { sgl_fail("no %s left", topic); return; }
    if (!strcmp(part, "panic")) sgl_panic("the %s is cold", topic);
    if (!strcmp(part, "assert")) assert(topic == part);
    if (!strcmp(part, "abort")) abort();
    if (!strcmp(part, "exit")) exit(3);
    if (!strcmp(part, "trap")) __builtin_trap();
    if (!strcmp(part, "recurse")) { sgl_write_int(result, recurse(1)); return; }
    sgl_write_object(result);
    sgl_write_key(result, "lines");
    sgl_write_list(result);
    lines = result;
    char words[256] = "none";
    const sgl_value *list = sgl_at(arguments, "words");
    for (size_t i = 0; i < sgl_count(list); i++) {
        if (i) strcat(words, "+");
        else *words = 0;
        strcat(words, sgl_string(sgl_item(list, i)));
    }
    const char *note = sgl_string_at(arguments, "note");
    say("arguments: topic=%s count=%lld ratio=%ld loud=%s words=%s note=%s", topic, sgl_int_at(arguments, "count"),
        milli(sgl_float_at(arguments, "ratio")), sgl_bool_at(arguments, "loud") ? "true" : "false", words,
        note ? note : "none");
    host();
    prompts(s, topic);
    options(s);
    wrong_options(s);
    constraints(s);
    streams(s);
    selects(s);
    forks(s);
    queued(s);
    tokens(s);
    errors(s);
    cancelled(s);
}
