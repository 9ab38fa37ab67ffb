"""One conversation so far, SGLang's `s`: what is appended to it, and the results by name.

Nothing here waits until a result is read: a `gen` starts at once, and what is appended after it queues behind it on the
host. So forks overlap although a program is written as plain blocking code.

`State` is what a `def` program is given, `AsyncState` what an `async def` program is given. They differ in what waits:
there a call, here something to `await`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, overload

from . import _host, generate, prompt
from .errors import NoSuchName, SglError
from .generate import Gen
from .outcome import Outcome, TokenLogprob, logprobs_from_host
from .prompt import Content, Part

__all__ = ["AsyncState", "Forks", "State"]

T = TypeVar("T")
StateT = TypeVar("StateT", bound="Conversation")

PIECES_MAX = 64
"""Pieces of a stream that are taken at once, if there are so many already."""


class Pending:
    """A call, and how it ended once somebody waited for it. Forks share it."""

    __slots__ = ("call", "failure", "outcome", "seen")

    def __init__(self, call: Any) -> None:
        self.call = call
        self.outcome: Outcome | None = None
        self.failure: SglError | None = None
        self.seen = False

    async def wait(self) -> Outcome:
        """Its outcome; the error that it failed with is raised each time."""
        if self.outcome is None and self.failure is None:
            try:
                self.outcome = Outcome(await _host.wait(self.call.finished))
            except SglError as error:
                self.failure = error
        if self.outcome is None:
            assert self.failure is not None
            raise self.failure.with_traceback(None)
        return self.outcome


class Set:
    """A variable that the program set by itself: `s["x"] = value`."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Conversation:
    """What `State` and `AsyncState` have in common: all that does not wait.

    Args:
        model: One of the models that the host serves; see `models`. None: its default.
    """

    __slots__ = ("__weakref__", "_context", "_defaults", "_failure", "_results", "ret_value")

    def __init__(self, model: str | None = None) -> None:
        _host.check_running()
        self._results: list[tuple[str, Pending | Set]] = []
        self._defaults: Mapping[str, Any] = {}
        self._failure: SglError | None = None
        self.ret_value: Any = None
        """What the function returned that was called to fill this state."""
        self._context: Any = self._step(_host.lm.Context.create, model)

    def _step(self, function: Callable[..., T], *arguments: Any) -> T:
        try:
            return _host.ask(function, *arguments)
        except SglError as error:
            raise self._failed(error) from None

    async def _wait(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await _host.wait(function, *arguments)
        except SglError as error:
            raise self._failed(error) from None

    def _failed(self, error: SglError) -> SglError:
        """Keeps the first failure, for `error`."""
        if self._failure is None:
            self._failure = error
        return error

    # What is appended.

    def __iadd__(self: StateT, content: Content | StateT) -> StateT:
        if content is self:  # `s += s.user("..")`: the method has appended it.
            return self
        return self.append(content)  # type: ignore[arg-type]

    def append(self: StateT, content: Content) -> StateT:
        """Appends text, generated text, images or messages; `s += content` is the same. Returns the state.

        Raises:
            SglError: What the host has against a piece: those before it are appended.
            TypeError: It is something else.
        """
        if isinstance(content, Conversation):
            raise TypeError(
                'a state cannot be appended: append its text, other["answer"], '
                "or give this state to the function that fills one, other(s, ..)"
            )
        for part in prompt.parts_of(content):
            self._append(part)
        return self

    def _append(self, part: Part) -> None:
        context = self._open()
        if isinstance(part, str):
            if part:
                self._step(context.append, generate._text(part))
        elif isinstance(part, Gen):
            self._start(part)
        elif isinstance(part, prompt.BeginRole):
            self._step(context.begin_role, generate._text(part.role))
        elif isinstance(part, prompt.EndRole):
            self._step(context.end_role)
        elif isinstance(part, prompt.Markup):
            self._step(context.append_markup, generate._text(part.text))
        elif isinstance(part, prompt.Tokens):
            self._step(context.append_tokens, [generate._whole("a token", token) for token in part.tokens])
        else:
            image = _host.wait_here(self._wait(_host.lm.Image.decode, part.bytes))
            self._step(context.append_image, image)

    def _start(self, asked: Gen) -> None:
        context = self._open()
        try:
            options = _host.wait_here(generate.to_host(asked, self._defaults))
        except SglError as error:
            raise self._failed(error) from None
        if asked.choices is None:
            call = self._step(context.generate, options)
        else:
            call = self._step(context.select, list(asked.choices), options)
        self._results.append((asked.name or "", Pending(call)))

    def _open(self) -> Any:
        if self._context is None:
            raise SglError("the state is closed", "invalid")
        return self._context

    @overload
    def system(self: StateT, content: Content) -> StateT: ...
    @overload
    def system(self) -> Any: ...
    def system(self, content: Content | None = None) -> Any:
        """A whole system message; without content it is for `with s.system():`."""
        return self.role("system", content)

    @overload
    def user(self: StateT, content: Content) -> StateT: ...
    @overload
    def user(self) -> Any: ...
    def user(self, content: Content | None = None) -> Any:
        """A whole message of the user; without content it is for `with s.user():`."""
        return self.role("user", content)

    @overload
    def assistant(self: StateT, content: Content) -> StateT: ...
    @overload
    def assistant(self) -> Any: ...
    def assistant(self, content: Content | None = None) -> Any:
        """A whole message of the assistant; without content it is for `with s.assistant():`."""
        return self.role("assistant", content)

    def role(self, role: str, content: Content | None = None) -> Any:
        """A whole message of any role that the model's chat template knows; without content it is for
        `with s.role("tool"):`."""
        return self._block(role) if content is None else self.append(prompt.role(role, content))

    @contextmanager
    def _block(self, role: str) -> Iterator[None]:
        self.append(prompt.role_begin(role))
        yield
        self.append(prompt.role_end())

    # What was generated.

    def __getitem__(self, name: str) -> Any:
        """The text generated under `name`. Waits for it, in an `async def` program too: there, all tasks stand still
        meanwhile, which `await s.get(name)` does not do.

        Raises:
            SglError: The call failed.
            KeyError: Nothing was generated under that name.
        """
        found = self._find(name)
        return found.value if isinstance(found, Set) else _host.wait_here(self._ended(found)).text

    def __setitem__(self, name: str, value: Any) -> None:
        """Sets a variable of the program's own, as SGLang's `set_var`."""
        self._results.append((name, Set(value)))

    def __contains__(self, name: str) -> bool:
        return any(of == name for of, _ in self._results)

    def get_var(self, name: str) -> Any:
        """SGLang's name of `s[name]`."""
        return self[name]

    def set_var(self, name: str, value: Any) -> None:
        """SGLang's name of `s[name] = value`."""
        self[name] = value

    def _find(self, name: str) -> Pending | Set:
        for of, result in reversed(self._results):
            if of == name:
                return result
        written = json.dumps(name, ensure_ascii=False)
        names = json.dumps([of for of, _ in self._results], ensure_ascii=False)
        raise NoSuchName(f"nothing was generated as {written}; there is {names}", "invalid")

    def _call(self, name: str) -> Pending:
        found = self._find(name)
        if isinstance(found, Set):
            raise SglError(f"{json.dumps(name)} was set by the program, and not generated", "invalid")
        return found

    async def _ended(self, pending: Pending) -> Outcome:
        try:
            return await pending.wait()
        except SglError as error:
            pending.seen = True
            raise self._failed(error) from None

    async def _outcome(self, name: str) -> Outcome:
        return await self._ended(self._call(name))

    async def _get(self, name: str, dtype: Callable[[str], Any]) -> Any:
        found = self._find(name)
        if isinstance(found, Set):
            return found.value
        outcome = await self._ended(found)
        if dtype is str:
            return outcome.text
        try:
            return _bool(outcome.text.strip()) if dtype is bool else dtype(outcome.text.strip())
        except (ValueError, TypeError):
            raise _wrong(name, outcome, getattr(dtype, "__name__", str(dtype))) from None

    async def _get_json(self, name: str) -> Any:
        outcome = await self._outcome(name)
        try:
            return json.loads(outcome.text)
        except ValueError as error:
            wrong = _wrong(name, outcome, "JSON")
            raise SglError(f"{wrong.message} ({error})") from None

    async def _get_meta_info(self, name: str) -> dict[str, Any]:
        outcome = await self._outcome(name)
        return {
            "finish_reason": {"type": outcome.finish_reason, "matched": outcome.matched},
            "prompt_tokens": outcome.prompt_tokens,
            "cached_tokens": outcome.cached_tokens,
            "completion_tokens": outcome.completion_tokens,
        }

    def _reader(self, name: str) -> Any:
        return self._step(self._call(name).call.text)

    def cancel(self, name: str) -> None:
        """Stops generating `name`; what was delivered stays part of the conversation.

        Raises:
            KeyError: Nothing was generated under that name.
        """
        self._call(name).call.cancel()

    def error(self) -> SglError | None:
        """The first failure of a step or call of this state that was raised, if there was one."""
        return self._failure

    async def _sync(self) -> None:
        for _, result in self._results:
            if isinstance(result, Pending):
                await self._ended(result)

    async def _finish(self) -> None:
        """Waits for what nobody read: it is part of the run's text and of its variables. A failure that the program
        was not shown is the run's."""
        first: SglError | None = None
        for _, result in self._results:
            if isinstance(result, Pending) and not result.seen:
                try:
                    await result.wait()
                except SglError as error:
                    first = first or error
        if first is not None:
            raise first

    # Copies.

    def fork(self: StateT, size: int = 1) -> Forks[StateT]:
        """Independent copies from here on, with the results so far. They share the cache up to here, and their calls
        run at the same time.

        Raises:
            SglError: The run may open no more contexts; `contexts_left` tells beforehand.
        """
        return Forks(self, [self.copy() for _ in range(size)])

    def copy(self: StateT) -> StateT:
        """One independent copy from here on."""
        other = type(self).__new__(type(self))
        other._results = list(self._results)
        other._defaults = self._defaults
        other._failure = None
        other.ret_value = None
        other._context = self._step(self._open().fork)
        return other

    def close(self) -> None:
        """Gives the conversation back to the host now, and cancels what it still generates and no fork holds. The last
        reference to a state that goes does the same."""
        self._results = []
        self.end()

    def end(self) -> None:
        """As `close`, but what was generated can still be read; SGLang's name."""
        if self._context is not None:
            self._context.__exit__(None, None, None)
            self._context = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {[name for name, _ in self._results]}>"


class State(Conversation):
    """A conversation with the model: text, generated results by name, and their place in the host's cache.

    ::

        @function
        def translate(s, sentence: str):
            s += system("You translate English into French.")
            s += user(sentence)
            s += assistant(gen("french", max_tokens=100, stop="\\n"))
            return s["french"]
    """

    __slots__ = ()

    def __getitem__(self, name: str) -> Any:
        """The text generated under `name`. Waits for it.

        Raises:
            SglError: The call failed.
            KeyError: Nothing was generated under that name.
        """
        return super().__getitem__(name)

    def get(self, name: str, dtype: Callable[[str], T] = str) -> T:  # type: ignore[assignment]
        """The text generated under `name`, as `int`, `float`, `bool` or whatever takes a text. Waits for it.

        Raises:
            SglError: The call failed, or its text is nothing of the kind.
            KeyError: Nothing was generated under that name.
        """
        value: T = _host.wait_here(self._get(name, dtype))
        return value

    def get_json(self, name: str) -> Any:
        """The text generated under `name`, read as JSON: what a `json_schema` asked for. Waits for it.

        Raises:
            SglError: The call failed, or its text is no JSON: it may have reached `max_tokens` first.
            KeyError: Nothing was generated under that name.
        """
        return _host.wait_here(self._get_json(name))

    def outcome(self, name: str) -> Outcome:
        """How the call named `name` ended: its text, tokens, finish reason, log-probabilities, scores. Waits for it.

        Raises:
            SglError: The call failed.
            KeyError: Nothing was generated under that name.
        """
        return _host.wait_here(self._outcome(name))

    def get_meta_info(self, name: str) -> dict[str, Any]:
        """How the call ended and what it took, under SGLang's names. `outcome` has more."""
        return _host.wait_here(self._get_meta_info(name))

    def stream(self, name: str) -> Iterator[str]:
        """The pieces of the text generated as `name`, each as soon as it is there: whole characters, never part of a
        stop text. At most once a call; `s[name]` is the whole text in any case, and says whether the call failed.

        Raises:
            SglError: They were asked for before.
            KeyError: Nothing was generated under that name.
        """
        reader = self._reader(name)

        def pieces() -> Iterator[str]:
            with reader:
                while not reader.writer_dropped:
                    yield from _host.wait_here(reader.read(PIECES_MAX))

        return pieces()

    def text_iter(self, var_name: str | None = None) -> Iterator[str]:
        """SGLang's name of `stream`. Without a name: the whole conversation, in one piece."""
        return iter((self.text(),)) if var_name is None else self.stream(var_name)

    def text(self) -> str:
        """The whole text so far, role markers included. Waits for what is queued."""
        return str(_host.wait_here(self._wait(self._open().text)))

    def token_count(self) -> int:
        """Length of the conversation in tokens. Waits for what is queued."""
        return int(_host.wait_here(self._wait(self._open().token_count)))

    def score(self, text: str) -> list[TokenLogprob]:
        """Log-probability of each token of `text` as the continuation. The conversation stays as it is."""
        return logprobs_from_host(_host.wait_here(self._wait(self._open().score, generate._text(text))))

    def next_tokens(self, count: int) -> list[TokenLogprob]:
        """The likeliest next tokens, likeliest first: for search, voting and decoding of one's own."""
        count = generate._whole("count", count)
        return logprobs_from_host(_host.wait_here(self._wait(self._open().next_tokens, count)))

    def truncate(self, tokens: int) -> None:
        """Cuts the conversation back to its first `tokens` tokens."""
        _host.wait_here(self._wait(self._open().truncate, generate._whole("tokens", tokens)))

    def sync(self) -> None:
        """Waits for all calls of this state.

        Raises:
            SglError: The first failure of a call.
        """
        _host.wait_here(self._sync())


class AsyncState(Conversation):
    """`State` for `async def` programs: what waits there is something to `await` here, and other tasks go on meanwhile.

    ::

        @function
        async def translate(s, sentence: str):
            s += user(sentence)
            s += assistant(gen("french", max_tokens=100, stop="\\n"))
            async for piece in s.stream("french"):
                await emit_async("french", piece)
            return await s.get("french")
    """

    __slots__ = ()

    async def get(self, name: str, dtype: Callable[[str], T] = str) -> T:  # type: ignore[assignment]
        """See `State.get`."""
        value: T = await self._get(name, dtype)
        return value

    async def get_json(self, name: str) -> Any:
        """See `State.get_json`."""
        return await self._get_json(name)

    async def outcome(self, name: str) -> Outcome:
        """See `State.outcome`."""
        return await self._outcome(name)

    async def get_meta_info(self, name: str) -> dict[str, Any]:
        """See `State.get_meta_info`."""
        return await self._get_meta_info(name)

    def stream(self, name: str) -> AsyncIterator[str]:
        """See `State.stream`."""
        reader = self._reader(name)

        async def pieces() -> AsyncIterator[str]:
            with reader:
                while not reader.writer_dropped:
                    for piece in await reader.read(PIECES_MAX):
                        yield piece

        return pieces()

    async def text_async_iter(self, var_name: str | None = None) -> AsyncIterator[str]:
        """SGLang's name of `stream`. Without a name: the whole conversation, in one piece."""
        if var_name is None:
            yield await self.text()
        else:
            async for piece in self.stream(var_name):
                yield piece

    async def text(self) -> str:
        """See `State.text`."""
        return str(await self._wait(self._open().text))

    async def token_count(self) -> int:
        """See `State.token_count`."""
        return int(await self._wait(self._open().token_count))

    async def score(self, text: str) -> list[TokenLogprob]:
        """See `State.score`."""
        return logprobs_from_host(await self._wait(self._open().score, generate._text(text)))

    async def next_tokens(self, count: int) -> list[TokenLogprob]:
        """See `State.next_tokens`."""
        return logprobs_from_host(await self._wait(self._open().next_tokens, generate._whole("count", count)))

    async def truncate(self, tokens: int) -> None:
        """See `State.truncate`."""
        await self._wait(self._open().truncate, generate._whole("tokens", tokens))

    async def sync(self) -> None:
        """See `State.sync`."""
        await self._sync()


class Forks(list[StateT], Generic[StateT]):
    """What `fork` gives: a list of states."""

    def __init__(self, source: StateT, states: list[StateT]) -> None:
        super().__init__(states)
        self._source = source

    def __iadd__(self, content: Any) -> Forks[StateT]:  # type: ignore[override, misc]
        """Appends the same to each; or to each its own, from a list; or what a function says for its number."""
        if callable(content):
            content = [content(i) for i in range(len(self))]
        if isinstance(content, list):
            if len(content) != len(self):
                raise ValueError(f"{len(self)} forks, and something for {len(content)}")
            for state, its in zip(self, content, strict=True):
                state.append(its)
        else:
            for state in self:
                state.append(content)
        return self

    def join(self, mode: str = "gather_variable") -> None:
        """Waits for the forks, gives what they generated to the state that was forked, a list of texts a name, and
        ends them. `mode` is as in SGLang; this host has only the one."""
        if mode != "gather_variable":
            raise SglError(f"forks are joined by gather_variable, and not by {mode}", "unsupported")
        gathered: dict[str, list[Any]] = {}
        for state in self:
            for name in dict.fromkeys(name for name, _ in state._results if name not in self._source):
                gathered.setdefault(name, []).append(state[name])
            state.end()
        for name, values in gathered.items():
            self._source[name] = values

    def __enter__(self) -> Forks[StateT]:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is None:
            self.join()


def _bool(text: str) -> bool:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    raise ValueError(text)


def _wrong(name: str, outcome: Outcome, wanted: str) -> SglError:
    """What was generated is not what is wanted."""
    cut = "; it was cut at max_tokens: allow it more" if outcome.finish_reason == "length" else ""
    text = json.dumps(outcome.text.strip(), ensure_ascii=False)
    return SglError(f"the text generated as {json.dumps(name, ensure_ascii=False)} is no {wanted}: {text}{cut}")
