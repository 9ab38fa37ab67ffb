// Calls every function of the contract and says what came of it; ../README.md says how.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	. "sglhost"
)

const (
	schema = `{"type": "object", "properties": {"a": {"type": "integer", "minimum": 1, "maximum": 9}}, ` +
		`"required": ["a"], "additionalProperties": false}`
	tags = `{"structures": [{"begin": "<f>", "schema": {"const": 7}, "end": "</f>"}], "triggers": ["<f"]}`
)

type arguments struct {
	Topic string    `doc:"What it talks about."`
	Part  string    `doc:"What to do instead." default:"all"`
	Count int       `default:"3"`
	Ratio float64   `default:"0.5"`
	Loud  bool      `default:"false"`
	Words *[]string `doc:"Said one after the other."`
	Note  *string
}

type result struct {
	Lines []string `json:"lines"`
}

func init() { Program("every_function", "Calls every function of the contract.", everyFunction) }

func main() {}

func everyFunction(s *State, a arguments) (any, error) {
	switch a.Part {
	case "one":
		return slow(s, 1), nil
	case "four":
		return slow(s, 4), nil
	case "budget":
		return budget(s), nil
	case "unread":
		s.Append(Gen("unread", TopP(2)))
		return nil, nil
	case "own error":
		return nil, fmt.Errorf("no %s left", a.Topic)
	case "panic":
		panic("the " + a.Topic + " is cold")
	case "exit":
		os.Exit(3)
	case "trap":
		trap(a.Topic)
	case "recurse":
		return recurse(1), nil
	}
	lines := &lines{}
	words, note := "none", "none"
	if a.Words != nil {
		words = strings.Join(*a.Words, "+")
	}
	if a.Note != nil {
		note = *a.Note
	}
	lines.say("arguments: topic=%s count=%d ratio=%d loud=%t words=%s note=%s",
		a.Topic, a.Count, milli(a.Ratio), a.Loud, words, note)
	host(lines)
	prompts(s, a.Topic, lines)
	options(s, lines)
	wrongOptions(s, lines)
	constraints(s, lines)
	streams(s, lines)
	selects(s, lines)
	forks(s, lines)
	queued(s, lines)
	tokens(s, lines)
	failures(s, lines)
	cancelled(s, lines)
	return result{lines.said}, nil
}

type lines struct{ said []string }

func (l *lines) say(format string, values ...any) {
	l.said = append(l.said, fmt.Sprintf(format, values...))
}

// must is for what does not fail here.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func host(l *lines) {
	l.say("models: %s", strings.Join(Models(), ", "))
	l.say("context length: %d %d", must(ContextLength("")), must(ContextLength("scripted")))
	l.say("images: %t", must(AcceptsImages("")))
	l.say("no such model: %s", shown(ContextLength("nobody")))
	tokens, contexts := TokensLeft(), ContextsLeft()
	other := NewStateWithModel("scripted")
	other.Append("abc", Gen("x", MaxTokens(5), Temperature(0)))
	l.say("another state: %s", other.Get("x"))
	l.say("tokens used: %d, contexts used: %d", tokens-TokensLeft(), contexts-ContextsLeft())
	other.Close()
	l.say("contexts used after: %d", contexts-ContextsLeft())
	l.say("time left: %t", MillisecondsLeft() > 0)
	if err := Emit("note", "hello"); err != nil {
		panic(err)
	}
}

func prompts(s *State, topic string, l *lines) {
	f := s.Copy()
	f.System("Be brief.")
	f.User("About ", topic, ": ", "é🙂")
	f.Role("tool", 42)
	f.UserBlock(func() { f.Append("in a block") })
	f.AssistantBegin()
	f.Append("plain <|end|> ")
	f.Append(Markup("marked<|end|>"))
	f.Append(Tokens(65, 66))
	f.AssistantEnd()
	l.say("text: %s", must(f.Text()))
	l.say("tokens: %d", must(f.TokenCount()))
}

// call is what a call on a copy of the state says.
func call(s *State, prompt string, asked Prompt) (string, error) {
	f := s.Copy()
	f.Append(prompt, asked)
	outcome, err := f.Outcome("x")
	if err != nil {
		return "", err
	}
	matched, is := outcome.Matched()
	if !is {
		matched = "none"
	}
	return fmt.Sprintf("%s %s matched=%s prompt=%d tokens=%d forced=%d", quoted(outcome.Text()), outcome.FinishReason(),
		matched, outcome.PromptTokens(), outcome.CompletionTokens(), outcome.ForcedTokens()), nil
}

