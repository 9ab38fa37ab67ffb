"""What README.md shows runs."""

import re
from pathlib import Path

from support import HERE, TestCase

import sglhost
from sglhost import Function


class Readme(TestCase):
    text = Path(HERE.parent / "README.md").read_text()

    def test_its_programs_run(self):
        blocks = re.findall(r"```python\n(.*?)```", self.text, re.DOTALL)
        ran = {}
        for block in blocks:
            names = {"__name__": "readme"}
            exec(compile(block, "README.md", "exec"), names)
            (program,) = [it for it in names.values() if isinstance(it, Function)]
            given = '{"question": "Why?"}' if program.name == "basic_qa" else "{}"
            ran[program.name] = self.run_program(program, given)
        self.assertEqual(ran, {"basic_qa": None, "ideas": ["«idea»"] * 3, "first_ideas": ["«idea»"] * 3})

    def test_every_name_is_told_of(self):
        written = set(re.findall(r"\w+", self.text))
        untold = {"Forks", "Function", "Gen", "Outcome", "Prompt", "TokenLogprob", "text", "role_begin", "role_end"}
        untold |= {"system_begin", "system_end", "user_begin", "user_end", "greedy_token_selection"}
        untold |= {"token_length_normalized", "unconditional_likelihood_normalized"}
        self.assertEqual(set(sglhost.__all__) - written - untold, set())
