"""Calls every function of the contract and says what came of it; `../README.md` says how."""

import asyncio
import json
import math
import os
import sys
from functools import partial

from sglhost import (
    Constraint,
    SglError,
    State,
    accepts_images,
    context_length,
    contexts_left,
    emit,
    function,
    gen,
    greedy_token_selection,
    image,
    markup,
    milliseconds_left,
    models,
    role_end,
    select,
    token_length_normalized,
    tokens,
    tokens_left,
    unconditional_likelihood_normalized,
    user,
)

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["a"],
    "additionalProperties": False,
}
TAGS = {"structures": [{"begin": "<f>", "schema": {"const": 7}, "end": "</f>"}], "triggers": ["<f"]}


@function
async def every_function(
    s,
    topic: str,
    part: str = "all",
    count: int = 3,
    ratio: float = 0.5,
    loud: bool = False,
    words: list[str] | None = None,
    note: str | None = None,
):
    """Calls every function of the contract.

    Args:
        topic: What it talks about.
        part: What to do instead.
        words: Said one after the other.
    """
    if part == "one":
        return await slow(s, 1)
    if part == "four":
        return await slow(s, 4)
    if part == "budget":
        return await budget(s)
    if part == "unread":
        s += gen("unread", top_p=2.0)
        return None
    if part == "own error":
        raise SglError(f"no {topic} left")
    if part == "panic":
        raise ValueError(f"the {topic} is cold")
    if part == "exit":
        sys.exit(3)
    if part == "trap":
        os.abort()
    if part == "recurse":
        return recurse(1)
    lines: list[str] = []
    say = lines.append
    said = "none" if words is None else "+".join(words)
    say(
        f"arguments: topic={topic} count={count} ratio={milli(ratio)} loud={str(loud).lower()} words={said}"
        f" note={note or 'none'}"
    )
    # From here on as a program is written that is a plain `def`: what waits waits where it stands.
    s = State()
    host(say)
    prompts(s, topic, say)
    options(s, say)
    wrong_options(s, say)
    constraints(s, say)
    streams(s, say)
    selects(s, say)
    forks(s, say)
    queued(s, say)
    tokens_of(s, say)
    errors(s, say)
    cancelled(s, say)
    return {"lines": lines}


def host(say):
    say(f"models: {', '.join(models())}")
    say(f"context length: {context_length()} {context_length('scripted')}")
    say(f"images: {str(accepts_images()).lower()}")
    say(f"no such model: {shown(lambda: context_length('nobody'))}")
    tokens_before, contexts_before = tokens_left(), contexts_left()
    other = State("scripted")
    other += "abc" + gen("x", max_tokens=5, temperature=0)
    say(f"another state: {other['x']}")
    say(f"tokens used: {tokens_before - tokens_left()}, contexts used: {contexts_before - contexts_left()}")
    other.close()
    say(f"contexts used after: {contexts_before - contexts_left()}")
    say(f"time left: {str(milliseconds_left() > 0).lower()}")
    emit("note", "hello")


def prompts(s, topic, say):
    f = s.copy()
    f.system("Be brief.")
    f += user(f"About {topic}: " + "é🙂")
    f.role("tool", "42")
    with f.user():
        f += "in a block"
    with f.assistant():
        f += "plain <|end|> "
        f += markup("marked<|end|>")
        f += tokens([65, 66])
    say(f"text: {f.text()}")
    say(f"tokens: {f.token_count()}")


def call(s, prompt, asked):
    """What a call on a copy of the state says."""
    f = s.copy()
    f += prompt + asked
    outcome = f.outcome("x")
    return (
        f"{quoted(outcome.text)} {outcome.finish_reason} matched={outcome.matched or 'none'}"
        f" prompt={outcome.prompt_tokens} tokens={outcome.completion_tokens} forced={outcome.forced_tokens}"
    )