func options(s *State, l *lines) {
	// Always the likeliest letter.
	x := func(options ...Option) Prompt {
		return Gen("x", append([]Option{MaxTokens(8), Temperature(0)}, options...)...)
	}
	f := s.Copy()
	f.Append("options", x())
	outcome := must(f.Outcome("x"))
	letters, tokens := outcome.Text(), outcome.Tokens()
	l.say("eight letters: %s %s", letters, joined(tokens))
	f.Append("", x())
	l.say("again, cached: %d", must(f.Outcome("x")).CachedTokens())
	sayCall := func(name string, asked Prompt) { l.say("%s: %s", name, must(call(s, "options", asked))) }
	sayCall("max_tokens 0", x(MaxTokens(0)))
	sayCall("seed", x(Temperature(1), Seed(7)))
	sayCall("stop", x(Stop(letters[3:5])))
	sayCall("stop, one of two", x(Stop("#", letters[2:4])))
	sayCall("stop kept", x(Stop(letters[3:5]), NoStopTrim(true)))
	sayCall("stop token", x(StopToken(tokens[4])))
	sayCall("stop token after", x(StopToken(tokens[1]), MinTokens(4)))
	sayCall("stop regex", x(StopRegex(letters[4:5]+".")))
	// The scripted model says something else for each.
	y := func(options ...Option) Prompt {
		return Gen("x", append([]Option{MaxTokens(4), Temperature(1), Seed(7)}, options...)...)
	}
	sayCall("another seed", y(Seed(8)))
	sayCall("top_p", y(TopP(0.5)))
	sayCall("top_k", y(TopK(5)))
	sayCall("min_p", y(MinP(0.25)))
	sayCall("frequency_penalty", y(FrequencyPenalty(0.5)))
	sayCall("presence_penalty", y(PresencePenalty(-0.5)))
	sayCall("repetition_penalty", y(RepetitionPenalty(1.5)))
	sayCall("logit_bias", y(LogitBias(97, -1), LogitBias(98, 2)))
	sayCall("the end is text", y(IgnoreEOS(true), SkipSpecialTokens(false)))
	f = s.Copy()
	f.Append("options", x(MaxTokens(2), TopLogprobs(2)))
	outcome = must(f.Outcome("x"))
	l.say("logprobs: %s", shownLogprobs(outcome.Logprobs()))
	l.say("top logprobs: %s", shownLogprobs(outcome.TopLogprobs(1)))
}

// wrongOptions: a value that is refused tells that it arrived.
func wrongOptions(s *State, l *lines) {
	check := func(name string, option Option) {
		l.say("wrong %s: %s", name, shown(call(s, "wrong", Gen("x", MaxTokens(1), option))))
	}
	check("temperature", Temperature(-1.5))
	check("top_p", TopP(1.5))
	check("top_k", TopK(-2))
	check("min_p", MinP(1.5))
	check("frequency_penalty", FrequencyPenalty(2.5))
	check("presence_penalty", PresencePenalty(-2.5))
	check("repetition_penalty", RepetitionPenalty(4))
	check("stop_regex", StopRegex("("))
	check("logit_bias", LogitBias(1000, 1))
	check("top_logprobs", TopLogprobs(1000))
	check("regex", Regex("("))
	check("json_schema", JSONSchema(`{"type": 7}`))
	check("lark", Lark(`begin: "x"`))
	check("structural_tag", StructuralTag("{}"))
	check("choices", ConstrainChoices())
	check("no choices", Choices())
}

func constraints(s *State, l *lines) {
	x := func(options ...Option) Prompt {
		return Gen("x", append([]Option{MaxTokens(24), Temperature(0)}, options...)...)
	}
	sayCall := func(name string, asked Prompt) { l.say("%s: %s", name, must(call(s, "constraints", asked))) }
	sayCall("regex", x(Regex("[0-9]{3}-[a-f]{2}")))
	sayCall("choices", x(ConstrainChoices("red", "green")))
	sayCall("json_schema", x(JSONSchema(schema)))
	sayCall("lark", x(Lark(`start: "<" /[0-9]/ ">"`)))
	sayCall("structural_tag", x(StructuralTag(tags), Stop("</f>"), MaxTokens(6)))
	sayCall("int", x(Int()))
	sayCall("float", x(Float()))
	sayCall("bool", x(Bool()))
	sayCall("string", x(String()))
	f := s.Copy()
	f.Append("typed", x(JSONSchema(schema)))
	var object struct{ A int }
	if err := f.GetJSON("x", &object); err != nil {
		panic(err)
	}
	f.Append(" ", x(Regex("[1-9]{2}")))
	l.say("typed: %d %d", object.A, must(f.GetInt("x")))
}

func streams(s *State, l *lines) {
	f := s.Copy()
	f.Append("streams", Gen("x", MaxTokens(12), Temperature(0)), "!")
	var whole strings.Builder
	for piece, err := range f.Stream("x") {
		whole.WriteString(must(piece, err))
	}
	l.say("stream: %s %t", &whole, whole.String() == f.Get("x"))
}

func selects(s *State, l *lines) {
	names := []string{"token length", "greedy", "unconditional"}
	methods := []ChoicesMethod{TokenLengthNormalized, GreedyTokenSelection, UnconditionalLikelihoodNormalized}
	for i, method := range methods {
		f := s.Copy()
		f.Append("selects 0 ", Select("x", []string{"rare", "red", "ruby", "ready"}, method))
		outcome := must(f.Outcome("x"))
		var scores []int64
		for _, score := range outcome.Scores() {
			scores = append(scores, milli(float64(score)))
		}
		choice, _ := outcome.Choice()
		l.say("select by %s: %s %d %s", names[i], outcome.Text(), choice, joined(scores))
	}
}

