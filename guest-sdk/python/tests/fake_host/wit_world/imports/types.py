"""See ../../README.md."""

from dataclasses import dataclass


@dataclass
class Error:
    code: str
    message: str
    retryable: bool


@dataclass
class TokenLogprob:
    token: int
    bytes: bytes
    logprob: float
