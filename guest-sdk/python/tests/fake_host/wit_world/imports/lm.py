"""See ../../README.md."""

import weakref

import componentize_py_async_support
import componentize_py_runtime
from componentize_py_types import Err

from .types import Error, TokenLogprob


class Host:
    """What is asked, and what is said."""

    def __init__(self):
        self.begin()

    def begin(self):
        self.log = []
        self.said = {}
        """What the model says, by the call's name; else <NAME>. An Error fails the call."""
        self.contexts = 0
        self.options = []
        """Of each call, in order."""

    def refuse(self, code, message):
        raise Err(Error(code, message, False))


host = Host()


async def slow(what, result):
    """As the generated code calls a function that takes its time."""
    host.log.append(what)
    pending = Err(componentize_py_runtime.start(result))
    return await componentize_py_async_support.await_result(pending)


class Resource:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.released()

    def released(self):
        pass


class Constraint(Resource):
    def __init__(self, kind, of):
        self.made = (kind, of)

    @classmethod
    async def _make(cls, kind, of):
        refused = Err(Error("invalid", f"{kind}: unclosed group", False)) if of == "(" else None
        return await slow(f"compile {kind}", refused or cls(kind, of))

    @classmethod
    async def regex(cls, pattern):
        return await cls._make("regex", pattern)

    @classmethod
    async def choices(cls, choices):
        return await cls._make("choices", choices)

    @classmethod
    async def json_schema(cls, schema):
        return await cls._make("json_schema", schema)

    @classmethod
    async def lark(cls, grammar):
        return await cls._make("lark", grammar)

    @classmethod
    async def structural_tag(cls, tags):
        return await cls._make("structural_tag", tags)


class Options(Resource):
    NAMES = (
        "name max_tokens min_tokens temperature top_p top_k min_p frequency_penalty presence_penalty "
        "repetition_penalty stop stop_token stop_regex no_stop_trim skip_special_tokens ignore_eos seed logit_bias "
        "top_logprobs choices_method"
    ).split()

    def __init__(self):
        self.set = []

    def constrain(self, constraint):
        self.set.append(("constrain", *constraint.made))


def _option(name):
    def option(self, *values):
        self.set.append((name, *values))

    return option


for _name in Options.NAMES:
    setattr(Options, _name, _option(_name))


class Outcome(Resource):
    def __init__(self, text, choices):
        self._text, self._choices = text, choices

    def text(self):
        return self._text

    def tokens(self):
        return list(self._text.encode())

    def finish_reason(self):
        return "length" if self._text.endswith("…") else "stop"

    def matched(self):
        return None

    def logprobs(self):
        return [TokenLogprob(token, bytes([token]), -1.0) for token in self.tokens()]

    def top_logprobs(self, position):
        return self.logprobs()[position:][:1]

    def prompt_tokens(self):
        return 7

    def cached_tokens(self):
        return 3

    def completion_tokens(self):
        return len(self._text)

    def forced_tokens(self):
        return 0

    def choice(self):
        return self._choices.index(self._text) if self._choices else None

    def scores(self):
        return [-1.0 for _ in self._choices or ()]


class Reader(Resource):
    """The generated code's `StreamReader`."""

    def __init__(self, name, pieces):
        self.name, self.pieces, self.writer_dropped = name, pieces, False

    async def read(self, max_count):
        pieces, self.pieces = self.pieces[:2], self.pieces[2:]
        self.writer_dropped = not self.pieces
        return await slow(f"read {self.name}", pieces)

    def released(self):
        host.log.append(f"release {self.name}")


class Call(Resource):
    def __init__(self, name, said, choices):
        self.name, self.said, self.choices, self.read = name, said, choices, False
        weakref.finalize(self, host.log.append, f"drop {name}")

    def text(self):
        if self.read:
            host.refuse("invalid", "its text was asked for before")
        self.read = True
        return Reader(self.name, [] if isinstance(self.said, Error) else list(self.said))

    async def finished(self):
        result = Err(self.said) if isinstance(self.said, Error) else Outcome(self.said, self.choices)
        return await slow(f"finished {self.name}", result)

    def cancel(self):
        host.log.append(f"cancel {self.name}")


class Image(Resource):
    @classmethod
    async def decode(cls, data):
        return await slow(f"decode {len(data)} bytes", cls())


class Context(Resource):
    def __init__(self, said):
        self.said, self.role = said, None
        host.contexts += 1
        self.finalizer = weakref.finalize(self, self.close)

    @staticmethod
    def close():
        host.contexts -= 1

    def released(self):
        self.finalizer()

    @classmethod
    def create(cls, model):
        if model not in (None, "scripted"):
            host.refuse("invalid", f"no model is called {model}")
        return cls([])

    def append(self, text):
        host.log.append(f"append {text}")
        self.said.append(text)

    def append_markup(self, text):
        self.said.append(f"[markup {text}]")

    def append_tokens(self, tokens):
        self.said.append(f"[tokens {tokens}]")

    def append_image(self, image):
        self.said.append("[image]")

    def begin_role(self, role):
        self.said.append(f"<{role}>")

    def end_role(self):
        begun = sum(text[0] == "<" and text[1] != "/" for text in self.said)
        if begun == self.said.count("</>"):
            host.refuse("invalid", "there is no role to end")
        self.said.append("</>")

    def _start(self, options, choices):
        options = options.set
        if ("top_p", 2.0) in options:
            host.refuse("invalid", "top_p is 2")
        name = dict(it for it in options if len(it) == 2).get("name", "")
        said = host.said.get(name, choices[0] if choices else f"«{name}»")
        host.options.append(options)
        host.log.append(f"start {name}")
        self.said.append("" if isinstance(said, Error) else said)
        return Call(name, said, choices)

    def generate(self, options):
        return self._start(options, None)

    def select(self, choices, options):
        return self._start(options, choices)

    async def score(self, text):
        return await slow("score", [TokenLogprob(ord(it), it.encode(), -0.5) for it in text])

    async def next_tokens(self, count):
        return await slow("next_tokens", [TokenLogprob(token, b"\xc3", -0.25) for token in range(count)])

    def fork(self):
        return Context(list(self.said))

    async def truncate(self, tokens):
        await slow("truncate", None)
        self.said = ["".join(self.said)[:tokens]]

    async def token_count(self):
        return await slow("token_count", len("".join(self.said)))

    async def text(self):
        return await slow("text", "".join(self.said))


def models():
    return ["scripted"]


def context_length(model):
    if model == "nobody":
        host.refuse("invalid", "no model is called nobody")
    return 4096


def accepts_images(model):
    return False
