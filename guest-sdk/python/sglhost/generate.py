"""What to ask the model for: `gen` and `select`, with every option that a call has. Names are SGLang's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

from . import _host
from .arguments import schema_of_dataclass
from .errors import SglError
from .prompt import Part, Prompt

__all__ = [
    "Constraint",
    "Gen",
    "gen",
    "gen_float",
    "gen_int",
    "gen_string",
    "greedy_token_selection",
    "select",
    "token_length_normalized",
    "unconditional_likelihood_normalized",
]

INT = "0|-?[1-9][0-9]{0,17}"
"""An integer of at most 18 digits that is JSON: no `+`, no leading zeros, no `-0`."""
FLOAT = r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?"
"""A decimal number that is JSON."""
BOOL = "true|false"
"""As JSON writes it; SGLang has Python's `True` and `False`."""
STRING = r'"([^"\\\x00-\x1f\x7f]|\\(["\\/bfnrt]|u([0-9a-cefA-CEF][0-9a-fA-F]|[dD][0-7])[0-9a-fA-F]{2}))*"'
"""A string of JSON's, with its quotes. Escapes that are half of a character (surrogates) are left out."""

DTYPES: dict[Any, str] = {int: INT, float: FLOAT, bool: BOOL, str: STRING}
DTYPES |= {dtype.__name__: pattern for dtype, pattern in DTYPES.items()}

token_length_normalized = "token-length-normalized"
"""Of `choices`: highest mean log-probability over the choice's tokens. The default."""
greedy_token_selection = "greedy-token-selection"
"""Of `choices`: highest log-probability token by token, as greedy decoding over the choices would take them."""
unconditional_likelihood_normalized = "unconditional-likelihood-normalized"
"""Of `choices`: highest mean of log-probability given the prompt less log-probability without it."""

Schema = Union[str, Mapping[str, Any], type]
"""JSON Schema: as text, as a `dict`, or a dataclass, whose fields become properties."""


@dataclass(frozen=True)
class Constraint:
    """What a whole output must match. The host compiles it, and keeps it for calls to come."""

    kind: str
    """Which of the host's constructors makes it."""
    of: str | tuple[str, ...]
    """The pattern, the choices, the schema, the grammar or the tags."""

    @classmethod
    def regex(cls, pattern: str) -> Constraint:
        """A regular expression, in the syntax of Rust's `regex` crate without word boundaries."""
        return cls("regex", pattern)

    @classmethod
    def choices(cls, choices: Sequence[str]) -> Constraint:
        """One of these texts. It is sampled token by token, as all that is generated is; `gen(choices=…)` compares the
        texts as wholes instead, and tells their scores."""
        return cls("choices", tuple(choices))

    @classmethod
    def json_schema(cls, schema: Schema) -> Constraint:
        """JSON that this schema accepts: in one line, with a space after each `,` and `:`, and properties in the
        schema's order. A keyword that the host does not implement is the error `unsupported`, which names it.
        `"x-guidance": {"whitespace_flexible": true}` in the schema leaves whitespace to the model."""
        if isinstance(schema, type):
            schema = schema_of_dataclass(schema)
        return cls("json_schema", schema if isinstance(schema, str) else json.dumps(schema))

    @classmethod
    def lark(cls, grammar: str) -> Constraint:
        """What this grammar makes of `start`, in the variant of Lark's notation that the llguidance library
        documents."""
        return cls("lark", grammar)

    @classmethod
    def structural_tag(cls, tags: str | Mapping[str, Any]) -> Constraint:
        """Free text, in which a trigger opens one of the tags that begin with it, and what is in a tag is constrained.
        JSON, as text or a `dict`, of the form that SGLang takes::

            {"structures": [{"begin": "<function=f>", "schema": {"type": "object"}, "end": "</function>"}],
             "triggers": ["<function="]}

        with `"regex": "…"` in place of `schema` where wanted.
        """
        return cls("structural_tag", tags if isinstance(tags, str) else json.dumps(tags))


@dataclass(frozen=True)
class Gen(Prompt):
    """Text to be generated, and how. Made by `gen` or `select`, appended like text."""

    name: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """By the names of the host's options; none is `None`."""
    choices: tuple[str, ...] | None = None
    """With choices it is a select."""
    constraint: Constraint | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        return (self,)


