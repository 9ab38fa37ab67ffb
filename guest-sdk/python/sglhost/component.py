"""The component's exports. componentize-py starts here: it imports `program.py` while the component is built, and what
is in memory then is there when a run begins."""

from __future__ import annotations

import asyncio
import gc
import json
import linecache
import os
import re
import sys
import traceback
from types import FrameType, TracebackType
from typing import Any

import wit_world  # type: ignore[import-not-found]

from . import _host
from .errors import SglError
from .program import Function, execute, program_of

MODULE = "program"
"""The author's file, without `.py`."""
MARK = "\x1e"
"""Around what is wrong with a program that cannot be imported."""
FRAMES_MAX = 20
"""Frames of a traceback that are told, those nearest to the error."""

_sdk = os.path.dirname(__file__)


def _load() -> Function[Any, Any]:
    """Imports the author's program. What is wrong with it is written between two marks, for `sglhost build` to show."""
    try:
        return program_of(__import__(MODULE))
    except BaseException as error:
        _remember_sources()
        told = f"program.py calls exit({error.code!r}) while it is imported\n" if isinstance(error, SystemExit) else ""
        raise RuntimeError(MARK + told + _traceback(error) + MARK) from None


def _remember_sources() -> None:
    """Keeps the lines of the author's files, for tracebacks: a run can read no files."""
    standard = os.path.dirname(os.__file__)
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path and path.endswith(".py") and not path.startswith((standard, _sdk)):
            lines = linecache.getlines(path)
            # Without a time, nobody looks whether the file has changed.
            linecache.cache[path] = (sum(map(len, lines)), None, lines, path)


class WitWorld(wit_world.WitWorld):  # type: ignore[misc]
    """What the host calls."""

    def describe(self) -> str:
        """Name, description, and JSON Schema of the arguments, as JSON."""
        return _description

    async def run_program(self, arguments: str) -> str:
        """A run: arguments and result are JSON."""
        _host.begin_run()
        try:
            try:
                result = await execute(_program, arguments)
                return _to_json(result)
            finally:
                _host.forget_waiting()
        except SglError as error:
            _log(error)
            raise _host.to_host(error) from None
        except SystemExit as error:
            place = _place(error.__traceback__)
            said = f": {error.code}" if isinstance(error.code, str) else ""
            ended = SglError(f"the program exits with code {_exit_code(error)}{said}{place}")
            raise _host.to_host(ended) from None
        except (Exception, asyncio.CancelledError) as error:
            _log(error)
            said = f"{type(error).__name__}: {error}".removesuffix(": ")
            raise _host.to_host(SglError(said + _place(error.__traceback__))) from None
        finally:
            sys.stdout.flush()
            sys.stderr.flush()


def _to_json(result: Any) -> str:
    """What the program returned, as JSON.

    Raises:
        SglError: It has no JSON form.
    """
    try:
        return json.dumps(result, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise SglError(f"the result cannot be written as JSON: {error}") from None


def _exit_code(error: SystemExit) -> int:
    """As the shell would see it."""
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1


def _is_authors(frame: FrameType) -> bool:
    path = frame.f_code.co_filename
    return path in linecache.cache and not path.startswith(_sdk)


def _place(trace: TracebackType | None) -> str:
    """Where the author's own code was when it went wrong, as in " (program.py:12)"."""
    place = ""
    while trace is not None:
        if _is_authors(trace.tb_frame):
            place = f" ({os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno})"
        trace = trace.tb_next
    return place


def _log(error: BaseException) -> None:
    """Writes the traceback to the run's log."""
    print(_traceback(error), end="", file=sys.stderr)


def _traceback(error: BaseException) -> str:
    """The traceback, of the author's own files if they are in it, by the names that the author knows them by."""
    told: traceback.TracebackException | None = traceback.TracebackException.from_exception(error)
    assert told is not None
    whole = told
    while told is not None:
        theirs = [frame for frame in told.stack if not frame.filename.startswith((_sdk, "<frozen"))]
        told.stack = traceback.StackSummary.from_list((theirs or list(told.stack))[-FRAMES_MAX:])
        told = told.__cause__ or (None if told.__suppress_context__ else told.__context__)
    text = "".join(whole.format())
    return re.sub(r'File "/[0-9]+/', 'File "', text)


_program = _load()
_description = _program.describe()
_remember_sources()
# All there is now stays: a run's collector need not walk it, and so leaves the pages that all runs share as they are.
gc.collect()
gc.freeze()
