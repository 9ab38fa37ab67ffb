package tests

import (
	"slices"
	"strings"
	"testing"

	. "sglhost"
)

func TestPartsAreAppendedInOrder(t *testing.T) {
	f := use(t)
	with(func(s *State) {
		s.Append("a", 1, 2.5, true, Gen("x"), Join("b", Text("c"), ""))
		s.User("hello", Assistant("world"))
		s.RoleBlock("tool", func() { s.Append(Markup("<s>"), Tokens(1, 2), Image([]byte("png"))) })
	})
	f.expect(t, "a", "1", "2.5", "true", "start x", "b", "c", "<user>", "hello", "<assistant>", "world", "</>", "</>",
		"<tool>", "markup(<s>)", "[1 2]", "image(3)", "</>", "wait")
}

func TestWhatIsNoPartIsAMistake(t *testing.T) {
	use(t)
	for _, part := range []any{nil, []byte("a"), []string{"a"}, struct{}{}} {
		said := with(func(s *State) { s.Append(part) })
		if !strings.Contains(said, "panic: sglhost: cannot append a ") {
			t.Error(said)
		}
	}
}

func TestNothingWaitsUntilItIsRead(t *testing.T) {
	f := use(t)
	with(func(s *State) {
		forks := s.Fork(2)
		for _, fork := range forks {
			fork.Append(Gen("tip"))
		}
		equal(t, forks[0].Get("tip")+forks[1].Get("tip"), "TIPTIP")
		equal(t, forks[1].Get("tip"), "TIP") // Once is enough.
	})
	f.expect(t, "start tip", "start tip", "wait", "wait")
}

func TestEveryOptionArrives(t *testing.T) {
	f := use(t)
	with(func(s *State) {
		s.Append(Gen("x", MaxTokens(1), MinTokens(2), Temperature(0.5), TopP(0.25), TopK(-1), MinP(0.125),
			FrequencyPenalty(1), PresencePenalty(2), RepetitionPenalty(1.5), Stop("a", "b"), Stop("c"), StopToken(3, 4),
			StopRegex("r"), NoStopTrim(true), SkipSpecialTokens(false), IgnoreEOS(true), Seed(5), LogitBias(6, 7),
			TopLogprobs(8), Temperature(0), GreedyTokenSelection, Regex("old"), Lark("new")))
		s.Append(Select("y", []string{"a", "b"}), GenInt("z"), GenString("w", MaxTokens(3)))
	})
	o := f.options("x").options
	equal(t, *o.MaxTokens+*o.MinTokens*10+*o.TopLogprobs*100, 821)
	equal(t, *o.Temperature+*o.TopP+*o.MinP, 0.375)
	equal(t, *o.TopK, -1)
	equal(t, *o.FrequencyPenalty+*o.PresencePenalty*10+*o.RepetitionPenalty*100, 171)
	equal(t, strings.Join(o.Stop, "")+strings.Join(o.StopRegexes, ""), "abcr")
	equal(t, o.StopTokens[0]*10+o.StopTokens[1], 34)
	equal(t, *o.NoStopTrim && !*o.SkipSpecialTokens && *o.IgnoreEOS, true)
	equal(t, *o.Seed, 5)
	equal(t, o.LogitBias[0].Token, 6)
	equal(t, o.LogitBias[0].Bias, 7)
	equal(t, *o.ChoicesMethod, "greedy-token-selection")
	equal(t, o.Constraint.Text, "new")
	if choices := f.options("y").choices; !slices.Equal(choices, []string{"a", "b"}) {
		t.Error(choices)
	}
	equal(t, f.options("z").options.Constraint.Text, `0|-?[1-9][0-9]{0,17}`)
	equal(t, *f.options("w").options.MaxTokens, 3)
	equal(t, f.options("z").options.MaxTokens == nil, true)
}

