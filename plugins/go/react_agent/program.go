package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	. "sglhost"
)

// instructions say how to reason and act, with an example: the ReAct prompt.
const instructions = "Answer the question with the help of tools. Take turns of Thought, Action and Input; after " +
	`each you are given an Observation. The actions are:
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
Answer: The Nile is 5417 kilometres longer.`

// expression is the only input that the calculator is ever given.
const expression = `[0-9]{1,6} [-+*/] [0-9]{1,6}\n`

// What there is to look up. The model can ask for nothing else.
var (
	names = []string{"Amazon", "Danube", "Everest", "Mont Blanc", "Nile", "Rhine"}
	facts = []string{
		"The Amazon is 6400 kilometres long.",
		"The Danube is 2850 kilometres long.",
		"Mount Everest is 8849 metres high.",
		"Mont Blanc is 4806 metres high.",
		"The Nile is 6650 kilometres long.",
		"The Rhine is 1233 kilometres long.",
	}
)

type arguments struct {
	Question   string `doc:"What to find out." default:"How much higher is Mount Everest than Mont Blanc?"`
	MaxActions uint8  `doc:"Actions before an answer is due." default:"5"`
}

type turn struct {
	Thought     string `json:"thought"`
	Action      string `json:"action"`
	Input       string `json:"input"`
	Observation string `json:"observation"`
}

type result struct {
	Answer string `json:"answer"`
	Steps  []turn `json:"steps"`
}

func init() {
	Program("react_agent", "An agent that reasons and acts in turns, with tools that run inside the program: "+
		"a calculator and a table of facts.", reactAgent)
}

func main() {}

func reactAgent(s *State, a arguments) (result, error) {
	s.System(instructions)
	s.User("Question: ", a.Question)
	s.AssistantBegin()

	turns := []turn{}
	for range a.MaxActions {
		s.Append("Thought:", Gen("thought", Stop("\n")),
			"\nAction: ", Select("action", []string{"calculate", "look up", "finish"}))
		var observation string
		switch s.Get("action") {
		case "calculate":
			s.Append("\nInput: ", Gen("input", Regex(expression), Stop("\n"), MaxTokens(24)))
			observation = calculate(s.Get("input"))
		case "look up":
			s.Append("\nInput: ", Select("input", names))
			observation = lookUp(s.Get("input"))
		}
		if observation == "" { // It finishes.
			break
		}
		turns = append(turns, turn{strings.TrimSpace(s.Get("thought")), s.Get("action"), s.Get("input"), observation})
		s.Append("\nObservation: ", observation, "\n")
	}
	s.Append("\nAnswer:", Gen("answer", Stop("\n")))
	s.AssistantEnd()
	return result{strings.TrimSpace(s.Get("answer")), turns}, nil
}

func calculate(expression string) string {
	var left, right float64
	var operator string
	if _, err := fmt.Sscan(expression, &left, &operator, &right); err != nil {
		return fmt.Sprintf("%q cannot be computed", expression) // Cut off before its end.
	}
	value := 0.0
	switch {
	case operator == "+":
		value = left + right
	case operator == "-":
		value = left - right
	case operator == "*":
		value = left * right
	case right == 0:
		return "nothing can be divided by 0"
	default:
		value = left / right
	}
	return strconv.FormatFloat(value, 'f', -1, 64)
}

func lookUp(name string) string {
	if at := slices.Index(names, name); at >= 0 {
		return facts[at]
	}
	return ""
}
