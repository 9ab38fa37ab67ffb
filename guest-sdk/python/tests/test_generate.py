"""What is asked of the model, with which options."""

import json
import re
from dataclasses import dataclass, field
from typing import Literal

from support import TestCase

from sglhost import Constraint, SglError, gen, gen_float, gen_int, gen_string, greedy_token_selection, select
from sglhost.generate import BOOL, FLOAT, INT, STRING


PET = {"type": "object", "properties": {"weight": {"type": "number"}}, "required": ["weight"]}


@dataclass
class Pet:
    weight: float


@dataclass
class Person:
    name: str
    age: int | None
    house: Literal["red", "blue"]
    pets: list[Pet] = field(default_factory=list)


class Options(TestCase):
    def asked(self, asked):
        self.state += asked
        return self.host.options[-1]

    def test_every_option_arrives(self):
        options = self.asked(
            gen(
                "x",
                9,
                2,
                "\n",
                [5, 6],
                ["a", "b"],
                0,
                0.5,
                -1,
                0.25,
                0.125,
                -0.5,
                1.5,
                True,
                True,
                False,
                2**64 - 1,
                {1: -1, 2: 2},
                top_logprobs_num=3,
            )
        )
        self.assertEqual(
            options,
            [
                ("name", "x"), ("max_tokens", 9), ("min_tokens", 2), ("stop", "\n"), ("stop_token", 5),
                ("stop_token", 6), ("stop_regex", "a"), ("stop_regex", "b"), ("temperature", 0.0), ("top_p", 0.5),
                ("top_k", -1), ("min_p", 0.25), ("frequency_penalty", 0.125), ("presence_penalty", -0.5),
                ("repetition_penalty", 1.5), ("ignore_eos", True), ("no_stop_trim", True),
                ("skip_special_tokens", False), ("seed", 2**64 - 1), ("logit_bias", 1, -1.0), ("logit_bias", 2, 2.0),
                ("top_logprobs", 3),
            ],
        )  # fmt: skip
        self.assertEqual(self.asked(gen()), [])
        self.assertEqual(self.asked(gen(return_logprob=True)), [("top_logprobs", 0)])
        self.assertEqual(self.asked(gen(return_logprob=False)), [])

    def test_a_call_has_one_constraint(self):
        def made(asked):
            return [it[1:] for it in self.asked(asked) if it[0] == "constrain"]

        self.assertEqual(made(gen_int("x")), [("regex", INT)])
        self.assertEqual(made(gen("x", dtype="float")), made(gen_float("x")))
        self.assertEqual(made(gen("x", dtype=bool)), [("regex", BOOL)])
        self.assertEqual(made(gen_string("x", max_tokens=3)), [("regex", STRING)])
        self.assertEqual(made(gen("x", json_schema={"b": 1, "a": 2})), [("json_schema", '{"b": 1, "a": 2}')])
        self.assertEqual(made(gen("x", structural_tag={})), [("structural_tag", "{}")])
        self.assertEqual(made(gen("x", lark="start: /a/")), [("lark", "start: /a/")])
        self.assertEqual(made(gen("x", constraint=Constraint.choices(["a"]))), [("choices", ["a"])])

        with self.assertRaisesRegex(ValueError, "a call has one of"):
            gen("x", dtype=int, regex="a")
        with self.assertRaisesRegex(ValueError, "a call has one of"):
            gen("x", choices=["a"], regex="a")

    def test_a_dataclass_is_a_schema(self):
        (kind, schema), *_ = [it[1:] for it in self.asked(gen("p", json_schema=Person)) if it[0] == "constrain"]
        self.assertEqual(kind, "json_schema")
        self.assertEqual(
            json.loads(schema),
            {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "age": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                    "house": {"enum": ["red", "blue"], "type": "string"},
                    "pets": {"type": "array", "items": {**PET, "additionalProperties": False}},
                },
                "required": ["name", "age", "house"],
                "additionalProperties": False,
            },
        )
        self.assertEqual(list(json.loads(schema)["properties"]), ["name", "age", "house", "pets"])
        with self.assertRaisesRegex(TypeError, "a schema is text, a dict, or a dataclass, and int is none"):
            gen("p", json_schema=int)

    def test_a_select_compares_wholes(self):
        self.host.said["tool"] = "b"
        self.state += select("tool", ["a", "b"], choices_method=greedy_token_selection)
        outcome = self.state.outcome("tool")
        self.assertEqual((outcome.text, outcome.choice, outcome.scores), ("b", 1, [-1.0, -1.0]))
        self.assertEqual(self.host.options, [[("name", "tool"), ("choices_method", "greedy-token-selection")]])

    def test_values_that_the_host_cannot_be_given_are_told(self):
        def check(error, message, **options):
            with self.assertRaisesRegex(error, message):
                gen("x", **options)

        check(SglError, "max_tokens must be from 0 to 4294967295, and is -1", max_tokens=-1)
        check(SglError, "seed must be from 0 to", seed=2**64)
        check(TypeError, "max_tokens must be a whole number, and is 2.5", max_tokens=2.5)
        check(TypeError, "top_p must be a number, and is '1'", top_p="1")
        check(TypeError, "choices is a list", choices="ab")
        check(TypeError, "text is wanted", stop=[5])
        check(ValueError, "dtype is int, float, bool or str", dtype=list)

    def test_a_bad_constraint_raises_where_it_is_appended(self):
        with self.assertRaisesRegex(SglError, "^invalid: regex: unclosed group$"):
            self.state += "a" + gen("x", regex="(") + "b"
        self.assertEqual(self.text(), "a")
        self.assertNotIn("x", self.state)


class Typed(TestCase):
    def matching(self, pattern, texts):
        return [text for text in texts if re.fullmatch(pattern, text)]

    def test_what_is_typed_parses_in_python_and_as_json(self):
        good = ["0", "7", "-12", "999999999999999999", "1.5", "0.25", "-0.5", "-0"]
        texts = [*good, "+1", "007", "1.", ".5", "1e5", "1000000000000000000", "", "-", " 1", "1\n", "NaN"]
        self.assertEqual(self.matching(INT, texts), good[:4])
        self.assertEqual(self.matching(FLOAT, texts), good)
        self.assertEqual(self.matching(BOOL, ["true", "false", "True", "1"]), ["true", "false"])
        strings = ['""', '"a b"', '"é🦀"', r'"\"\\\/\b\f\n\r\t"', r'"\u00e9\uD7ff"']
        wrong = ['"', "a", '"a"b"', r'"\x"', r'"\uD800"', r'"\u12"', '"\n"', '"\x7f"']
        self.assertEqual(self.matching(STRING, strings + wrong), strings)
