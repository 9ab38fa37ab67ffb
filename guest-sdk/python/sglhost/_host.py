"""The way to the host: the generated bindings, errors in the SDK's words, and waiting.

All that the SDK asks of the host goes through here. Outside of a component, in an editor or a unit test, there is no
host: everything can be imported, and the first step says so.

Waiting. The contract's slow functions are asynchronous, and componentize-py makes coroutines of them that wait in its
event loop. That is what `async def` programs want. A blocking program wants `s["answer"]` to wait where it stands, in
the middle of a call stack that no coroutine can leave. So there are two ways to wait for one of the host's calls, and
`wait_here` picks: the loop, or the component model's own `waitable-set.wait`, which componentize-py does not offer and
`native/sglhost_blocking.c` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .errors import SglError

# No stubs are wanted: an author's type checker need not know of these.
try:
    import componentize_py_async_support as _support  # type: ignore[import-not-found]
    import componentize_py_runtime as _runtime  # type: ignore[import-not-found]
    import sglhost_blocking as _blocking  # type: ignore[import-not-found]
    from componentize_py_types import Err, Ok  # type: ignore[import-not-found]
    from wit_world.imports import lm as lm  # type: ignore[import-not-found]
    from wit_world.imports import run as run
    from wit_world.imports.types import Error  # type: ignore[import-not-found]
except ImportError as error:
    _missing: ImportError | None = error
else:
    _missing = None

T = TypeVar("T")

_SUBTASK = 1
"""Event: the state of a call of the host's has changed."""
_SUBTASK_RETURNED = 2
"""State: it has returned. Those below are its start."""

_running = False
_waits_here = False


def begin_run() -> None:
    """From now on there is a host to talk to. While the program is built there is none."""
    global _running
    _running = True


def is_running() -> bool:
    """Whether a run has begun."""
    return _running


def check_running() -> None:
    """Raises where there is no host to talk to."""
    if _missing is not None:
        raise RuntimeError("a program talks to a model inside of sglhost: `sglhost build`, then `sglhost run`")
    if not _running:
        raise RuntimeError(
            "a program runs when the host calls it, and not while its file is imported: "
            'what is below it belongs under `if __name__ == "__main__":`'
        )


def ask(function: Callable[..., T], *arguments: Any) -> T:
    """Calls a function of the host's that answers at once.

    Raises:
        SglError: What the host has against it.
    """
    try:
        return function(*arguments)
    except Err as error:
        raise from_host(error.value) from None


async def wait(function: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
    """Calls a function of the host's that takes its time.

    Raises:
        SglError: What the host has against it.
    """
    try:
        return await function(*arguments)
    except Err as error:
        raise from_host(error.value) from None


def wait_here(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end, which waits for nothing but the host. All else stands still meanwhile."""
    global _waits_here
    _waits_here, before = True, _waits_here
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        _waits_here = before
        coroutine.close()
    raise AssertionError("what is waited for here may wait for the host only")


def from_host(error: Any) -> SglError:
    """An error of the host's in the SDK's words."""
    return SglError(error.message, error.code, error.retryable)


def to_host(error: SglError) -> Exception:
    """An error of the SDK's as the host takes it: to be raised from an export."""
    raised: Exception = Err(Error(error.code, error.message, error.retryable))
    return raised


async def _result(result: Any) -> Any:
    """What a call of the host's gives back: componentize-py's `await_result`, with a second way to wait."""
    if isinstance(result, Ok):
        return result.value
    waitable, promise = result.value
    event = _wait(waitable) if _waits_here else await _in_loop(waitable)
    return _runtime.promise_get_result(event, promise)


def _wait(waitable: int) -> int:
    """Waits for one waitable, and nothing else happens meanwhile. Returns its event's payload."""
    payload: int
    waitables = _runtime.waitable_set_new()
    _runtime.waitable_join(waitable, waitables)
    while True:
        kind, _, payload = _blocking.wait(waitables)
        if kind != _SUBTASK or payload >= _SUBTASK_RETURNED:
            break
    _runtime.waitable_join(waitable, 0)
    _runtime.waitable_set_drop(waitables)
    if kind == _SUBTASK:
        _runtime.subtask_drop(waitable)
    return payload


async def _in_loop(waitable: int) -> int:
    """Lets the loop's other tasks go on until the waitable's event is there."""
    state = _support._future_state.get()
    if state.waitable_set is None:
        state.waitable_set = _runtime.waitable_set_new()
    _runtime.waitable_join(waitable, state.waitable_set)
    event = state.futures[waitable] = asyncio.get_running_loop().create_future()
    # A task may be cancelled. Its event comes nevertheless, and must find a future that it can set.
    return await asyncio.shield(event)


def forget_waiting() -> None:
    """Lets go of what tasks still wait for that nobody awaits any more: the run is over."""
    futures = _support._future_state.get().futures
    for waitable in futures:
        _runtime.waitable_join(waitable, 0)
    futures.clear()


def _poll(state: Any) -> None:
    """The loop's steps, as long as one is ready. An exit in a task is the business of who awaits it, not the loop's."""
    while state.handles:
        handles, state.handles = state.handles, []
        for handle in handles:
            if not handle.cancelled():
                with contextlib.suppress(SystemExit):
                    handle._run()
    if _support._loop.exception is not None:
        raise _support._loop.exception


def _report(context: dict[str, Any]) -> None:
    """What went wrong in a task that nobody awaits is told in the run's log, and ends nothing."""
    print(context.get("message", "a task failed"), file=sys.stderr)
    if (error := context.get("exception")) is not None:
        traceback.print_exception(error)


if _missing is None:
    _support.await_result = _result
    _support._loop.poll = _poll
    _support._loop.call_exception_handler = _report
