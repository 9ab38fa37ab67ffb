"""Arguments of a program: from a function's signature to JSON Schema, and from the JSON object of a run to values."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import SglError

__all__ = ["Argument", "arguments_of", "describe", "take"]

_NONE = type(None)


@dataclass(frozen=True)
class Argument:
    """One argument of a program, after the state."""

    name: str
    description: str
    schema: Mapping[str, Any]
    """JSON Schema of its values, without description and default."""
    required: bool
    default: Any
    """What the function is given when the caller gives nothing, unless it is required."""
    has_default: bool
    """Whether the default is told to callers: not the `None` of an `Optional`."""


def arguments_of(function: Callable[..., Any]) -> tuple[str, list[Argument]]:
    """The description of a program and its arguments, by its signature and docstring.

    Raises:
        TypeError: A parameter is none that a run could give.
    """
    description, described = _docstring(inspect.getdoc(function) or "")
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        raise TypeError(f"the first parameter of {function.__name__} is its state: def {function.__name__}(s, ..)")
    arguments = [_argument(parameter, hints, described) for parameter in parameters[1:]]
    unknown = set(described) - {argument.name for argument in arguments}
    if unknown:
        names = ", ".join(sorted(unknown))
        raise TypeError(f"the docstring of {function.__name__} describes {names}, which is no argument")
    return description, arguments


def _argument(parameter: inspect.Parameter, hints: Mapping[str, Any], described: Mapping[str, str]) -> Argument:
    name = parameter.name
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise TypeError(f"a program is given its arguments by name, and {parameter} takes none")
    has_default = parameter.default is not parameter.empty
    default = parameter.default if has_default else None
    hint = hints.get(name, _hint_of(default) if default is not None else str)
    description = described.get(name, "")
    extra: dict[str, Any] = {}
    if typing.get_origin(hint) is typing.Annotated:
        hint, *notes = typing.get_args(hint)
        for note in notes:
            if isinstance(note, str):
                description = description or note
            elif isinstance(note, Mapping):
                extra.update(note)
    hint, optional = _without_none(hint)
    schema = {**_schema_of(hint, name), **extra}
    if has_default and default is not None:
        problem = _check(default, schema)
        if problem is not None:
            raise TypeError(f"the default of {name} {problem}")
    return Argument(
        name=name,
        description=" ".join(description.split()),
        schema=schema,
        required=not has_default and not optional,
        default=default,
        has_default=has_default and default is not None,
    )


def _hint_of(default: Any) -> Any:
    """The type of a parameter that has none, by its default."""
    if isinstance(default, list) and default:
        return list[type(default[0])]  # type: ignore[misc]
    return type(default)


def _without_none(hint: Any) -> tuple[Any, bool]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        others = [it for it in typing.get_args(hint) if it is not _NONE]
        if len(others) < len(typing.get_args(hint)):
            return (others[0] if len(others) == 1 else typing.Union[tuple(others)]), True
    return hint, False


def _schema_of(hint: Any, name: str) -> dict[str, Any]:
    origin, of = typing.get_origin(hint), typing.get_args(hint)
    simple = {str: "string", bool: "boolean", int: "integer", float: "number"}
    if hint in simple:
        return {"type": simple[hint]}
    if hint is Any or hint is object:
        return {}
    if hint in (dict, Mapping) or origin in (dict, Mapping):
        return {"type": "object"}
    if hint in (list, Sequence):
        return {"type": "array"}
    if origin in (list, Sequence):
        return {"items": _schema_of(of[0], name), "type": "array"}
    if origin is typing.Literal and all(isinstance(it, str) for it in of):
        return {"enum": list(of), "type": "string"}
    written = getattr(hint, "__name__", str(hint))
    raise TypeError(
        f"{name} is of type {written}, which a run cannot give: "
        "take str, int, float, bool, list[..], dict, Literal[..], Optional[..] or Any"
    )


def schema_of_dataclass(of: type) -> dict[str, Any]:
    """JSON Schema of a dataclass, properties in the order of its fields. Those without a default are required.

    Raises:
        TypeError: It is none, or a field is of a type that JSON does not have.
    """
    if not dataclasses.is_dataclass(of):
        raise TypeError(f"a schema is text, a dict, or a dataclass, and {of.__name__} is none of these")
    hints = typing.get_type_hints(of)
    missing = dataclasses.MISSING
    fields = dataclasses.fields(of)
    return {
        "type": "object",
        "properties": {it.name: _schema_of_field(hints[it.name], it.name) for it in fields},
        "required": [it.name for it in fields if it.default is missing and it.default_factory is missing],
        "additionalProperties": False,
    }


def _schema_of_field(hint: Any, name: str) -> dict[str, Any]:
    hint, optional = _without_none(hint)
    if optional:
        return {"anyOf": [_schema_of_field(hint, name), {"type": "null"}]}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return schema_of_dataclass(hint)
    if typing.get_origin(hint) in (list, Sequence):
        return {"type": "array", "items": _schema_of_field(typing.get_args(hint)[0], name)}
    return _schema_of(hint, name)


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """A docstring's description, lines joined as Markdown would, and what it says under `Args:`."""
    before, *sections = re.split(r"(?m)^(\w[\w ]*):[ \t]*$", text)
    described: dict[str, str] = {}
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        if title not in ("Args", "Arguments", "Parameters"):
            continue
        found = ""
        for line in inspect.cleandoc(body).splitlines():
            start = re.match(r"(\w+)\s*(?:\([^)]*\))?:\s*(.*)", line)
            if start:
                found = start[1]
                described[found] = start[2]
            elif found and line.strip():
                described[found] += " " + line.strip()
    paragraphs = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", before)]
    return "\n\n".join(filter(None, paragraphs)), described


