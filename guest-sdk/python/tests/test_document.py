"""The programs of SGLang's document run as they are written there."""

import json

from support import TestCase

import sglang_document as document


class Document(TestCase):
    def test_the_notebook_runs(self):
        document.said.clear()
        document.notebook()
        self.assertEqual(
            document.said,
            ["«answer»", "«first_answer»", "«second_answer»", "calculator", "«expression»", "«summary»", "«answer»"]
            + ["«json_output»", "Answer 1: «answer»", "Answer 2: «answer»", "Answer 3: «answer»"]
            + ["<user>What is the capital of France?</><assistant>«answer»</>", "«answer»", "«answer»"],
        )

    def test_the_batch_starts_before_it_waits(self):
        document.text_qa.run_batch([{"question": "a"}, {"question": "b"}])
        self.assertEqual([it for it in self.host.log if "answer" in it][:2], ["start answer", "start answer"])

    def test_runs_options_are_defaults(self):
        document.text_qa.run(question="a", temperature=0.1, max_new_tokens=9, backend=None)
        self.assertEqual(
            sorted(self.host.options[0]),
            [("max_tokens", 9), ("name", "answer"), ("stop", "\n"), ("temperature", 0.1)],
        )

    def test_forks_are_under_way_together(self):
        self.run_program(document.tip_suggestion)
        steps = [it for it in self.host.log if it.endswith("detailed_tip")]
        self.assertEqual(steps[:3], ["start detailed_tip", "start detailed_tip", "finished detailed_tip"])

    def test_a_program_that_returns_its_state_has_no_result(self):
        self.assertIsNone(self.run_program(document.multi_turn_qa))

    def test_each_says_what_it_takes(self):
        def takes(program):
            return json.loads(program.describe())["arguments"]["properties"]

        self.assertEqual(takes(document.basic_qa), {"question": {"type": "string"}})
        self.assertEqual(takes(document.chat_example), {})
        self.assertEqual(takes(document.image_qa), {"image_file": {"type": "string"}, "question": {"type": "string"}})

    def test_what_is_written_in_a_block_or_at_once_is_the_same(self):
        document.chat_example(self.state)
        expect = (
            "<system>You are a helpful assistant.</><user>Question: What is the capital of France?</>"
            "<assistant>Answer: «answer»</>"
        )
        self.assertEqual(self.text(), expect)
