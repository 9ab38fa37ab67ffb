"""Results, forks, streams, failures; blocking and with `async`."""

import asyncio
import gc

from support import TestCase

from sglhost import AsyncState, SglError, State, emit, emit_async, function, gen, select, user
from wit_world.imports.types import Error

FAILED = Error("too-long", "the prompt is too long", False)


class Results(TestCase):
    def test_results_are_read_by_name_and_the_last_counts(self):
        self.state += gen("a") + gen("b") + gen("a", choices=["1", "2"]) + gen()
        self.assertEqual((self.state["a"], self.state["b"]), ("1", "«b»"))
        self.assertEqual(self.state.get_var("b"), "«b»")
        self.assertTrue("a" in self.state and "c" not in self.state)
        with self.assertRaises(KeyError) as raised:
            self.state["c"]
        self.assertEqual(str(raised.exception), 'invalid: nothing was generated as "c"; there is ["a", "b", "a", ""]')

    def test_a_result_is_waited_for_once(self):
        self.state += gen("a")
        self.assertEqual(self.state["a"] + self.state.get("a"), "«a»«a»")
        self.assertEqual(self.host.log.count("finished a"), 1)

    def test_results_are_parsed(self):
        self.host.said.update(i=" 12 ", f="1.5", b="true", j='{"a": [1]}', cut="12…", t="«x»")
        self.state += gen("i") + gen("f") + gen("b") + gen("j") + gen("cut") + gen("t")
        self.assertEqual(
            (self.state.get("i", int), self.state.get("f", float), self.state.get("b", bool)), (12, 1.5, True)
        )
        self.assertEqual(self.state.get_json("j"), {"a": [1]})
        self.assertEqual(self.state.get("i"), " 12 ")
        with self.assertRaisesRegex(SglError, '^program: the text generated as "t" is no int: "«x»"$'):
            self.state.get("t", int)
        with self.assertRaisesRegex(SglError, 'is no bool: "12…"; it was cut at max_tokens: allow it more$'):
            self.state.get("cut", bool)
        with self.assertRaisesRegex(SglError, "is no JSON: .* [(]Expecting value"):
            self.state.get_json("t")

    def test_an_outcome_tells_all(self):
        self.host.said["x"] = "ab"
        self.state += gen("x")
        outcome = self.state.outcome("x")
        self.assertEqual((outcome.tokens, outcome.finish_reason, outcome.matched), ([97, 98], "stop", None))
        self.assertEqual(
            [(it.token, it.text, it.logprob) for it in outcome.logprobs], [(97, "a", -1.0), (98, "b", -1.0)]
        )
        self.assertEqual(outcome.top_logprobs(1)[0].bytes, b"b")
        self.assertEqual((outcome.prompt_tokens, outcome.cached_tokens, outcome.completion_tokens), (7, 3, 2))
        self.assertEqual((outcome.forced_tokens, outcome.choice, outcome.scores), (0, None, []))
        self.assertEqual(self.state.get_meta_info("x")["completion_tokens"], 2)

    def test_the_programs_own_variables_are_results_too(self):
        self.state["best"] = 3
        self.assertEqual((self.state["best"], self.state.get("best"), self.state.copy()["best"]), (3, 3, 3))
        with self.assertRaisesRegex(SglError, '"best" was set by the program'):
            self.state.outcome("best")

    def test_questions_about_the_conversation(self):
        self.state += "tokens"
        self.assertEqual(self.state.token_count(), 6)
        self.assertEqual([it.text for it in self.state.next_tokens(2)], ["\ufffd", "\ufffd"])
        self.assertEqual([it.token for it in self.state.score("ab")], [97, 98])
        self.state.truncate(3)
        self.assertEqual(self.text(), "tok")
        with self.assertRaisesRegex(SglError, "tokens must be from 0"):
            self.state.truncate(-1)
        emit("note", "hello")
        self.assertIn("emit note hello", self.host.log)


class Streams(TestCase):
    def test_pieces_come_as_they_are_there(self):
        self.state += gen("x")
        self.assertEqual(list(self.state.stream("x")), ["«", "x", "»"])
        self.assertEqual(self.host.log[-3:], ["read x", "read x", "release x"])
        self.assertEqual(self.state["x"], "«x»")
        with self.assertRaisesRegex(SglError, "asked for before"):
            self.state.stream("x")

    def test_a_stream_that_is_left_is_released(self):
        self.state += gen("x")
        self.assertEqual(next(self.state.text_iter("x")), "«")
        self.assertEqual(self.host.log[-1], "release x")
        self.state.cancel("x")
        self.assertEqual(self.host.log[-1], "cancel x")