def options(s, say):
    def x(**options):
        # Always the likeliest letter.
        return gen("x", **{"max_tokens": 8, "temperature": 0, **options})

    f = s.copy()
    f += "options" + x()
    outcome = f.outcome("x")
    letters, ids = outcome.text, outcome.tokens
    say(f"eight letters: {letters} {joined(ids)}")
    f += x()
    say(f"again, cached: {f.outcome('x').cached_tokens}")

    def say_call(name, asked):
        say(f"{name}: {call(s, 'options', asked)}")

    say_call("max_tokens 0", x(max_tokens=0))
    say_call("seed", x(temperature=1, seed=7))
    say_call("stop", x(stop=letters[3:5]))
    say_call("stop, one of two", x(stop=["#", letters[2:4]]))
    say_call("stop kept", x(stop=letters[3:5], no_stop_trim=True))
    say_call("stop token", x(stop_token_ids=[ids[4]]))
    say_call("stop token after", x(stop_token_ids=[ids[1]], min_tokens=4))
    say_call("stop regex", x(stop_regex=f"{letters[4]}."))

    def y(**options):
        # The scripted model says something else for each.
        return gen("x", **{"max_tokens": 4, "temperature": 1, "seed": 7, **options})

    say_call("another seed", y(seed=8))
    say_call("top_p", y(top_p=0.5))
    say_call("top_k", y(top_k=5))
    say_call("min_p", y(min_p=0.25))
    say_call("frequency_penalty", y(frequency_penalty=0.5))
    say_call("presence_penalty", y(presence_penalty=-0.5))
    say_call("repetition_penalty", y(repetition_penalty=1.5))
    say_call("logit_bias", y(logit_bias={97: -1, 98: 2}))
    say_call("the end is text", y(ignore_eos=True, skip_special_tokens=False))
    f = s.copy()
    f += "options" + x(max_tokens=2, top_logprobs_num=2)
    outcome = f.outcome("x")
    say(f"logprobs: {shown_logprobs(outcome.logprobs)}")
    say(f"top logprobs: {shown_logprobs(outcome.top_logprobs(1))}")


def wrong_options(s, say):
    """A value that is refused tells that it arrived."""
    wrong = [
        ("temperature", {"temperature": -1.5}),
        ("top_p", {"top_p": 1.5}),
        ("top_k", {"top_k": -2}),
        ("min_p", {"min_p": 1.5}),
        ("frequency_penalty", {"frequency_penalty": 2.5}),
        ("presence_penalty", {"presence_penalty": -2.5}),
        ("repetition_penalty", {"repetition_penalty": 4}),
        ("stop_regex", {"stop_regex": "("}),
        ("logit_bias", {"logit_bias": {1000: 1}}),
        ("top_logprobs", {"top_logprobs_num": 1000}),
        ("regex", {"regex": "("}),
        ("json_schema", {"json_schema": {"type": 7}}),
        ("lark", {"lark": 'begin: "x"'}),
        ("structural_tag", {"structural_tag": {}}),
        ("choices", {"constraint": Constraint.choices([])}),
        ("no choices", {"choices": []}),
    ]
    for name, option in wrong:
        asked = gen("x", max_tokens=1, **option)
        say(f"wrong {name}: {shown(partial(call, s, 'wrong', asked))}")


def constraints(s, say):
    def say_call(name, **options):
        asked = gen("x", **{"max_tokens": 24, "temperature": 0, **options})
        say(f"{name}: {call(s, 'constraints', asked)}")

    say_call("regex", regex="[0-9]{3}-[a-f]{2}")
    say_call("choices", constraint=Constraint.choices(["red", "green"]))
    say_call("json_schema", json_schema=SCHEMA)
    say_call("lark", lark='start: "<" /[0-9]/ ">"')
    say_call("structural_tag", structural_tag=TAGS, stop="</f>", max_tokens=6)
    say_call("int", dtype=int)
    say_call("float", dtype=float)
    say_call("bool", dtype=bool)
    say_call("string", dtype=str)
    f = s.copy()
    f += "typed" + gen("x", max_tokens=24, temperature=0, json_schema=SCHEMA)
    a = f.get_json("x")["a"]
    f += " " + gen("x", max_tokens=24, temperature=0, regex="[1-9]{2}")
    say(f"typed: {a} {f.get('x', int)}")


