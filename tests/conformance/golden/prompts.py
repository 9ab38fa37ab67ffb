"""The texts that golden values are computed on. Changing one means running make.py again.

`CHATS` are conversations for the model's chat template, `PLAIN` is text as it is. Prose is out of copyright (Carroll
1865, Austen 1813, Melville 1851, Lincoln 1863, Darwin 1859), the rest was written for this file.
"""

CHATS = {
    "capital": [("user", "What is the capital of France?")],
    "own_system": [
        ("system", "You are a pirate. Answer in one short sentence."),
        ("user", "How do I get from Bristol to Jamaica?"),
    ],
    "multi_turn": [
        ("user", "Name a fruit."),
        ("assistant", "Apple."),
        ("user", "Another one, please, and say why you like it."),
    ],
    "python": [("user", "Write a Python function that returns the n-th Fibonacci number, with a docstring.")],
    "json": [("user", 'Fill in this JSON with a made-up wizard: {"name": , "house": , "age": , "spells": []}')],
    "translate": [("user", "Translate to German: The early bird catches the worm, but the second mouse gets the cheese.")],
    "arithmetic": [("user", "A train leaves at 14:35 and arrives at 17:10. How many minutes does the journey take?")],
    "unicode": [("user", "Was heißt „Straßenüberführung“ auf Englisch? Und 桜が咲く? 🌸🚂")],
    "list": [("user", "Give me five tips for staying healthy. Number them.")],
    "summary": [
        ("system", "Summarize what the user sends in two sentences."),
        (
            "user",
            "Glaciers are rivers of ice. Snow that falls in winter and does not melt in summer is buried by the snow "
            "of the following years, pressed into firn and then into ice, and flows slowly downhill under its own "
            "weight. Where a glacier ends, its ice melts as fast as it arrives; when summers grow warmer the end "
            "retreats up the valley, and what it carried is left behind as a wall of rubble called a moraine.",
        ),
    ],
}

PLAIN = {
    "one_word": "The",
    "alice": (
        "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do: once "
        "or twice she had peeped into the book her sister was reading, but it had no pictures or conversations in it, "
        "“and what is the use of a book,” thought Alice “without pictures or conversations?”\n\nSo she was considering "
        "in her own mind (as well as she could, for the hot day made her feel very sleepy and stupid), whether the "
        "pleasure of making a daisy-chain would be worth the trouble of getting up and picking the daisies, when "
        "suddenly a White Rabbit with pink eyes ran close by her.\n\nThere was nothing so very remarkable in that; nor "
        "did Alice think it so very much out of the way to hear the Rabbit say to itself, “Oh dear! Oh dear! I shall "
        "be late!” (when she thought it over afterwards, it occurred to her that she ought to have wondered at this, "
        "but at the time it all seemed quite natural); but when the Rabbit actually took a watch out of its "
        "waistcoat-pocket, and looked at it, and then hurried on, Alice started to her feet, for it flashed across her "
        "mind that she had never before seen a rabbit with either a waistcoat-pocket, or a watch to take out of it,"
    ),
    "austen": (
        "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of "
        "a wife.\n\nHowever little known the feelings or views of such a man may be on his first entering a "
        "neighbourhood, this truth is so well fixed in the minds of the surrounding families, that he is considered as "
        "the rightful property of some one or other of their daughters.\n\n“My dear Mr. Bennet,” said his lady to him "
        "one day, “have you heard that Netherfield Park is let at last?”"
    ),
    "melville": (
        "Call me Ishmael. Some years ago—never mind how long precisely—having little or no money in my purse, and "
        "nothing particular to interest me on shore, I thought I would sail about a little and see the watery part of "
        "the world. It is a way I have of driving off the spleen and regulating the circulation. Whenever I find "
        "myself growing grim about the mouth; whenever it is a damp, drizzly November in my soul; whenever I find "
        "myself involuntarily pausing before coffin warehouses, and bringing up the rear of every funeral I meet;"
    ),
    "lincoln": (
        "Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in "
        "Liberty, and dedicated to the proposition that all men are created equal.\n\nNow we are engaged in a great "
        "civil war, testing whether that nation, or any nation so conceived and so dedicated, can long endure."
    ),
    "darwin": (
        "When on board H.M.S. “Beagle,” as naturalist, I was much struck with certain facts in the distribution of the "
        "inhabitants of South America, and in the geological relations of the present to the past inhabitants of that "
        "continent. These facts seemed to me to throw some light on the origin of species—that mystery of mysteries, "
        "as it has been called by one of our greatest philosophers."
    ),
    "rust_code": (
        "/// Returns the index of the first element that is not less than `target`.\n"
        "fn lower_bound(values: &[u32], target: u32) -> usize {\n"
        "    let (mut low, mut high) = (0, values.len());\n"
        "    while low < high {\n"
        "        let middle = low + (high - low) / 2;\n"
        "        if values[middle] < target {\n"
        "            low = middle + 1;\n"
        "        } else {\n"
    ),
    "c_code": (
        "#include <stdio.h>\n#include <string.h>\n\nint main(int argc, char **argv) {\n\tfor (int i = 1; i < argc; i++) "
        '{\n\t\tprintf("%d: %s (%zu bytes)\\n", i, argv[i], strlen(argv[i]));\n\t}\n'
    ),
    "html": '<!DOCTYPE html>\n<html lang="en">\n<head>\n  <meta charset="utf-8">\n  <title>Weather</title>\n</head>\n<body>\n  <h1>',
    "json_data": '[{"id": 1, "name": "Ada", "born": 1815}, {"id": 2, "name": "Grace", "born": 1906}, {"id": 3, "name": "',
    "numbers": "1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597,",
    "french": "La pomme de terre fut longtemps regardée avec méfiance en Europe; on la disait malsaine. C'est Parmentier qui",
    "mixed_scripts": "Привет, мир! Γειά σου Κόσμε! こんにちは世界! 안녕하세요! مرحبا بالعالم! नमस्ते दुनिया! Hello",
    "markdown": "# Shopping list\n\n| item | price |\n| --- | ---: |\n| bread | 2.50 |\n| milk | 1.20 |\n| eggs |",
}

