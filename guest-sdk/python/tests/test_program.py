"""What `@function` makes of a function: its description, its arguments, and which one a file's program is."""

import json
import sys
import types
from typing import Annotated, Any, Literal, Optional

from support import TestCase

import sglhost._host
from sglhost import SglError, State, function
from sglhost.arguments import take
from sglhost.program import program_of


@function
def answer(
    s,
    question: Annotated[str, "What to ask."],
    max_tokens: Annotated[int, {"minimum": 0, "maximum": 4294967295}] = 512,
    language: str = "en",
    hints: Optional[list[str]] = None,
):
    """Answers a question,
    or several.

    Args:
        language: Language of
            the answer.

    Returns:
        Nothing.
    """


@function
def nothing(s):
    pass


@function
def every_type(
    s,
    untyped,
    a: int,
    b: float,
    c: bool,
    d: "list[int]",
    e: dict,
    f: Any,
    g: Literal["x", "y"],
    h: str | None,
    i=0.5,
    j=[1],
):
    """Text — é.

    More."""


class Descriptions(TestCase):
    def test_a_function_describes_itself_as_in_rust(self):
        # The same text as in guest-sdk/rust/tests/describe.rs.
        expect = (
            '{"name":"answer","description":"Answers a question, or several.","arguments":{"type":"object",'
            '"properties":{"question":{"description":"What to ask.","type":"string"},'
            '"max_tokens":{"default":512,"maximum":4294967295,"minimum":0,"type":"integer"},'
            '"language":{"default":"en","description":"Language of the answer.","type":"string"},'
            '"hints":{"items":{"type":"string"},"type":"array"}},'
            '"required":["question"],"additionalProperties":false}}'
        )
        self.assertEqual(answer.describe(), expect)
        expect = (
            '{"name":"nothing","description":"","arguments":{"type":"object","properties":{},'
            '"required":[],"additionalProperties":false}}'
        )
        self.assertEqual(nothing.describe(), expect)

    def test_types_are_schemas(self):
        described = json.loads(every_type.describe())
        self.assertEqual(described["description"], "Text — é.\n\nMore.")
        self.assertIn("—", every_type.describe())
        self.assertEqual(
            described["arguments"]["properties"],
            {
                "untyped": {"type": "string"},
                "a": {"type": "integer"},
                "b": {"type": "number"},
                "c": {"type": "boolean"},
                "d": {"type": "array", "items": {"type": "integer"}},
                "e": {"type": "object"},
                "f": {},
                "g": {"type": "string", "enum": ["x", "y"]},
                "h": {"type": "string"},
                "i": {"type": "number", "default": 0.5},
                "j": {"type": "array", "items": {"type": "integer"}, "default": [1]},
            },
        )
        self.assertEqual(described["arguments"]["required"], ["untyped", "a", "b", "c", "d", "e", "f", "g"])

    def test_what_cannot_be_a_program_is_refused(self):
        def check(make, message):
            with self.assertRaisesRegex(TypeError, message):
                function(make)

        check(lambda: None, "first parameter")
        check(lambda s, *rest: None, "by name")
        check(lambda s, **rest: None, "by name")

        def complex_argument(s, x: complex):
            pass

        check(complex_argument, "x is of type complex, which a run cannot give")

        def wrong_default(s, x: int = "a"):
            pass

        check(wrong_default, "the default of x must be an integer, and is text")

        def misspelt(s, question):
            """Answers.

            Args:
                qestion: What to ask.
            """

        check(misspelt, "describes qestion, which is no argument")


class Arguments(TestCase):
    def test_arguments_are_taken_by_name(self):
        values = take(answer.arguments, '{"question": "Why?", "language": null, "max_tokens": 3.0}')
        self.assertEqual(values, {"question": "Why?", "max_tokens": 3, "language": "en", "hints": None})
        self.assertIsInstance(values["max_tokens"], int)
        self.assertEqual(take(nothing.arguments, ""), {})
        given = {"untyped": "", "a": 1, "b": 2, "c": True, "d": [1.0], "e": {}, "f": None, "g": "x"}
        values = take(every_type.arguments, json.dumps(given))
        self.assertEqual((values["b"], values["d"], values["f"], values["h"], values["j"]), (2.0, [1], None, None, [1]))
        self.assertEqual((type(values["b"]), type(values["d"][0])), (float, int))

    def test_what_is_wrong_is_told_as_in_rust(self):
        def check(arguments, expect, program=answer):
            with self.assertRaises(SglError) as raised:
                take(program.arguments, arguments)
            self.assertEqual(str(raised.exception), expect)

        check("{}", 'invalid: missing argument "question"')
        check("", 'invalid: missing argument "question"')
        check('{"question": 1}', 'invalid: argument "question" must be text, and is a number')
        check('{"question": null}', 'invalid: argument "question" must be text, and is null')
        check(
            '{"qestion": "Why?"}',
            'invalid: unknown argument "qestion"; the program takes question, max_tokens, language, hints',
        )
        check("[]", "invalid: the arguments must be a JSON object of names and values")
        check(
            '{"question": "", "max_tokens": -1}',
            'invalid: argument "max_tokens" must be from 0 to 4294967295, and is -1',
        )
        check('{"question": "", "max_tokens": 1.5}', 'invalid: argument "max_tokens" must be an integer, and is 1.5')
        check(
            '{"question": "", "max_tokens": true}',
            'invalid: argument "max_tokens" must be an integer, and is a boolean',
        )
        check('{"question": "", "hints": ["a", 2]}', 'invalid: argument "hints" item 1 must be text, and is a number')
        check('{"question": "", "hints": {}}', 'invalid: argument "hints" must be a list, and is an object')
        check("{} x", "invalid: the arguments are no JSON: Extra data: line 1 column 4 (char 3)")

    def test_a_wrong_argument_opens_no_context(self):
        with self.assertRaises(SglError):
            self.run_program(answer)
        self.assertEqual(self.host.contexts, 1, "that of this test")


class Choice(TestCase):
    def module(self, source):
        module = types.ModuleType("program_under_test")
        sys.modules[module.__name__] = module
        exec("from sglhost import function\n" + source, module.__dict__)
        return program_of(module).name

    def test_the_program_of_a_file(self):
        two = "@function\ndef a(s): pass\n@function\ndef b(s): pass\n"
        self.assertEqual(self.module(two), "b")
        self.assertEqual(self.module(two + "program = a\n"), "a")

    def test_a_file_without_one_is_told_so(self):
        module = types.ModuleType("empty")
        module.answer = answer
        with self.assertRaisesRegex(SglError, "has no @function"):
            program_of(module)

    def test_nothing_runs_while_a_file_is_imported(self):
        sglhost._host._running = False
        with self.assertRaisesRegex(RuntimeError, "__main__"):
            State()