def streams(s, say):
    f = s.copy()
    f += "streams" + gen("x", max_tokens=12, temperature=0) + "!"
    text = "".join(f.stream("x"))
    say(f"stream: {text} {str(text == f['x']).lower()}")


def selects(s, say):
    methods = [
        ("token length", token_length_normalized),
        ("greedy", greedy_token_selection),
        ("unconditional", unconditional_likelihood_normalized),
    ]
    for name, method in methods:
        f = s.copy()
        f += "selects 0 " + select("x", ["rare", "red", "ruby", "ready"], choices_method=method)
        outcome = f.outcome("x")
        say(f"select by {name}: {outcome.text} {outcome.choice} {joined(map(milli, outcome.scores))}")


def forks(s, say):
    f = s.copy()
    f += "forks "
    forks = f.fork(3)
    forks += lambda i: str(i) + gen("x", max_tokens=4, temperature=0)
    f += "then" + gen("y", max_tokens=4, temperature=0)
    said = " ".join(fork["x"] for fork in forks)
    say(f"forks: {said} {f['y']}")
    say(f"a fork's text: {forks[2].text()}")
    say(f"a fork knows: {str(f.copy()['y'] == f['y']).lower()}")


def queued(s, say):
    def x(name):
        return gen(name, max_tokens=3, temperature=0)

    f = s.copy()
    f += "queued " + x("a") + " and " + x("b")
    f += "." + x("a")
    say(f"queued: {f['b']} {f['a']} {f.text()}")


def tokens_of(s, say):
    f = s.copy()
    f += "tokens"
    say(f"next: {shown_logprobs(f.next_tokens(3))}")
    say(f"score: {shown_logprobs(f.score('abc'))}")
    say(f"as before: {f.token_count()}")
    f.truncate(3)
    say(f"cut: {f.text()} {f.token_count()}")


def errors(s, say):
    def check(name, content):
        def step():
            f = s.copy()
            f += content
            f.sync()
            return f.token_count()

        say(f"{name}: {shown(step)}")

    check("too long", "0123456789" * 500 + gen("x"))
    check("image", image(bytes(4)))
    check("end of no role", role_end())
    check("no such token", tokens([100_000]))
    say(f"cut to more: {shown(lambda: s.copy().truncate(1000))}")


def cancelled(s, say):
    f = s.copy()
    f += "cancelled" + gen("x", max_tokens=3000)
    first = next(f.stream("x"), None) is not None
    f.cancel("x")
    try:
        code = f.outcome("x").finish_reason
    except SglError as error:
        code = error.code
    say(f"cancelled: {str(first).lower()} {code}")
    f = s.copy()
    f += "dropped" + gen("x", max_tokens=3000)
    del f
    say("dropped")


async def slow(s, calls):
    """Long calls, all started before the first is read. The first is waited for as in a plain `def`."""
    forks = s.fork(calls)
    for i, fork in enumerate(forks):
        fork += str(i) + gen("x", max_tokens=40, temperature=0)
    said = [forks[0]["x"], *await asyncio.gather(*(fork.get("x") for fork in forks[1:]))]
    return sum(map(len, said))


async def budget(s):
    """Uses up what the run may use, and says how that ended."""
    for _ in range(1000):
        try:
            s += "more " + gen("x", max_tokens=20)
            await s.sync()
        except SglError as error:
            return f"{error.code}: {error.message}"
    return "no end"


def recurse(depth):
    return recurse(depth + 1) + 1


def joined(values):
    return " ".join(map(str, values))


def milli(value):
    """In thousandths; half of one away from zero, as other languages round."""
    return int(math.copysign(math.floor(abs(value) * 1000 + 0.5), value))


def quoted(text):
    return json.dumps(text, ensure_ascii=False)


def shown_logprobs(logprobs):
    return " ".join(f"{it.token}:{it.text}:{milli(it.logprob)}" for it in logprobs)


def shown(step):
    """A value, or how its error is told."""
    try:
        return str(step())
    except SglError as error:
        return f"{error.code}: {error.message} (retryable={str(error.retryable).lower()})"
