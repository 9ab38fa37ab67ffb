"""Prompt programs in Python, as in SGLang's frontend language.

::

    from sglhost import assistant, function, gen, system, user

    @function
    def basic_qa(s, question):
        s += system("You are a helpful assistant.")
        s += user(question)
        s += assistant(gen("answer", max_tokens=512))
"""

from .errors import SglError
from .generate import (
    Constraint,
    Gen,
    gen,
    gen_float,
    gen_int,
    gen_string,
    greedy_token_selection,
    select,
    token_length_normalized,
    unconditional_likelihood_normalized,
)
from .outcome import Outcome, TokenLogprob
from .program import Function, function
from .prompt import (
    Prompt,
    assistant,
    assistant_begin,
    assistant_end,
    image,
    markup,
    role,
    role_begin,
    role_end,
    system,
    system_begin,
    system_end,
    text,
    tokens,
    user,
    user_begin,
    user_end,
)
from .run import (
    accepts_images,
    context_length,
    contexts_left,
    emit,
    emit_async,
    milliseconds_left,
    models,
    tokens_left,
)
from .state import AsyncState, Forks, State

__all__ = [
    "AsyncState",
    "Constraint",
    "Forks",
    "Function",
    "Gen",
    "Outcome",
    "Prompt",
    "SglError",
    "State",
    "TokenLogprob",
    "accepts_images",
    "assistant",
    "assistant_begin",
    "assistant_end",
    "context_length",
    "contexts_left",
    "emit",
    "emit_async",
    "function",
    "gen",
    "gen_float",
    "gen_int",
    "gen_string",
    "greedy_token_selection",
    "image",
    "markup",
    "milliseconds_left",
    "models",
    "role",
    "role_begin",
    "role_end",
    "select",
    "system",
    "system_begin",
    "system_end",
    "text",
    "token_length_normalized",
    "tokens",
    "tokens_left",
    "unconditional_likelihood_normalized",
    "user",
    "user_begin",
    "user_end",
]
