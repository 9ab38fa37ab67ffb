import { gen, program, select } from "sglhost";

/** How to reason and act, with an example: the ReAct prompt. */
const INSTRUCTIONS = `\
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
Answer: The Nile is 5417 kilometres longer.`;

/** What there is to look up. The model can ask for nothing else. */
const FACTS = new Map([
  ["Amazon", "The Amazon is 6400 kilometres long."],
  ["Danube", "The Danube is 2850 kilometres long."],
  ["Everest", "Mount Everest is 8849 metres high."],
  ["Mont Blanc", "Mont Blanc is 4806 metres high."],
  ["Nile", "The Nile is 6650 kilometres long."],
  ["Rhine", "The Rhine is 1233 kilometres long."],
]);

/** The only input that the calculator is ever given. */
const EXPRESSION = /[0-9]{1,6} [-+*\/] [0-9]{1,6}\n/;

export default program({
  name: "react_agent",
  description:
    "An agent that reasons and acts in turns, with tools that run inside the program: a calculator and a table of facts.",
  arguments: {
    question: {
      type: "string",
      description: "What to find out.",
      default: "How much higher is Mount Everest than Mont Blanc?",
    },
    max_actions: {
      type: "integer",
      description: "Actions before an answer is due.",
      default: 5,
      minimum: 0,
      maximum: 255,
    },
  },
  async run(s, { question, max_actions }) {
    s.system(INSTRUCTIONS);
    s.user("Question: ", question);
    s.assistantBegin();

    const steps = [];
    while (steps.length < max_actions) {
      s.append("Thought:", gen("thought", { stop: "\n" }));
      s.append("\nAction: ", select("action", ["calculate", "look up", "finish"]));
      const action = await s.get("action");
      if (action === "finish") break;
      let observation;
      if (action === "calculate") {
        s.append("\nInput: ", gen("input", { regex: EXPRESSION, stop: "\n", maxTokens: 24 }));
        observation = calculate(await s.get("input"));
      } else {
        s.append("\nInput: ", select("input", [...FACTS.keys()]));
        observation = FACTS.get(await s.get("input")) ?? "";
      }
      const [thought, input] = [(await s.get("thought")).trim(), await s.get("input")];
      steps.push({ thought, action, input, observation });
      s.append(`\nObservation: ${observation}\n`);
    }
    s.append("\nAnswer:", gen("answer", { stop: "\n" }));
    s.assistantEnd();
    return { answer: (await s.get("answer")).trim(), steps };
  },
});

function calculate(expression) {
  const [, left, operator, right] = /^([0-9]+) ([-+*/]) ([0-9]+)$/.exec(expression) ?? [];
  const [a, b] = [Number(left), Number(right)];
  switch (operator) {
    case "+":
      return String(a + b);
    case "-":
      return String(a - b);
    case "*":
      return String(a * b);
    case "/":
      return b === 0 ? "nothing can be divided by 0" : String(a / b);
    default:
      return `${JSON.stringify(expression)} cannot be computed`; // Cut off before its end.
  }
}