def gen(
    name: str | None = None,
    max_tokens: int | None = None,
    min_tokens: int | None = None,
    stop: str | Sequence[str] | None = None,
    stop_token_ids: Sequence[int] | None = None,
    stop_regex: str | Sequence[str] | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    frequency_penalty: float | None = None,
    presence_penalty: float | None = None,
    repetition_penalty: float | None = None,
    ignore_eos: bool | None = None,
    no_stop_trim: bool | None = None,
    skip_special_tokens: bool | None = None,
    seed: int | None = None,
    logit_bias: Mapping[int, float] | None = None,
    return_logprob: bool | None = None,
    top_logprobs_num: int | None = None,
    dtype: type | str | None = None,
    choices: Sequence[str] | None = None,
    choices_method: str | None = None,
    regex: str | None = None,
    json_schema: Schema | None = None,
    lark: str | None = None,
    structural_tag: str | Mapping[str, Any] | None = None,
    constraint: Constraint | None = None,
) -> Gen:
    """Text to be generated under this name: `s += assistant(gen("answer", max_tokens=512))`, then `s["answer"]`.

    What is not set takes the host's default, which is SGLang's: 128 tokens, temperature 1.

    Args:
        name: What its text is read by. None: nobody reads it by a name.
        max_tokens: Most tokens to generate.
        min_tokens: Until this many tokens are generated, neither end-of-text nor a stop token is taken.
        stop: Stop at this text, or at any of these. It is cut off, with all after it.
        stop_token_ids: Stop at any of these tokens.
        stop_regex: Stop where this regular expression, or any of these, matches. The match is kept.
        temperature: 0 always takes the likeliest token; 1 leaves the distribution as it is.
        top_p: Keep the likeliest tokens whose probabilities reach this sum, in (0, 1].
        top_k: Keep this many of the likeliest tokens; -1 keeps all.
        min_p: Keep tokens at least this fraction as likely as the likeliest, in [0, 1].
        frequency_penalty: Subtracted from a token's logit for each time that this call took it, in [-2, 2].
        presence_penalty: Subtracted once from the logit of each token that this call took, in [-2, 2].
        repetition_penalty: Divides positive and multiplies negative logits of tokens that this call took, in [0.01, 2].
        ignore_eos: Go on after end-of-text.
        no_stop_trim: Keep in the output what ended it: the stop text, stop token or end-of-text.
        skip_special_tokens: Leave control tokens out of the text (the default).
        seed: Same seed, same prompt, same output.
        logit_bias: What to add to the logits of tokens, each in [-1e9, 1e9]; -100 forbids in practice.
        return_logprob: Report log-probabilities of the generated tokens.
        top_logprobs_num: The same, with this many alternatives each.
        dtype: `int`, `float`, `bool` or `str`: what the output must be. Read it with `s.get(name, dtype)`.
        choices: Take the likeliest of these continuations instead of generating freely.
        choices_method: How choices are compared, such as `greedy_token_selection`.
        regex: What the whole output must match, in the syntax of Rust's `regex` crate.
        json_schema: The output must be JSON that this schema accepts. Read it with `s.get_json(name)`.
        lark: The output must be in the language of this grammar; see `Constraint.lark`.
        structural_tag: The output is free text with calls of tools that are well-formed; see
            `Constraint.structural_tag`.
        constraint: What the whole output must match, made by hand.

    Raises:
        ValueError: More than one of `dtype`, `regex`, `json_schema`, `lark`, `structural_tag` and `constraint`, or one
            of them with `choices`; or a number of tokens, a token or a seed that is none.
    """
    if top_logprobs_num is None and return_logprob:
        top_logprobs_num = 0
    wanted = [
        dtype if dtype is None else Constraint.regex(_pattern_of(dtype)),
        regex if regex is None else Constraint.regex(regex),
        json_schema if json_schema is None else Constraint.json_schema(json_schema),
        lark if lark is None else Constraint.lark(lark),
        structural_tag if structural_tag is None else Constraint.structural_tag(structural_tag),
        constraint,
    ]
    constraints = [it for it in wanted if it is not None]
    if len(constraints) + (choices is not None) > 1:
        raise ValueError("a call has one of dtype, regex, json_schema, lark, structural_tag, constraint and choices")
    if isinstance(choices, str):
        raise TypeError("choices is a list of texts, and not one")
    options: dict[str, Any] = {
        "max_tokens": _whole("max_tokens", max_tokens),
        "min_tokens": _whole("min_tokens", min_tokens),
        "stop": _several(stop),
        "stop_token": [_whole("stop_token_ids", token) for token in stop_token_ids or ()] or None,
        "stop_regex": _several(stop_regex),
        "temperature": _number("temperature", temperature),
        "top_p": _number("top_p", top_p),
        "top_k": _whole("top_k", top_k, -(2**31), 2**31),
        "min_p": _number("min_p", min_p),
        "frequency_penalty": _number("frequency_penalty", frequency_penalty),
        "presence_penalty": _number("presence_penalty", presence_penalty),
        "repetition_penalty": _number("repetition_penalty", repetition_penalty),
        "ignore_eos": ignore_eos,
        "no_stop_trim": no_stop_trim,
        "skip_special_tokens": skip_special_tokens,
        "seed": _whole("seed", seed, 0, 2**64),
        "logit_bias": {
            _whole("logit_bias", token): _number("logit_bias", bias) for token, bias in (logit_bias or {}).items()
        }
        or None,
        "top_logprobs": _whole("top_logprobs_num", top_logprobs_num),
        "choices_method": choices_method,
    }
    return Gen(
        name,
        {name: value for name, value in options.items() if value is not None},
        None if choices is None else tuple(map(_text, choices)),
        constraints[0] if constraints else None,
    )


