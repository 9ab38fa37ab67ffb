package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"sglhost"
	"sglhost/internal/host"
)

type answer struct {
	Question  string `doc:"What to ask."`
	MaxTokens uint32 `default:"512"`
	Language  string `doc:"Language of the answer." default:"en"`
	Hints     *[]string
}

// The words are those of guest-sdk/rust/tests/describe.rs.
func TestAProgramDescribesItself(t *testing.T) {
	host.Exported = host.Exports{}
	sglhost.Program("answer", "Answers a question, or several.",
		func(*sglhost.State, answer) (any, error) { return nil, nil })
	equal(t, host.Exported.Describe(), `{"name":"answer","description":"Answers a question, or several.",`+
		`"arguments":{"type":"object","properties":{"question":{"description":"What to ask.","type":"string"},`+
		`"max_tokens":{"default":512,"maximum":4294967295,"minimum":0,"type":"integer"},`+
		`"language":{"default":"en","description":"Language of the answer.","type":"string"},`+
		`"hints":{"items":{"type":"string"},"type":"array"}},`+
		`"required":["question"],"additionalProperties":false}}`)

	host.Exported = host.Exports{}
	sglhost.Program("nothing", "", func(*sglhost.State, struct{}) (any, error) { return nil, nil })
	equal(t, host.Exported.Describe(), `{"name":"nothing","description":"","arguments":{"type":"object",`+
		`"properties":{},"required":[],"additionalProperties":false}}`)
}

func TestSchemasNameTypesAndBounds(t *testing.T) {
	host.Exported = host.Exports{}
	sglhost.Program("types", "", func(*sglhost.State, struct {
		A        int
		B        uint64
		C        int8
		D        *float64
		E        []bool
		F        any
		G        json.RawMessage
		TopK     int `json:"top-k"`
		HTTPCode int
		Not      string   `json:"-"`
		I        []string `default:"[ \"<a>\" ]"`
	}) (any, error) {
		return nil, nil
	})
	equal(t, host.Exported.Describe(), `{"name":"types","description":"","arguments":{"type":"object","properties":{`+
		`"a":{"type":"integer"},"b":{"minimum":0,"type":"integer"},"c":{"maximum":127,"minimum":-128,`+
		`"type":"integer"},"d":{"type":"number"},"e":{"items":{"type":"boolean"},"type":"array"},"f":{},"g":{},`+
		`"top-k":{"type":"integer"},"http_code":{"type":"integer"},`+
		`"i":{"default":["<a>"],"items":{"type":"string"},"type":"array"}},`+
		`"required":["a","b","c","e","f","g","top-k","http_code"],"additionalProperties":false}}`)
}

func TestWhatCannotBeAnArgumentIsRefused(t *testing.T) {
	check := func(expect string, register func()) {
		t.Helper()
		defer func() {
			if said := fmt.Sprint(recover()); !strings.Contains(said, expect) {
				t.Errorf("%q does not say %q", said, expect)
			}
		}()
		host.Exported = host.Exports{}
		register()
	}
	check("argument \"a\" cannot be a chan int", func() {
		sglhost.Program("p", "", func(*sglhost.State, struct{ A chan int }) (any, error) { return nil, nil })
	})
	check("the arguments are a struct", func() {
		sglhost.Program("p", "", func(*sglhost.State, int) (any, error) { return nil, nil })
	})
	check("the default of argument \"a\" must be from 0 to 255, and is 256", func() {
		sglhost.Program("p", "", func(*sglhost.State, struct {
			A uint8 `default:"256"`
		}) (any, error) {
			return nil, nil
		})
	})
	check("twice", func() {
		for range 2 {
			sglhost.Program("p", "", func(*sglhost.State, struct{}) (any, error) { return nil, nil })
		}
	})
}

