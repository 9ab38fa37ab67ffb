#!/usr/bin/env python3
"""self_consistency, from the client's side: the same steps as src/lib.rs, each a completion call."""

import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "client"))
from sglhost_client import gen, main, parallel

from collections import Counter

QUESTION = "A box holds 3 rows of 4 eggs. Anna takes 5 eggs. How many eggs are left in the box?"
INSTRUCTIONS = """\
You solve word problems. First reason step by step in a few short sentences, then give the answer.

Question: Tom has 2 bags with 6 apples each and eats 3 apples. How many apples are left?
Reasoning: Tom has 2 * 6 = 12 apples. He eats 3, so 12 - 3 = 9 are left.
Answer: 9."""


def self_consistency(s, question=QUESTION, samples=8, first_seed=1):
    """Answers a question by reasoning several times and taking the answer that most samples come to."""
    s.system(INSTRUCTIONS)
    s.user("Question: ", question)

    def sample(f, seed):
        f.assistant(
            "Reasoning:",
            gen("reasoning", stop="\n", seed=seed),
            "\nAnswer: ",
            gen("answer", regex=r"-?[0-9]{1,6}\.", stop=".", max_tokens=8, seed=seed),
            ".",
        )
        return int(f["answer"])

    answers = parallel(sample, s.fork(samples), range(first_seed, first_seed + samples))
    votes = Counter(answers)
    winner = max(sorted(votes), key=lambda answer: (votes[answer], answer))
    return {"answer": winner, "votes": {str(answer): votes[answer] for answer in sorted(votes)}, "answers": answers}


if __name__ == "__main__":
    main(self_consistency)
