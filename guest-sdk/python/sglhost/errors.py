"""Why a step, a call or the whole program failed."""

from __future__ import annotations

__all__ = ["SglError"]


class SglError(Exception):
    """A failure that the host, or the program itself, found.

    It is raised where a step is made or a result is read. One that nobody catches ends the run with its own code and
    message; `raise SglError("there is no such city")` is the program's way to end with an error of its own.

    Attributes:
        code: What kind of failure it is, from an open set: `invalid`, `limit-exceeded`, `too-long`, `unsupported`,
            `cancelled`, `deadline-exceeded`, `unavailable`, or `program` for one that the program itself found.
        message: For people: names the input, the limit and the way out.
        retryable: Whether the same step may succeed later.
    """

    def __init__(self, message: str, code: str = "program", retryable: bool = False) -> None:
        super().__init__(message, code, retryable)
        self.code = code
        self.message = message
        self.retryable = retryable

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


# As authors import it, and as tracebacks name it.
SglError.__module__ = "sglhost"


class NoSuchName(SglError, KeyError):
    """Nothing was generated under the name that is read. It is a `KeyError` too, as of a dictionary."""

    __str__ = SglError.__str__