func TestArgumentsAreTakenByName(t *testing.T) {
	use(t)
	check := func(given, expect string) {
		t.Helper()
		equal(t, run(func(_ *sglhost.State, a answer) (answer, error) { return a, nil }, given), expect)
	}
	check(`{"question": "Why?", "language": null}`, `{"Question":"Why?","MaxTokens":512,"Language":"en","Hints":null}`)
	check(`{"question": "<", "max_tokens": 3.0, "hints": ["a"]}`,
		`{"Question":"<","MaxTokens":3,"Language":"en","Hints":["a"]}`)
	check(`{}`, `invalid: missing argument "question"`)
	check(``, `invalid: missing argument "question"`)
	check(`{"question": 1}`, `invalid: argument "question" must be text, and is a number`)
	check(`{"question": null}`, `invalid: argument "question" must be text, and is null`)
	check(`{"question": "", "max_tokens": -1}`,
		`invalid: argument "max_tokens" must be from 0 to 4294967295, and is -1`)
	check(`{"question": "", "max_tokens": 1.5}`, `invalid: argument "max_tokens" must be an integer, and is 1.5`)
	check(`{"question": "", "max_tokens": "1"}`, `invalid: argument "max_tokens" must be an integer, and is text`)
	check(`{"question": "", "hints": ["a", 2]}`, `invalid: argument "hints" item 1 must be text, and is a number`)
	check(`{"question": "", "hints": {}}`, `invalid: argument "hints" must be a list, and is an object`)
	check(`{"qestion": "Why?"}`,
		`invalid: unknown argument "qestion"; the program takes question, max_tokens, language, hints`)
	check(`[]`, `invalid: the arguments must be a JSON object of names and values`)
	check(`null`, `invalid: the arguments must be a JSON object of names and values`)
	check(`{`, `invalid: the arguments are no JSON: unexpected end of JSON input`)

	type wide struct {
		U uint64
		I int64
		F float32
		B bool
		A any
	}
	equal(t, run(func(_ *sglhost.State, a wide) (wide, error) { return a, nil },
		`{"u": 18446744073709551615, "i": -9223372036854775808, "f": 1, "b": true, "a": {"x": [1]}}`),
		`{"U":18446744073709551615,"I":-9223372036854775808,"F":1,"B":true,"A":{"x":[1]}}`)
	equal(t, run(func(_ *sglhost.State, a wide) (wide, error) { return a, nil },
		`{"u": 0, "i": 9223372036854775808, "f": 1, "b": true, "a": 1}`),
		`invalid: argument "i" must be from -9223372036854775808 to 9223372036854775807, and is 9223372036854775808`)
}

func TestTheRunEndsWithWhatTheProgramReturned(t *testing.T) {
	use(t)
	ended := func(result any, err error) string {
		return run(func(*sglhost.State, struct{}) (any, error) { return result, err }, "{}")
	}
	equal(t, ended(nil, nil), "null")
	equal(t, ended(map[string]int{"<a>": 1}, nil), `{"<a>":1}`)
	equal(t, ended(nil, errors.New("no tea left")), "program: no tea left")
	equal(t, ended(nil, &sglhost.Error{Code: "too-long", Message: "it is"}), "too-long: it is")
	equal(t, ended(nil, fmt.Errorf("tea: %w", &sglhost.Error{Code: "invalid", Message: "it is"})),
		"invalid: tea: invalid: it is")
	equal(t, ended(func() {}, nil), "program: the result cannot be written as JSON: json: unsupported type: func()")
}

func TestAPanicEndsTheRunWithItsLine(t *testing.T) {
	use(t)
	said := with(func(*sglhost.State) { panic("the tea is cold") })
	if !strings.HasPrefix(said, "program: panic: the tea is cold (program_test.go:") {
		t.Error(said)
	}
	said = with(func(s *sglhost.State) { var none []int; s.Append(none[len(said)]) })
	if !strings.HasPrefix(said, "program: panic: runtime error: index out of range") ||
		!strings.Contains(said, "(program_test.go:") {
		t.Error(said)
	}
	// One of the SDK's own is told where the program called it.
	said = with(func(s *sglhost.State) { s.Get("nothing") })
	if !strings.HasPrefix(said, `program: panic: nothing was generated as "nothing"; there is [] (program_test.go:`) {
		t.Error(said)
	}
}
