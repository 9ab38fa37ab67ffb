"""The component's exports: how a run's end is told, whatever the end."""

import asyncio
import contextlib
import io
import json
import sys

from support import HERE, TestCase

import componentize_py_async_support
from componentize_py_types import Err

sys.path.insert(0, str(HERE / "ends"))

from sglhost import component  # noqa: E402


class Ends(TestCase):
    def end(self, how):
        """What the run gives back, or how its error is told; and its log."""
        log = io.StringIO()

        async def run():
            componentize_py_async_support._future_state.set(componentize_py_async_support.FutureState())
            return await component.WitWorld().run_program(json.dumps({"how": how}))

        with contextlib.redirect_stderr(log):
            try:
                end = asyncio.run(run())
            except Err as error:
                end = f"{error.value.code}: {error.value.message}"
        return end, log.getvalue()

    def test_a_value_is_the_result(self):
        self.assertEqual(self.end("value"), ('{"é":[1,null,"a"]}', ""))
        self.assertEqual(self.end("state"), ("null", ""))
        self.assertEqual(json.loads(component.WitWorld().describe())["description"], "Ends so.")

    def test_an_exception_is_told_with_its_place(self):
        end, log = self.end("raise")
        self.assertEqual(end, "program: ValueError: the tea is cold (program.py:15)")
        self.assertTrue(log.startswith("Traceback (most recent call last):\n"), log)
        self.assertIn('program.py", line 15, in ends\n    raise ValueError("the tea is cold")\n', log)
        self.assertTrue(log.endswith("ValueError: the tea is cold\n"), log)
        self.assertNotIn("component.py", log)
        end, _ = self.end("deep")
        self.assertEqual(end, "program: ValueError: invalid literal for int() with base 10: 'xdeep' (program.py:17)")

    def test_the_place_is_the_authors(self):
        end, log = self.end("library")
        self.assertEqual(end, "program: ValueError: invalid width 0 (must be > 0) (program.py:42)")
        self.assertIn("textwrap.py", log)
        end, _ = self.end("import")
        self.assertIn("so import it at the top of program.py (program.py:38)", end)

    def test_what_caused_it_is_in_the_log(self):
        end, log = self.end("chain")
        self.assertEqual(end, "program: RuntimeError: no tea\nat all (program.py:36)")
        self.assertIn("KeyError: 'tea'\n\nThe above exception was the direct cause", log)

    def test_an_exit_is_told_with_its_code(self):
        self.assertEqual(self.end("exit")[0], "program: the program exits with code 3 (program.py:19)")
        self.assertEqual(
            self.end("exit with words")[0], "program: the program exits with code 1: no tea (program.py:21)"
        )

    def test_errors_of_the_sdk_keep_their_code(self):
        end, log = self.end("own")
        self.assertEqual(end, "program: no tea left")
        self.assertIn("line 23, in ends", log)
        end, log = self.end("host")
        self.assertEqual(end, "invalid: top_p is 2")
        self.assertIn('line 25, in ends\n    s += gen("x", top_p=2.0)', log)
        self.assertNotIn("state.py", log)

    def test_a_result_that_is_no_json_is_told(self):
        self.assertIn("program: the result cannot be written as JSON: Object of type set", self.end("set")[0])
        self.assertIn("program: the result cannot be written as JSON: Out of range float", self.end("infinite")[0])
        self.assertIn("program: the result cannot be written as JSON: 'utf-8' codec can't", self.end("half")[0])

    def test_what_is_no_exception_of_programs_is_told(self):
        self.assertIn("program: KeyboardInterrupt (program.py:", self.end("interrupt")[0])

    def test_of_a_group_with_one_failure_that_is_told(self):
        self.assertEqual(self.end("group")[0], "program: no tea left")

    def test_endless_recursion_is_told(self):
        end, log = self.end("recurse")
        self.assertIn("program: RecursionError: maximum recursion depth exceeded", end)
        self.assertLess(log.count("line 47"), 30)
