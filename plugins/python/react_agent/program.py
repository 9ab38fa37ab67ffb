import re
from typing import Annotated

from sglhost import assistant_begin, assistant_end, function, gen, select, system, user

# How to reason and act, with an example: the ReAct prompt.
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

# What there is to look up. The model can ask for nothing else.
FACTS = {
    "Amazon": "The Amazon is 6400 kilometres long.",
    "Danube": "The Danube is 2850 kilometres long.",
    "Everest": "Mount Everest is 8849 metres high.",
    "Mont Blanc": "Mont Blanc is 4806 metres high.",
    "Nile": "The Nile is 6650 kilometres long.",
    "Rhine": "The Rhine is 1233 kilometres long.",
}

# The only input that the calculator is ever given.
EXPRESSION = r"[0-9]{1,6} [-+*/] [0-9]{1,6}\n"


@function
def react_agent(
    s,
    question: str = "How much higher is Mount Everest than Mont Blanc?",
    max_actions: Annotated[int, {"minimum": 0, "maximum": 255}] = 5,
):
    """An agent that reasons and acts in turns, with tools that run inside the program: a calculator and a table of
    facts.

    Args:
        question: What to find out.
        max_actions: Actions before an answer is due.
    """
    s += system(INSTRUCTIONS)
    s += user("Question: " + question)
    s += assistant_begin()

    steps = []
    for _ in range(max_actions):
        s += (
            "Thought:"
            + gen("thought", stop="\n")
            + "\nAction: "
            + select("action", ["calculate", "look up", "finish"])
        )
        if s["action"] == "calculate":
            s += "\nInput: " + gen("input", regex=EXPRESSION, stop="\n", max_tokens=24)
            observation = calculate(s["input"])
        elif s["action"] == "look up":
            s += "\nInput: " + select("input", list(FACTS))
            observation = FACTS[s["input"]]
        else:
            break
        steps.append(
            {
                "thought": s["thought"].strip(),
                "action": s["action"],
                "input": s["input"],
                "observation": observation,
            }
        )
        s += f"\nObservation: {observation}\n"
    s += "\nAnswer:" + gen("answer", stop="\n")
    s += assistant_end()
    return {"answer": s["answer"].strip(), "steps": steps}


def calculate(expression):
    parts = re.fullmatch(r"([0-9]+) ([-+*/]) ([0-9]+)", expression)
    if parts is None:
        return f'"{expression}" cannot be computed'  # Cut off before its end.
    left, operator, right = int(parts[1]), parts[2], int(parts[3])
    if operator == "/" and right == 0:
        return "nothing can be divided by 0"
    results = {"+": left + right, "-": left - right, "*": left * right}
    return str(results[operator] if operator in results else left / right).removesuffix(".0")
