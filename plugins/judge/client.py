#!/usr/bin/env python3
"""judge, from the client's side: the same steps as src/lib.rs, each a completion call."""

import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "client"))
from sglhost_client import gen, main, parallel, select

import json

ESSAY = (FOLDER / "essay.txt").read_text()
DIMENSIONS = ["clarity", "originality", "evidence", "structure", "persuasiveness"]
REPORT = r'\{"summary": "[A-Z][^".\\\n]{10,200}\.", "grade": "[ABCDF][+-]?"\}'


def judge(s, essay=ESSAY, dimensions=DIMENSIONS):
    """Judges an essay in several dimensions at the same time, then merges the judgments into a grade."""
    s.system("You are a strict but fair teacher who judges essays.")
    s.user("Please read this essay.\n\n", essay)
    s.assistant("I have read the essay. What shall I judge?")

    def judge_dimension(f, dimension):
        f.user(
            f"Judge the {dimension} of the essay in one sentence, then give a score from 1 (poor) to 5 (excellent)."
        )
        f.assistant("Judgment:", gen("judgment", stop="\n"), "\nScore: ", select("score", "12345"))
        return f

    forks = parallel(judge_dimension, s.fork(len(dimensions)), dimensions)

    s.user("Now judge the essay as a whole. Give a summary and a grade from A to F, as JSON.")
    s.begin("assistant")
    for f, dimension in zip(forks, dimensions):
        s.append(f"{dimension} ({f['score']} of 5):{f['judgment']}\n")
    s.append(gen("report", regex=REPORT, max_tokens=256))
    s.end()

    report = json.loads(s["report"])
    scores = [int(f["score"]) for f in forks]
    return {"grade": report["grade"], "summary": report["summary"], "dimensions": dimensions, "scores": scores}


if __name__ == "__main__":
    main(judge)
