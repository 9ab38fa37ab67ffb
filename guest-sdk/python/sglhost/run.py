"""The run that a program is: output of its own, and what it may still use."""

from __future__ import annotations

from . import _host

__all__ = [
    "accepts_images",
    "context_length",
    "contexts_left",
    "emit",
    "emit_async",
    "milliseconds_left",
    "models",
    "tokens_left",
]


def emit(channel: str, data: str) -> None:
    """Sends a piece of output to whoever started the run, at once; waits when the reader is slow.

    Raises:
        SglError: The run's limit of emitted bytes is reached, or nobody reads any more.
    """
    _host.wait_here(emit_async(channel, data))


async def emit_async(channel: str, data: str) -> None:
    """`emit` for `async def` programs: other tasks go on while it waits."""
    _host.check_running()
    await _host.wait(_host.run.emit, channel, data)


def tokens_left() -> int:
    """Tokens, of prompts (cached ones count) and outputs together, that the run may still use."""
    _host.check_running()
    return int(_host.run.tokens_left())


def contexts_left() -> int:
    """States that the run may still open or fork. Closing one, or losing the last reference to it, gives it back."""
    _host.check_running()
    return int(_host.run.contexts_left())


def milliseconds_left() -> int:
    """Time until the run's deadline, in milliseconds."""
    _host.check_running()
    return int(_host.run.milliseconds_left())


def models() -> list[str]:
    """Names of the models served here, the default first."""
    _host.check_running()
    return list(_host.lm.models())


def context_length(model: str | None = None) -> int:
    """Longest conversation of a model, in tokens; none: of the default model.

    Raises:
        SglError: No model of that name is served.
    """
    _host.check_running()
    return int(_host.ask(_host.lm.context_length, model))


def accepts_images(model: str | None = None) -> bool:
    """Whether a model takes images; none: the default model.

    Raises:
        SglError: No model of that name is served.
    """
    _host.check_running()
    return bool(_host.ask(_host.lm.accepts_images, model))