class Forks(TestCase):
    def test_all_start_before_the_first_is_read(self):
        forks = self.state.fork(4)
        for i, f in enumerate(forks):
            f += f"{i}: " + gen("x")
        self.assertEqual([f["x"] for f in forks], ["«x»"] * 4)
        calls = [it.split()[0] for it in self.host.log if it.endswith(" x")]
        self.assertEqual(calls, ["start"] * 4 + ["finished"] * 4)

    def test_forks_know_what_came_before_and_share_it(self):
        self.state += gen("x")
        f = self.state.copy()
        f += "more"
        self.assertEqual((f["x"], self.state["x"], f.text(), self.text()), ("«x»", "«x»", "«x»more", "«x»"))
        self.assertEqual(self.host.log.count("finished x"), 1)

    def test_forks_as_a_group(self):
        with self.state.fork(2) as forks:
            forks += user("both")
            forks += lambda i: str(i) + gen("x")
            forks += ["a", "b"]
            self.assertEqual([f.text() for f in forks], ["<user>both</>0«x»a", "<user>both</>1«x»b"])
        self.assertEqual((self.state["x"], forks[1]["x"]), (["«x»", "«x»"], "«x»"))
        self.assertEqual(self.host.contexts, 1)
        with self.assertRaisesRegex(SglError, "unsupported"):
            self.state.fork().join("concate_and_append")

    def test_a_state_that_goes_gives_everything_back(self):
        gc.disable()
        try:
            f = self.state.copy()
            f += gen("x")
            del f
            self.assertEqual((self.host.contexts, self.host.log[-1]), (1, "drop x"))
        finally:
            gc.enable()
        f = self.state.copy()
        f += gen("y")
        f.close()
        self.assertEqual((self.host.contexts, self.host.log[-1]), (1, "drop y"))
        with self.assertRaisesRegex(SglError, "the state is closed"):
            f += "more"


class Failures(TestCase):
    def setUp(self):
        super().setUp()
        self.host.said["bad"] = FAILED

    def test_a_failed_call_raises_where_it_is_read(self):
        self.state += gen("bad") + gen("good")
        for read in (lambda: self.state["bad"], lambda: self.state.get("bad"), lambda: self.state.outcome("bad")):
            with self.assertRaisesRegex(SglError, "^too-long: the prompt is too long$") as raised:
                read()
            self.assertFalse(raised.exception.retryable)
        self.assertEqual(self.state["good"], "«good»")
        self.assertEqual(self.state.error().code, "too-long")
        with self.assertRaises(SglError):
            self.state.sync()

    def test_what_nobody_read_ends_the_run(self):
        @function
        def unread(s):
            s += gen("good") + gen("bad")
            return s["good"]

        with self.assertRaisesRegex(SglError, "too-long"):
            self.run_program(unread)

    def test_what_was_caught_does_not(self):
        @function
        def caught(s):
            s += gen("bad")
            try:
                return s["bad"]
            except SglError as error:
                return error.code

        self.assertEqual(self.run_program(caught), "too-long")

    def test_what_nobody_read_is_waited_for(self):
        @function
        def unread(s):
            s += gen("good")

        self.assertIsNone(self.run_program(unread))
        self.assertEqual(self.host.log[-2:], ["finished good", "drop good"])


class Async(TestCase):
    def test_what_waits_is_awaited(self):
        @function
        async def program(s, topic):
            self.assertIsInstance(s, AsyncState)
            s += user(topic) + gen("x", regex="a+") + select("tool", ["a", "b"])
            pieces = [piece async for piece in s.stream("x")]
            await emit_async("note", "hello")
            await s.sync()
            asked = await asyncio.gather(s.text(), s.token_count(), s.score("a"), s.next_tokens(1))
            return [pieces, await s.get("x"), s["tool"], (await s.outcome("tool")).choice, *asked[:2]]

        result = self.run_program(program, '{"topic": "tea"}')
        self.assertEqual(result, [["«", "x", "»"], "«x»", "a", 0, "<user>tea</>«x»a", 16])

    def test_forks_are_gathered(self):
        @function
        async def program(s):
            forks = s.fork(4)
            for i, f in enumerate(forks):
                f += str(i) + gen("x")
            return await asyncio.gather(*(f.get("x") for f in forks))

        self.assertEqual(self.run_program(program), ["«x»"] * 4)
        calls = [it.split()[0] for it in self.host.log if it.endswith(" x")]
        self.assertEqual(calls[:8], ["start"] * 4 + ["finished"] * 4)

    def test_a_cancelled_task_hurts_nobody(self):
        @function
        async def program(s):
            s += gen("x")
            task = asyncio.create_task(s.get("x"))
            await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                return await s.get("x")

        self.assertEqual(self.run_program(program), "«x»")
        import componentize_py_runtime

        componentize_py_runtime.results.clear()  # What the cancelled task would have taken.

    def test_failures_are_raised_where_they_are_awaited(self):
        self.host.said["bad"] = FAILED

        @function
        async def program(s):
            s += gen("bad")
            try:
                await s.get("bad")
            except SglError as error:
                return error.code

        self.assertEqual(self.run_program(program), "too-long")

    def test_blocking_and_async_programs_call_each_other(self):
        @function
        def inner(s, n: int):
            s += str(n) + gen("x")
            return s["x"] + str(n)

        @function
        async def middle(s, n: int):
            s += gen("y")
            return await s.get("y") + inner(n).ret_value

        @function
        async def outer(s):
            own = await middle(1)
            return [own.ret_value, isinstance(own, AsyncState), await middle(s, 2), inner(s, 3), await s.text()]

        self.assertEqual(self.run_program(outer), ["«y»«x»1", True, "«y»«x»2", "«x»3", "«y»3«x»"])


class Calls(TestCase):
    def test_a_program_called_without_a_state_fills_its_own(self):
        @function
        def inner(s, topic, loud=False):
            s += user(topic) + gen("x")
            return topic.upper() if loud else topic

        own = inner("tea", loud=True)
        self.assertIsInstance(own, State)
        self.assertEqual((own["x"], own.ret_value, own.text()), ("«x»", "TEA", "<user>tea</>«x»"))
        self.assertEqual((inner(self.state, "tea"), self.text()), ("tea", "<user>tea</>«x»"))
        self.assertEqual(inner.bind(topic="cake")().ret_value, "cake")
