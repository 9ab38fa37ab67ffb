#!/usr/bin/env python3
"""tree_of_thought, from the client's side: the same steps as src/lib.rs, each a completion call."""

import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "client"))
from sglhost_client import gen, main, parallel, select

import math

PROBLEM = "A farmer has 17 sheep. All but 9 run away, then he buys 5 more. How many sheep has he now?"


def tree_of_thought(s, problem=PROBLEM, depth=3, branches=3, beam=2):
    """Solves a problem by searching over steps of reasoning: thoughts branch, a judge rates them, the best go on."""
    s.system("You solve problems step by step. Each step is one short sentence.")
    s.user("Problem: ", problem)
    s.begin("assistant")

    thoughts, ratings = [s.copy()], []
    for step in range(1, depth + 1):

        def propose(thought, idea):
            thought.append(f"Step {step}, idea {idea}:", gen(f"step_{step}", stop="\n"), "\n")
            return rating(thought)

        proposed = [branch for thought in thoughts for branch in thought.fork(branches)]
        ideas = [i % branches + 1 for i in range(len(proposed))]
        rated = sorted(zip(parallel(propose, proposed, ideas), proposed), key=lambda pair: -pair[0])[:beam]
        ratings, thoughts = map(list, zip(*rated))

    best = thoughts[0]
    best.append("So the answer is", gen("answer", stop="\n"))
    best.end()
    steps = [best[f"step_{step}"].strip() for step in range(1, depth + 1)]
    return {"answer": best["answer"].strip(), "steps": steps, "rating": ratings[0] if ratings else None}


def rating(thought):
    """Asks on a copy how good a line of thought is; the mean of the ratings, weighted by their probabilities."""
    judge = thought.copy()
    judge.end()
    judge.user("How promising are these steps? Rate them from 1 (wrong) to 5 (surely right).")
    judge.assistant("Rating: ", select("rating", "12345"))
    weights = [math.exp(score) for score in judge.scores["rating"]]
    return sum(weight * rating for rating, weight in enumerate(weights, 1)) / sum(weights)


if __name__ == "__main__":
    main(tree_of_thought)
