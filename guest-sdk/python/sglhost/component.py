"""The component's exports. componentize-py starts here: it imports `program.py` while the component is built, and what
is in memory then is there when a run begins."""

from __future__ import annotations

import ast
import asyncio
import codecs
import contextlib
import gc
import importlib
import io
import json
import linecache
import os
import re
import sys
import traceback
from collections.abc import Iterator
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

ENCODINGS = ("ascii", "idna", "latin-1", "cp1252", "utf-8-sig", "utf-16", "utf-32", "unicode-escape", "hex", "base64")
"""Encodings that are there beside UTF-8."""

_sdk = os.path.dirname(__file__)
_files: set[str] = set()
"""The author's files."""


class _Output(io.TextIOWrapper):
    """Standard output. What is printed while a component is built is lost: the tool would take no more than 10 KB."""

    def write(self, text: str) -> int:
        return super().write(text) if _host.is_running() else len(text)


def _load() -> Function[Any, Any]:
    """Imports the author's program. What is wrong with it is written between two marks, for `sglhost build` to show."""
    sys.dont_write_bytecode = True  # Nothing is left in the author's folders.
    if sys.platform == "wasi":
        sys.stdout = _Output(sys.stdout.buffer, encoding="utf-8", write_through=True)
    try:
        return program_of(__import__(MODULE))
    except BaseException as error:
        _remember_sources()
        told = f"program.py calls exit({error.code!r}) while it is imported\n" if isinstance(error, SystemExit) else ""
        raise RuntimeError(MARK + told + _traceback(error).rstrip() + MARK) from None


def _authors() -> Iterator[tuple[Any, str]]:
    """The modules that are neither Python's nor the SDK's, and their files."""
    # Some of Python's are part of the interpreter, and tell another folder.
    others = (os.path.dirname(os.__file__), os.path.dirname(linecache.__file__), _sdk, "/bundled/", "/world/")
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path and path.endswith(".py") and not path.startswith(others):
            yield module, path


def _remember_sources() -> None:
    """Keeps the lines of the author's files, for tracebacks: a run can read no files."""
    for _, path in _authors():
        lines = linecache.getlines(path)
        # Without a time, nobody looks whether the file has changed.
        linecache.cache[path] = (sum(map(len, lines)), None, lines, path)
        _files.add(path)


def _import_ahead() -> None:
    """Imports what functions would import when they are called: then there are no files to import from."""
    for name in ENCODINGS:
        codecs.lookup(name)
    importlib.import_module("_strptime")
    seen: set[str] = set()
    while new := [it for it in _authors() if it[1] not in seen]:
        for module, path in new:
            seen.add(path)
            for node in ast.walk(ast.parse("".join(linecache.getlines(path)))):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = ["." * node.level + (node.module or "")]
                for name in names:
                    # What is missing may be meant to be: `try: import ..`, `except ImportError:`.
                    with contextlib.suppress(Exception):
                        importlib.import_module(name, module.__package__)


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
        except BaseException as error:
            _log(error)
            # Of a task group with one failure that failure is what happened.
            while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
            if isinstance(error, SglError):
                raise _host.to_host(error) from None
            said = f"{type(error).__name__}: {error}".removesuffix(": ")
            if isinstance(error, ModuleNotFoundError):
                said += ": a run can read no files, so import it at the top of program.py"
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
        text = json.dumps(result, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()  # Half a character (a lone surrogate) is in no text.
        return text
    except (TypeError, ValueError, RecursionError) as error:
        raise SglError(f"the result cannot be written as JSON: {error}") from None


def _exit_code(error: SystemExit) -> int:
    """As the shell would see it."""
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1


def _is_authors(frame: FrameType) -> bool:
    return frame.f_code.co_filename in _files


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
    whole = told = traceback.TracebackException.from_exception(error)
    while told is not None:
        theirs = [frame for frame in told.stack if not frame.filename.startswith((_sdk, "<frozen"))]
        told.stack = traceback.StackSummary.from_list((theirs or list(told.stack))[-FRAMES_MAX:])
        if not theirs and told is whole and isinstance(error, (SglError, SyntaxError)):
            return _as_known("".join(traceback.format_exception_only(error)))
        told = told.__cause__ or (None if told.__suppress_context__ else told.__context__)  # type: ignore[assignment]
    return _as_known("".join(whole.format()))


def _as_known(text: str) -> str:
    """Names files by their paths below the folder that they were imported from."""
    return re.sub(r'File "/[0-9]+/', 'File "', text)


_program = _load()
_description = _program.describe()
_import_ahead()
_remember_sources()
# All there is now stays: a run's collector need not walk it, and so leaves the pages that all runs share as they are.
gc.collect()
gc.freeze()