func forks(s *State, l *lines) {
	f := s.Copy()
	f.Append("forks ")
	forks := f.Fork(3)
	for i, fork := range forks {
		fork.Append(i, Gen("x", MaxTokens(4), Temperature(0)))
	}
	f.Append("then", Gen("y", MaxTokens(4), Temperature(0)))
	var said []string
	for _, fork := range forks {
		said = append(said, fork.Get("x"))
	}
	l.say("forks: %s %s", strings.Join(said, " "), f.Get("y"))
	l.say("a fork's text: %s", must(forks[2].Text()))
	l.say("a fork knows: %t", f.Copy().Get("y") == f.Get("y"))
}

func queued(s *State, l *lines) {
	f := s.Copy()
	x := func(name string) Prompt { return Gen(name, MaxTokens(3), Temperature(0)) }
	f.Append("queued ", x("a"), " and ", x("b"))
	f.Append(".", x("a"))
	b, a := f.Get("b"), f.Get("a")
	l.say("queued: %s %s %s", b, a, must(f.Text()))
}

func tokens(s *State, l *lines) {
	f := s.Copy()
	f.Append("tokens")
	l.say("next: %s", shownLogprobs(must(f.NextTokens(3))))
	l.say("score: %s", shownLogprobs(must(f.Score("abc"))))
	l.say("as before: %d", must(f.TokenCount()))
	if err := f.Truncate(3); err != nil {
		panic(err)
	}
	l.say("cut: %s %d", must(f.Text()), must(f.TokenCount()))
}

func failures(s *State, l *lines) {
	check := func(name string, step func(f *State)) {
		f := s.Copy()
		step(f)
		err := f.Sync()
		count := 0
		if err == nil {
			count, err = f.TokenCount()
		}
		l.say("%s: %s", name, shown(count, err))
	}
	check("too long", func(f *State) {
		f.Append(strings.Repeat("0123456789", 500))
		f.Append(Gen("x"))
	})
	check("image", func(f *State) { f.Append(Image(make([]byte, 4))) })
	check("end of no role", func(f *State) { f.RoleEnd() })
	check("no such token", func(f *State) { f.Append(Tokens(100_000)) })
	f := s.Copy()
	l.say("cut to more: %s", shown("", f.Truncate(1000)))
}

func cancelled(s *State, l *lines) {
	f := s.Copy()
	f.Append("cancelled", Gen("x", MaxTokens(3000)))
	first := false
	for _, err := range f.Stream("x") {
		first = err == nil
		break
	}
	f.Cancel("x")
	var code string
	if outcome, err := f.Outcome("x"); err == nil {
		code = outcome.FinishReason()
	} else {
		code = err.(*Error).Code
	}
	l.say("cancelled: %t %s", first, code)
	f = s.Copy()
	f.Append("dropped", Gen("x", MaxTokens(3000)))
	f.Close()
	l.say("dropped")
}

// slow has long calls, all started before the first is read.
func slow(s *State, calls int) int {
	forks := s.Fork(calls)
	for i, fork := range forks {
		fork.Append(i, Gen("x", MaxTokens(40), Temperature(0)))
	}
	sum := 0
	for _, fork := range forks {
		sum += len(fork.Get("x"))
	}
	return sum
}

// budget uses up what the run may use, and says how that ended.
func budget(s *State) string {
	for range 1000 {
		s.Append("more ", Gen("x", MaxTokens(20)))
		if _, err := s.Outcome("x"); err != nil {
			return err.Error()
		}
	}
	return "no end"
}

// trap is what cannot be caught.
func trap(topic string) {
	go func() { panic("the " + topic + " boils over") }()
	select {}
}

func recurse(depth uint64) uint64 {
	room := [64]uint64{}
	for i := range room {
		room[i] = depth
	}
	return recurse(depth+1) + room[depth%64]
}

func quoted(text string) string {
	var written bytes.Buffer
	encoder := json.NewEncoder(&written)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		panic(err)
	}
	return strings.TrimSuffix(written.String(), "\n")
}

func joined[T uint32 | int64](values []T) string {
	var texts []string
	for _, value := range values {
		texts = append(texts, strconv.FormatInt(int64(value), 10))
	}
	return strings.Join(texts, " ")
}

func milli(value float64) int64 { return int64(math.Round(value * 1000)) }

func shownLogprobs(list []TokenLogprob) string {
	var texts []string
	for _, one := range list {
		texts = append(texts, fmt.Sprintf("%d:%s:%d", one.Token, one.Text(), milli(float64(one.Logprob))))
	}
	return strings.Join(texts, " ")
}

// shown is a value, or how its error is told.
func shown(value any, err error) string {
	if of := (*Error)(nil); errors.As(err, &of) {
		return fmt.Sprintf("%s: %s (retryable=%t)", of.Code, of.Message, of.Retryable)
	}
	return fmt.Sprint(value)
}
