"""See README.md."""

from dataclasses import dataclass
from typing import Any


@dataclass
class Ok:
    value: Any


@dataclass(frozen=True)
class Err(Exception):
    value: Any
