"""How a call ended: its text, and what else the host knows about it."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Outcome", "TokenLogprob"]


class TokenLogprob(NamedTuple):
    """A token with its log-probability under the model's own distribution, before temperature, penalties and masks."""

    token: int
    """The token."""
    bytes: bytes
    """Its bytes; a token may hold part of a character."""
    logprob: float
    """Natural logarithm of its probability."""

    @property
    def text(self) -> str:
        """The token's text; parts of characters are shown as U+FFFD."""
        return self.bytes.decode("utf-8", "replace")


def logprobs_from_host(logprobs: list[Any]) -> list[TokenLogprob]:
    """The host's records as the SDK's."""
    return [TokenLogprob(it.token, it.bytes, it.logprob) for it in logprobs]


class Outcome:
    """How a `gen` or `select` ended. Everything but the text is fetched from the host when it is asked for."""

    __slots__ = ("_outcome", "_text")

    def __init__(self, outcome: Any) -> None:
        self._outcome = outcome
        self._text: str | None = None

    @property
    def text(self) -> str:
        """The whole output; of a `select`, the choice."""
        if self._text is None:
            self._text = self._outcome.text()
        return self._text

    @property
    def tokens(self) -> list[int]:
        """The tokens generated."""
        return list(self._outcome.tokens())

    @property
    def finish_reason(self) -> str:
        """`stop`, `length` or `end-of-text`."""
        return str(self._outcome.finish_reason())

    @property
    def matched(self) -> str | None:
        """The stop string, regex match or stop token's text that ended it."""
        matched: str | None = self._outcome.matched()
        return matched

    @property
    def logprobs(self) -> list[TokenLogprob]:
        """Of each generated token, if `top_logprobs_num` asked for them."""
        return logprobs_from_host(self._outcome.logprobs())

    def top_logprobs(self, position: int) -> list[TokenLogprob]:
        """The alternatives at one position of the output, likeliest first."""
        return logprobs_from_host(self._outcome.top_logprobs(position))

    @property
    def prompt_tokens(self) -> int:
        """Tokens before the output, cached ones included."""
        return int(self._outcome.prompt_tokens())

    @property
    def cached_tokens(self) -> int:
        """Of those, tokens that the cache already held."""
        return int(self._outcome.cached_tokens())

    @property
    def completion_tokens(self) -> int:
        """Tokens generated."""
        return int(self._outcome.completion_tokens())

    @property
    def forced_tokens(self) -> int:
        """Of those, tokens that nobody sampled, because the constraint allowed nothing else."""
        return int(self._outcome.forced_tokens())

    @property
    def choice(self) -> int | None:
        """Of a `select`: which choice was taken, counted from 0."""
        choice: int | None = self._outcome.choice()
        return choice

    @property
    def scores(self) -> list[float]:
        """Of a `select`: the score of each choice that the method compared."""
        return list(self._outcome.scores())

    def __repr__(self) -> str:
        return f"Outcome({self.text!r}, {self.finish_reason})"
