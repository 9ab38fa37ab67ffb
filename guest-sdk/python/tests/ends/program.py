"""Ends in every way that a program can end. `test_component.py` runs it, and knows its lines."""

import math
import sys

from sglhost import SglError, function, gen


@function
def ends(s, how: str):
    """Ends so."""
    if how == "value":
        return {"é": [1, None, "a"]}
    if how == "raise":
        raise ValueError("the tea is cold")
    if how == "deep":
        int("x" + how)
    if how == "exit":
        sys.exit(3)
    if how == "exit with words":
        sys.exit("no tea")
    if how == "own":
        raise SglError("no tea left")
    if how == "host":
        s += gen("x", top_p=2.0)
    if how == "set":
        return {1, 2}
    if how == "infinite":
        return math.inf
    if how == "recurse":
        return recurse(1)
    if how == "chain":
        try:
            raise KeyError("tea")
        except KeyError as error:
            raise RuntimeError("no tea\nat all") from error
    if how == "import":
        import mailcap_of_ours  # noqa: F401
    if how == "library":
        import textwrap

        textwrap.wrap("tea", 0)
    if how == "half":
        return "\ud800"
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "group":
        raise ExceptionGroup("of tasks", [SglError("no tea left")])
    return s


def recurse(depth):
    return recurse(depth + 1) + 1