func TestResultsAreRead(t *testing.T) {
	f := use(t)
	f.answers = map[string]string{"int": " 12 ", "float": "1.5", "bool": "true", "json": `{"a": 1}`}
	with(func(s *State) {
		for name := range f.answers {
			s.Append(Gen(name))
		}
		s.Append(Gen("x"), Gen("int"))
		number, err := s.GetInt("int")
		equal(t, number, 12)
		equal(t, err, nil)
		float, _ := s.GetFloat("float")
		equal(t, float, 1.5)
		truth, _ := s.GetBool("bool")
		equal(t, truth, true)
		var object struct{ A int }
		equal(t, s.GetJSON("json", &object), nil)
		equal(t, object.A, 1)
		_, err = s.GetInt("x")
		equal(t, err.Error(),
			`program: the text generated as "x" is no integer: "X"; it was cut at MaxTokens: allow it more`)
		err = s.GetJSON("x", &object)
		expect := `program: the text generated as "x" is no JSON of the kind that is read: "X"`
		is := strings.HasPrefix(err.Error(), expect)
		equal(t, is, true)
		_, err = s.Outcome("nothing")
		equal(t, strings.HasPrefix(err.Error(), `invalid: nothing was generated as "nothing"; there is [`), true)
		outcome, _ := s.Outcome("x")
		matched, isMatched := outcome.Matched()
		choice, _ := outcome.Choice()
		equal(t, matched == "\n" && isMatched && choice == 1 && outcome.Tokens()[1] == 2, true)
		text, _ := s.Text()
		count, _ := s.TokenCount()
		equal(t, len(text), count)
		equal(t, s.Truncate(3), nil)
		text, _ = s.Text()
		equal(t, len(text), 3)
	})
	equal(t, TokenLogprob{Bytes: []byte("a\xff")}.Text(), "a\uFFFD")
}

func TestStreamsYieldPieces(t *testing.T) {
	f := use(t)
	with(func(s *State) {
		s.Append(Gen("abc"))
		whole := ""
		for piece, err := range s.Stream("abc") {
			equal(t, err, nil)
			whole += piece + "."
		}
		equal(t, whole, "A.B.C.")
		for range s.Stream("abc") {
			break
		}
	})
	// Who stops reading waits for nothing.
	f.expect(t, "start abc", "stream", "drop stream", "wait", "stream", "drop stream")

	said := with(func(s *State) {
		s.Append(Gen("fail"))
		var last error
		for _, err := range s.Stream("fail") {
			last = err
		}
		equal(t, last.Error(), "invalid: not that")
	})
	equal(t, said, "null") // It was looked at.
}

func TestTheFirstFailureStays(t *testing.T) {
	f := use(t)
	equal(t, with(func(s *State) {
		s.Append("FAIL", "not done", Gen("x"))
		equal(t, s.Get("x"), "")
		equal(t, s.Copy().Get("x"), "")
	}), "invalid: not that")
	f.expect(t)

	// Looked at, it is the program's.
	equal(t, with(func(s *State) {
		s.Append("FAIL")
		equal(t, s.Err().Error(), "invalid: not that")
		equal(t, s.Sync().Error(), "invalid: not that")
	}), "null")

	// A failed call that nobody reads, or is read as "".
	equal(t, with(func(s *State) { s.Append(Gen("fail")) }), "invalid: not that")
	equal(t, with(func(s *State) { s.Append(Gen("fail")); s.Append(s.Get("fail")) }), "invalid: not that")
	equal(t, with(func(s *State) {
		s.Append(Gen("fail"))
		_ = []string{"a"}[len(s.Get("fail"))+1]
	}), "invalid: not that")

	// No context at all.
	equal(t, with(func(*State) { NewStateWithModel("nobody").Append("a") }), "invalid: not that")

	said := with(func(s *State) {
		s.Append("FAIL")
		for s.Get("x") == "" {
		}
	})
	equal(t, said, "invalid: not that")

	_, err := ContextLength("nobody")
	equal(t, err.Error(), "invalid: not that")
}

func TestCloseDropsWhatNobodyElseHas(t *testing.T) {
	f := use(t)
	equal(t, with(func(s *State) {
		one := s.Copy()
		one.Append(Gen("shared"))
		two := one.Copy()
		two.Append(Gen("own"), Gen("read"))
		equal(t, two.Get("read"), "READ")
		one.Close()
		two.Close()
		two.Close()
		equal(t, two.Get("read"), "READ")
		equal(t, len(f.contexts), 1)
		two.Append("nothing")
		equal(t, strings.Contains(two.Err().Error(), "closed"), true)
		_, err := one.Outcome("shared")
		equal(t, strings.Contains(err.Error(), "closed before \"shared\" was read"), true)
	}), "null")
	f.expect(t, "start shared", "start own", "start read", "wait", "cancelled shared", "cancelled own")
}

func TestALoopThatForksDoesNotRunOut(t *testing.T) {
	f := use(t)
	f.places = 8
	equal(t, with(func(s *State) {
		for range 100 {
			fork := s.Copy()
			fork.Append(Gen("x"))
			equal(t, fork.Get("x"), "X")
		}
		// Those that are held stay, and there is an end to them.
		kept := s.Fork(f.places)
		equal(t, kept[0].Err(), nil)
		equal(t, kept[f.places-1].Err().Error(), "limit-exceeded: contexts_max")
		kept[1].Append("kept")
	}), "null")
}
