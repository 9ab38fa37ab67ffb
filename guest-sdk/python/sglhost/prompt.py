"""What is appended to a state: text, generated text, images and role markers, joined with `+` as in SGLang."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Union

if TYPE_CHECKING:
    from .generate import Gen

__all__ = [
    "Prompt",
    "assistant",
    "assistant_begin",
    "assistant_end",
    "image",
    "markup",
    "role",
    "role_begin",
    "role_end",
    "system",
    "system_begin",
    "system_end",
    "text",
    "tokens",
    "user",
    "user_begin",
    "user_end",
]


class Prompt:
    """Pieces to append, in order; `+` joins them, and text, to more."""

    __slots__ = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """The pieces."""
        raise NotImplementedError

    def __add__(self, other: Content) -> Prompt:
        if not isinstance(other, (str, Prompt)):
            return NotImplemented
        return Joined(self.parts + parts_of(other))

    def __radd__(self, other: Content) -> Prompt:
        if not isinstance(other, (str, Prompt)):
            return NotImplemented
        return Joined(parts_of(other) + self.parts)

    def __format__(self, spec: str) -> NoReturn:
        raise TypeError('what is generated has no text yet: join it with +, as in "Answer: " + gen("answer")')


Content = Union[str, Prompt]
"""Whatever can be appended."""


class Joined(Prompt):
    """Several pieces."""

    __slots__ = ("_parts",)

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self._parts = parts

    @property
    def parts(self) -> tuple[Part, ...]:
        return self._parts

    def __repr__(self) -> str:
        return " + ".join(map(repr, self._parts)) or "''"


@dataclass(frozen=True)
class Markup:
    """See `markup`."""

    text: str


@dataclass(frozen=True)
class Tokens:
    """See `tokens`."""

    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Image:
    """See `image`."""

    bytes: bytes


@dataclass(frozen=True)
class BeginRole:
    """See `role_begin`."""

    role: str


@dataclass(frozen=True)
class EndRole:
    """See `role_end`."""


Part = Union[str, Markup, Tokens, Image, BeginRole, EndRole, "Gen"]
"""One piece of a prompt; a plain `str` is plain text."""


def parts_of(content: Content) -> tuple[Part, ...]:
    """The pieces of whatever can be appended.

    Raises:
        TypeError: It cannot be appended.
    """
    if isinstance(content, str):
        return (content,)
    if isinstance(content, Prompt):
        return content.parts
    hint = "; its str() can" if isinstance(content, (int, float)) else ""
    raise TypeError(f"text, gen(..) and the like can be appended, and this is of type {type(content).__name__}{hint}")


def text(text: str) -> Prompt:
    """Plain text; never becomes control tokens, whatever it says. A `str` is the same."""
    return Joined((text,))


def markup(text: str) -> Prompt:
    """Text in which the model's special tokens are recognised. Never pass it what a user wrote: it can forge roles."""
    return Joined((Markup(text),))


def tokens(tokens: list[int] | tuple[int, ...]) -> Prompt:
    """Tokens of the model, as they are."""
    return Joined((Tokens(tuple(tokens)),))


def image(data: bytes | str) -> Prompt:
    """A picture: the bytes of a PNG, JPEG, WebP or GIF (first frame), or those bytes as base64 text.

    An argument of a program is JSON, which has no bytes: `image(argument)` with base64, or a `data:` URL, in it.
    """
    if isinstance(data, str):
        encoded = data.partition(",")[2] if data.startswith("data:") else data
        try:
            data = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("an image is its bytes, or those as base64 text; a program can open no files") from None
    return Joined((Image(bytes(data)),))


def role(role: str, content: Content = "") -> Prompt:
    """A whole message of any role that the model's chat template knows."""
    return Joined((BeginRole(role), *parts_of(content), EndRole()))


def role_begin(role: str) -> Prompt:
    """The beginning of a message of any role."""
    return Joined((BeginRole(role),))


def role_end() -> Prompt:
    """The end of the message that was begun last."""
    return Joined((EndRole(),))


def system(content: Content = "") -> Prompt:
    """A whole system message."""
    return role("system", content)


def user(content: Content = "") -> Prompt:
    """A whole message of the user."""
    return role("user", content)


def assistant(content: Content = "") -> Prompt:
    """A whole message of the assistant: `s += assistant("Answer: " + gen("answer"))`."""
    return role("assistant", content)


def system_begin() -> Prompt:
    """The beginning of a system message."""
    return role_begin("system")


def system_end() -> Prompt:
    """The end of a system message."""
    return role_end()


def user_begin() -> Prompt:
    """The beginning of a message of the user."""
    return role_begin("user")


def user_end() -> Prompt:
    """The end of a message of the user."""
    return role_end()


def assistant_begin() -> Prompt:
    """The beginning of a message of the assistant."""
    return role_begin("assistant")


def assistant_end() -> Prompt:
    """The end of a message of the assistant."""
    return role_end()
