#!/usr/bin/env python3
"""react_agent, from the client's side: the same steps as src/lib.rs, each a completion call."""

import operator
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "client"))
from sglhost_client import gen, main, select

INSTRUCTIONS = """\
Answer the question with the help of tools. Take turns of Thought, Action and Input; after each you are given an \
Observation. The actions are:
calculate: computes one product, quotient, sum or difference, as in 12 * 7.
look up: finds a fact about a mountain or river.
finish: ends, when you know the answer.

Question: How much longer is the Nile than the Rhine?
Thought: I need the length of the Nile.
Action: look up
Input: Nile
Observation: The Nile is 6650 kilometres long.
Thought: I need the length of the Rhine.
Action: look up
Input: Rhine
Observation: The Rhine is 1233 kilometres long.
Thought: I must subtract one from the other.
Action: calculate
Input: 6650 - 1233
Observation: 5417
Thought: I know the answer.
Action: finish
Answer: The Nile is 5417 kilometres longer."""

FACTS = {
    "Amazon": "The Amazon is 6400 kilometres long.",
    "Danube": "The Danube is 2850 kilometres long.",
    "Everest": "Mount Everest is 8849 metres high.",
    "Mont Blanc": "Mont Blanc is 4806 metres high.",
    "Nile": "The Nile is 6650 kilometres long.",
    "Rhine": "The Rhine is 1233 kilometres long.",
}

OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def react_agent(s, question="How much higher is Mount Everest than Mont Blanc?", max_actions=5):
    """An agent that reasons and acts in turns, with tools that run here: a calculator and a table of facts."""
    s.system(INSTRUCTIONS)
    s.user("Question: ", question)
    s.begin("assistant")

    steps = []
    for _ in range(max_actions):
        s.append("Thought:", gen("thought", stop="\n"))
        s.append("\nAction: ", select("action", ["calculate", "look up", "finish"]))
        if s["action"] == "finish":
            break
        s.append("\nInput: ")
        if s["action"] == "calculate":
            s.append(gen("input", regex=r"[0-9]{1,6} [-+*/] [0-9]{1,6}\n", stop="\n", max_tokens=24))
            observation = calculate(s["input"])
        else:
            s.append(select("input", FACTS))
            observation = FACTS[s["input"]]
        step = {"thought": s["thought"].strip(), "action": s["action"], "input": s["input"], "observation": observation}
        steps.append(step)
        s.append(f"\nObservation: {observation}\n")
    s.append("\nAnswer:", gen("answer", stop="\n"))
    s.end()
    return {"answer": s["answer"].strip(), "steps": steps}


def calculate(expression):
    left, symbol, right = expression.split(" ")
    if symbol == "/" and right.strip("0") == "":
        return "nothing can be divided by 0"
    result = OPERATORS[symbol](float(left), float(right))
    # As the program writes it: 5 and not 5.0.
    return str(int(result)) if result == int(result) else str(result)


if __name__ == "__main__":
    main(react_agent)
