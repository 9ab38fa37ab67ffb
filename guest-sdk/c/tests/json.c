// The header's JSON, and the description that it makes, on this machine: cc -Wall -Wextra -Werror -I../sglhost json.c -lm
#include <assert.h>
#include <sglhost.h>

SGL_PROGRAM(json, "Says \"hello\".",
    { "question", SGL_STRING, .about = "What to ask." },
    { "words", SGL_STRINGS, .optional = true },
    { "count", SGL_INT, .preset = "3" },
    { "any", SGL_ANY, .optional = true }) {}

static const sgl_value *parse(const char *text) { return sgl_parse(text, strlen(text)); }

int main(void) {
    const sgl_value *v = parse(" {\"a\": [1, -2.5e1, true, null, \"\\u00e9\\ud83d\\ude42\\n\\\"\"], \"b\": {}, \"a2\": 9007199254740993} ");
    assert(v && sgl_count(v) == 3 && sgl_count(sgl_at(v, "a")) == 5);
    assert(sgl_int(sgl_item(sgl_at(v, "a"), 0)) == 1 && sgl_int(sgl_item(sgl_at(v, "a"), 1)) == -25);
    assert(sgl_float(sgl_item(sgl_at(v, "a"), 1)) == -25 && sgl_bool(sgl_item(sgl_at(v, "a"), 2)));
    assert(!strcmp(sgl_string(sgl_item(sgl_at(v, "a"), 4)), "é🙂\n\""));
    assert(sgl_int_at(v, "a2") == 9007199254740993);
    assert(!sgl_at(v, "c") && !sgl_string_at(v, "b") && !sgl_int(NULL) && !sgl_item(v, 9));
    assert(!strcmp(sgl_string(parse("\"\\u0000\\ud800x\"")), "\xef\xbf\xbd\xef\xbf\xbdx"));
    static const char *const wrong[] = { "", "{", "[1", "[1,]", "{\"a\"}", "{\"a\":1,}", "\"a", "\"\\x\"", "\"\\u12\"", "01x",
                                         "+1", "nul", "1 2", "\"\n\"", "--1", "NaN", "[1 2]" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (parse(wrong[i])) sgl_panic("%s is taken for JSON", wrong[i]);
    }
    char deep[2001];
    memset(deep, '[', 1000);
    memset(deep + 1000, ']', 1000);
    deep[2000] = 0;
    assert(!parse(deep));

    sgl_json json = { 0 };
    sgl_write_object(&json);
    sgl_write_key(&json, "a\"\n");
    sgl_write_list(&json);
    sgl_write_int(&json, INT64_MIN);
    sgl_write_float(&json, 0.1);
    sgl_write_float(&json, 1e300 * 1e300);
    sgl_write_bool(&json, true);
    sgl_write_string(&json, "é, [");
    sgl_write_list(&json);
    sgl_write_end(&json);
    sgl_write_null(&json);
    sgl_write_end(&json);
    sgl_write_end(&json);
    assert(!strcmp(json.text, "{\"a\\\"\\u000a\":[-9223372036854775808,0.1,null,true,\"é, [\",[],null]}"));
    assert(parse(json.text));

    const sgl_text_ *description = sgl_describe_();
    static const char expect[] =
        "{\"name\":\"json\",\"description\":\"Says \\\"hello\\\".\",\"arguments\":{\"type\":\"object\",\"properties\":{"
        "\"question\":{\"description\":\"What to ask.\",\"type\":\"string\"},"
        "\"words\":{\"items\":{\"type\":\"string\"},\"type\":\"array\"},\"count\":{\"default\":3,\"type\":\"integer\"},\"any\":{}},"
        "\"required\":[\"question\"],\"additionalProperties\":false}}";
    assert(description->length == strlen(expect) && !memcmp(description->at, expect, description->length));

    const sgl_value *arguments = sgl_arguments_of_("{\"question\": \"Why?\", \"words\": null, \"count\": null}", 50);
    assert(!strcmp(sgl_string_at(arguments, "question"), "Why?") && sgl_int_at(arguments, "count") == 3);
    assert(!sgl_at(arguments, "words") && !sgl_at(arguments, "any"));
    return 0;
}
