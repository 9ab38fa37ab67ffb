"""`@function`: from a plain Python function to a program, and to something that other programs can call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from . import _host, arguments, generate
from .errors import SglError
from .state import AsyncState, Conversation, State

__all__ = ["Function", "function"]

P = ParamSpec("P")
R = TypeVar("R")

_SAMPLING = {
    "max_new_tokens": "max_tokens",
    **{
        name: name
        for name in (
            "max_tokens min_tokens stop stop_token_ids stop_regex temperature top_p top_k min_p frequency_penalty "
            "presence_penalty repetition_penalty ignore_eos no_stop_trim skip_special_tokens seed return_logprob "
            "top_logprobs_num"
        ).split()
    },
}
"""What `run` takes beside the function's own arguments, and what `gen` calls it."""
_NO_EFFECT = {"backend", "num_threads", "progress_bar", "stream", "use_thread"}
"""What SGLang's `run` and `run_batch` take as well. Here all calls start at once and can be streamed."""

_defined: list[Function[Any, Any]] = []
"""All that was made so far, in order: the last of `program.py` is the program."""


def function(function: Callable[Concatenate[Any, P], R]) -> Function[P, R]:
    """Makes a function, `def` or `async def`, a prompt program.

    - Its first parameter is the state, by whatever name.
    - The others are the program's arguments, by name: `str`, `int`, `float`, `bool`, `list[..]`, `dict`,
      `Literal["a", "b"]`, `Any`, or `Optional` of one. One without a type has that of its default, and `str` without
      either. One with a default, or an `Optional`, may be left out.
    - The docstring is the description, up to its sections; under `Args:` it describes arguments. So does
      `Annotated[str, "What to ask."]`, in which a `dict` adds to the JSON Schema: `Annotated[int, {"minimum": 1}]`.
    - What it returns is the run's result, as JSON; a state, as SGLang's programs return it, is `null`.

    The program of a file is the last `@function` in it, or what the file assigns to `program`. The others can be called
    from it: `other("Paris")` fills a state of its own and returns that, `other(s, "Paris")` goes on with this one.
    """
    return Function(function)


class Function(Generic[P, R]):
    """What `@function` makes of a function."""

    def __init__(self, function: Callable[Concatenate[Any, P], R]) -> None:
        functools.update_wrapper(self, function)
        self.func = function
        self.name = function.__name__
        self.description, self.arguments = arguments.arguments_of(function)
        _defined.append(self)

    @property
    def is_async(self) -> bool:
        """Whether it is an `async def`: then a call of it is to be awaited."""
        return inspect.iscoroutinefunction(self.func)

    def describe(self) -> str:
        """The description that the component exports: name, description and JSON Schema of the arguments, as JSON."""
        return arguments.describe(self.name, self.description, self.arguments)

    @overload
    def __call__(self, s: Conversation, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]
        """With a state in front it goes on with that one, and returns what the function returns. Without, it fills a
        state of its own and returns it; what the function returned is its `ret_value`."""
        if args and isinstance(args[0], Conversation):
            return self.func(*args, **kwargs)
        return self.run(*args, **kwargs)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Fills a state of its own, as SGLang's `run` does. Sampling options (`temperature=0.1`, `max_new_tokens=64`)
        are defaults of its calls. Of an `async def` it is to be awaited."""
        parameters = inspect.signature(self.func).parameters
        options = {}
        for name in list(kwargs):
            if name in _SAMPLING and name not in parameters:
                options[_SAMPLING[name]] = kwargs.pop(name)
            elif name in _NO_EFFECT and name not in parameters:
                del kwargs[name]
        state: Conversation = AsyncState() if self.is_async else State()
        state._defaults = generate.gen(**options).options
        if self.is_async:
            return self._run_async(state, args, kwargs)
        state.ret_value = self.func(state, *args, **kwargs)
        return state

    async def _run_async(self, state: Conversation, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Conversation:
        state.ret_value = await self.func(state, *args, **kwargs)  # type: ignore[misc]
        return state

    def run_batch(self, batch: Sequence[Mapping[str, Any]], **options: Any) -> list[Any]:
        """A state for each of several sets of arguments, in order. As far as the function does not wait for results,
        their calls run at the same time."""
        return [self.run(**{**options, **given}) for given in batch]

    def bind(self, **kwargs: Any) -> Callable[..., Any]:
        """The function with some of its arguments given."""
        return functools.partial(self, **kwargs)

    def __repr__(self) -> str:
        return f"<program {self.name}>"


def program_of(module: Any) -> Function[Any, Any]:
    """The program of a module: what it assigns to `program`, or the last `@function` in it.

    Raises:
        SglError: It has none.
    """
    chosen = getattr(module, "program", None)
    if isinstance(chosen, Function):
        return chosen
    own = [it for it in _defined if it.__module__ == module.__name__]
    if not own:
        hint = "`from sglhost import function`, then `@function` above a `def`"
        raise SglError(f"program.py has no @function: {hint}", "invalid")
    return own[-1]


async def execute(program: Function[Any, Any], given_as_json: str) -> Any:
    """A run, from its arguments to what the function returns, and until what nobody read is generated.

    Raises:
        SglError: `invalid` for a wrong argument; else what the program was not shown.
    """
    # Before a context is opened: a wrong argument should cost nothing.
    values = arguments.take(program.arguments, given_as_json)
    if program.is_async:
        state: Conversation = AsyncState()
        result = await program.func(state, **values)
        await state._finish()
    else:
        state = State()
        result = program.func(state, **values)
        _host.wait_here(state._finish())
    return None if isinstance(result, Conversation) else result