def gen_int(name: str | None = None, **options: Any) -> Gen:
    """An integer; the same as `gen(name, dtype=int)`."""
    return gen(name, dtype=int, **options)


def gen_float(name: str | None = None, **options: Any) -> Gen:
    """A decimal number; the same as `gen(name, dtype=float)`."""
    return gen(name, dtype=float, **options)


def gen_string(name: str | None = None, **options: Any) -> Gen:
    """A string between quotes; the same as `gen(name, dtype=str)`."""
    return gen(name, dtype=str, **options)


def select(
    name: str | None = None,
    choices: Sequence[str] | None = None,
    temperature: float | None = None,
    choices_method: str | None = None,
) -> Gen:
    """The likeliest of several continuations; the same as `gen(name, choices=choices)`."""
    if choices is None:
        raise TypeError("select needs choices")
    return gen(name, choices=choices, temperature=temperature, choices_method=choices_method)


async def to_host(asked: Gen, defaults: Mapping[str, Any]) -> Any:
    """The options as the host takes them. Compiling a constraint may fail: a bad pattern."""
    options = _host.lm.Options()
    if asked.name is not None:
        options.name(_text(asked.name))
    for name, value in {**defaults, **asked.options}.items():
        set_option = getattr(options, name)
        if isinstance(value, list):
            for item in value:
                set_option(item)
        elif isinstance(value, dict):
            for key, item in value.items():
                set_option(key, item)
        else:
            set_option(value)
    if asked.constraint is not None:
        of = asked.constraint.of
        make = getattr(_host.lm.Constraint, asked.constraint.kind)
        options.constrain(await _host.wait(make, _text(of) if isinstance(of, str) else list(map(_text, of))))
    return options


def _pattern_of(dtype: type | str) -> str:
    try:
        return DTYPES[dtype]
    except (KeyError, TypeError):
        raise ValueError(f"dtype is int, float, bool or str, and not {dtype!r}") from None


def _text(text: str) -> str:
    """The text, if it can be sent: the host takes whole characters."""
    if not isinstance(text, str):
        raise TypeError(f"text is wanted, and this is of type {type(text).__name__}")
    text.encode()  # A half of a character (a surrogate) is an error here, and a trap in the bindings.
    return text


def _several(texts: str | Sequence[str] | None) -> list[str] | None:
    if texts is None:
        return None
    return [_text(texts)] if isinstance(texts, str) else list(map(_text, texts))


def _whole(name: str, value: Any, low: int = 0, end: int = 2**32) -> Any:
    """A whole number of the host's size; it would be a trap in the bindings."""
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be a whole number, and is {value!r}")
    value = value.__index__()
    if not low <= value < end:
        raise SglError(f"{name} must be from {low} to {end - 1}, and is {value}", "invalid")
    return value


def _number(name: str, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number, and is {value!r}")
    return float(value)