# Greedy continuations are recorded for these, 64 tokens each; the rest only has its prompt compared.
GREEDY = [
    "capital", "own_system", "multi_turn", "python", "json", "translate", "arithmetic", "unicode", "list", "summary",
    "alice", "austen", "melville", "lincoln", "darwin", "rust_code", "c_code", "html", "numbers", "french",
]

# Texts whose token ids the GGUF-derived tokenizer must reproduce, besides the prompts above.
TOKENIZER = [
    "", " ", "  ", "\n", "\n\n", " \n ", "\t", "\r\n", "a", " a", "a ", "  two  spaces  ", "0", "10", "1234567890",
    "3.14159", "1,000,000", "v1.2.3-rc4", "2026-11-22T09:30:00Z", "½ ² ٣ ४ 五", "I'm you're we'll they'd I've it's",
    "don't DON'T Don’t", "'s 'S 't", "hello world", "Hello, World!", "HELLOworld", "snake_case camelCase kebab-case",
    "https://example.org/a?b=c&d=%20#e", "user@example.org", "a+b=c; (x)[y]{z} <tag/>", "!!!???...", "—–-“”‘’…",
    "naïve café", "nai\u0308ve cafe\u0301", "Straßenüberführung", "İstanbul ıssız", "Ελληνικά", "Русский язык",
    "中文字符 と 日本語", "한국어", "العربية", "עברית", "हिन्दी", "ไทย", "👩‍👩‍👧‍👦 🏳️‍🌈 🇫🇷", "\u200b\u200d\ufeff", "\u00a0nbsp\u3000wide",
    "tab\tseparated\tvalues", "    indented\n        more", "trailing newline\n", "x" * 100, " " * 40, "\n" * 9, "=" * 70,
    "\x00\x01\x7f", "\U0010ffff", "fi ﬁ Å Å", "<|im_start|>user\nHi<|im_end|>\n", "<|endoftext|>",
    "a<|im_end|>b", "<|im_start|>", "<|im_start", "|im_end|>", " <|im_end|> ", "<|im_start|><|im_end|><|endoftext|>",
    "<repo_name>x<file_sep>y<filename>z<gh_stars>10<jupyter_start>", "def f(x):\n\treturn x**2  # comment\n",
    "SELECT * FROM t WHERE a = 'b' AND c <> 1;", "\\n \\t \\u0041", "a\u0000b",
]