def describe(name: str, description: str, arguments: Sequence[Argument]) -> str:
    """The program's description as a JSON document, with the arguments in the order of the function."""
    properties = {}
    for argument in arguments:
        schema = dict(argument.schema)
        if argument.description:
            schema["description"] = argument.description
        if argument.has_default:
            schema["default"] = argument.default
        properties[argument.name] = dict(sorted(schema.items()))
    document = {
        "name": name,
        "description": description,
        "arguments": {
            "type": "object",
            "properties": properties,
            "required": [argument.name for argument in arguments if argument.required],
            "additionalProperties": False,
        },
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def take(arguments: Sequence[Argument], given_as_json: str) -> dict[str, Any]:
    """The values of a run's arguments, by name.

    Raises:
        SglError: `invalid`: one is missing, unknown, or of another type.
    """
    try:
        given = json.loads(given_as_json if given_as_json.strip() else "{}")
    except ValueError as error:
        raise SglError(f"the arguments are no JSON: {error}", "invalid") from None
    if not isinstance(given, dict):
        raise SglError("the arguments must be a JSON object of names and values", "invalid")
    known = [argument.name for argument in arguments]
    for name in given:
        if name not in known:
            takes = ", ".join(known) or "no arguments"
            raise SglError(f"unknown argument {_written(name)}; the program takes {takes}", "invalid")
    return {argument.name: _take(argument, given) for argument in arguments}


def _take(argument: Argument, given: Mapping[str, Any]) -> Any:
    value = given.get(argument.name)
    if argument.required and argument.name not in given:
        raise SglError(f"missing argument {_written(argument.name)}", "invalid")
    if value is None and not argument.required:
        return argument.default
    problem = _check(value, argument.schema)
    if problem is not None:
        raise SglError(f"argument {_written(argument.name)} {problem}", "invalid")
    return _converted(value, argument.schema)


def _check(value: Any, schema: Mapping[str, Any]) -> str | None:
    """What is wrong with a value, as in "must be an integer, and is text". The host has checked the whole schema."""
    kind = schema.get("type")
    if kind == "string" and not isinstance(value, str):
        return _must_be("text", value)
    if kind == "boolean" and not isinstance(value, bool):
        return _must_be("true or false", value)
    if kind in ("integer", "number"):
        wanted = "an integer" if kind == "integer" else "a number"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return _must_be(wanted, value)
        if kind == "integer" and value != int(value):
            return f"must be an integer, and is {value}"
        low, high = schema.get("minimum"), schema.get("maximum")
        if low is not None and high is not None and not low <= value <= high:
            return f"must be from {low} to {high}, and is {value}"
    if kind == "object" and not isinstance(value, dict):
        return _must_be("an object", value)
    if kind == "array":
        if not isinstance(value, list):
            return _must_be("a list", value)
        for index, item in enumerate(value):
            problem = _check(item, schema.get("items", {}))
            if problem is not None:
                return f"item {index} {problem}"
    if "enum" in schema and value not in schema["enum"]:
        return f"must be one of {', '.join(map(_written, schema['enum']))}, and is {_written(value)}"
    return None


def _converted(value: Any, schema: Mapping[str, Any]) -> Any:
    """The value as Python has it: a JSON number may be written 3.0 where an integer is wanted, and 3 for a float."""
    kind = schema.get("type")
    if kind == "integer":
        return int(value)
    if kind == "number":
        return float(value)
    if kind == "array":
        return [_converted(item, schema.get("items", {})) for item in value]
    return value


def _must_be(wanted: str, value: Any) -> str:
    names = ((_NONE, "null"), (bool, "a boolean"), ((int, float), "a number"), (str, "text"), (list, "a list"))
    is_ = next((name for kind, name in names if isinstance(value, kind)), "an object")
    return f"must be {wanted}, and is {is_}"


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
