// Package tests holds the SDK to what it promises, over a host that is made here: nothing of it needs a component.
package tests

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sglhost"
	"sglhost/internal/host"
)

// fake is a host whose answer to a call is the call's name in capitals, and which refuses what is asked to fail.
type fake struct {
	host.Host // Nil: what is not answered below panics.
	steps     []string
	contexts  map[host.Handle]string
	calls     map[host.Handle]*called
	// Contexts that may be open at once.
	places int
	// Answers in place of the name in capitals.
	answers map[string]string
}

type called struct {
	text    string
	options *host.Options
	choices []string
	failed  *host.Error
	// A call that is dropped before its end is cancelled.
	finished bool
}

var refused = &host.Error{Code: "invalid", Message: "not that"}

// use makes a new fake the host.
func use(t *testing.T) *fake {
	f := &fake{
		contexts: map[host.Handle]string{},
		calls:    map[host.Handle]*called{},
		places:   256,
		answers:  map[string]string{},
	}
	host.Use(f)
	t.Cleanup(func() { host.Use(nil) })
	return f
}

// Handles of all fakes: what an earlier test forgot may be dropped in a later one, and is none of its own.
var last host.Handle

func (f *fake) next() host.Handle { last++; return last }

func (f *fake) step(format string, values ...any) {
	f.steps = append(f.steps, fmt.Sprintf(format, values...))
}

func (f *fake) open(text string) (host.Handle, *host.Error) {
	if f.ContextsLeft() == 0 {
		return 0, &host.Error{Code: "limit-exceeded", Message: "contexts_max"}
	}
	handle := f.next()
	f.contexts[handle] = text
	return handle, nil
}

func (f *fake) CreateContext(model *string) (host.Handle, *host.Error) {
	if model != nil && *model == "nobody" {
		return 0, refused
	}
	return f.open("")
}

func (f *fake) DropContext(context host.Handle) { delete(f.contexts, context) }

func (f *fake) write(context host.Handle, text string) *host.Error {
	if strings.Contains(text, "FAIL") {
		return refused
	}
	f.contexts[context] += text
	f.step("%s", text)
	return nil
}

func (f *fake) Append(context host.Handle, text string) *host.Error { return f.write(context, text) }
func (f *fake) AppendMarkup(context host.Handle, text string) *host.Error {
	return f.write(context, "markup("+text+")")
}
func (f *fake) AppendTokens(context host.Handle, tokens []uint32) *host.Error {
	return f.write(context, fmt.Sprint(tokens))
}
func (f *fake) AppendImage(context host.Handle, bytes []byte) *host.Error {
	return f.write(context, fmt.Sprintf("image(%d)", len(bytes)))
}
func (f *fake) BeginRole(context host.Handle, role string) *host.Error {
	return f.write(context, "<"+role+">")
}
func (f *fake) EndRole(context host.Handle) *host.Error { return f.write(context, "</>") }

func (f *fake) start(context host.Handle, choices []string, options *host.Options) (host.Handle, *host.Error) {
	name := ""
	if options.Name != nil {
		name = *options.Name
	}
	text, given := f.answers[name]
	if !given {
		text = strings.ToUpper(name)
	}
	call := &called{text: text, options: options, choices: choices}
	if strings.HasPrefix(name, "fail") {
		call.failed = refused
	}
	handle := f.next()
	f.calls[handle] = call
	f.contexts[context] += text
	f.step("start %s", name)
	return handle, nil
}

func (f *fake) Generate(context host.Handle, options *host.Options) (host.Handle, *host.Error) {
	return f.start(context, nil, options)
}

func (f *fake) Select(context host.Handle, choices []string, options *host.Options) (host.Handle, *host.Error) {
	return f.start(context, choices, options)
}

func (f *fake) Fork(context host.Handle) (host.Handle, *host.Error) {
	return f.open(f.contexts[context])
}

func (f *fake) Text(context host.Handle) (string, *host.Error) { return f.contexts[context], nil }

func (f *fake) TokenCount(context host.Handle) (uint32, *host.Error) {
	return uint32(len(f.contexts[context])), nil
}

func (f *fake) Truncate(context host.Handle, tokens uint32) *host.Error {
	f.contexts[context] = f.contexts[context][:tokens]
	return nil
}

// CallText is the call itself, whose letters are then the pieces.
func (f *fake) CallText(call host.Handle) (host.Handle, *host.Error) {
	f.step("stream")
	copied := *f.calls[call]
	handle := f.next()
	f.calls[handle] = &copied
	return handle, nil
}

func (f *fake) ReadStream(stream host.Handle) (string, bool) {
	call := f.calls[stream]
	if call.text == "" {
		return "", false
	}
	piece := call.text[:1]
	call.text = call.text[1:]
	return piece, true
}

func (f *fake) DropStream(stream host.Handle) { f.step("drop stream"); delete(f.calls, stream) }

func (f *fake) Finished(call host.Handle) (host.Handle, *host.Error) {
	f.calls[call].finished = true
	f.step("wait")
	if failed := f.calls[call].failed; failed != nil {
		return 0, failed
	}
	return call, nil
}

func (f *fake) Cancel(host.Handle) { f.step("cancel") }

func (f *fake) DropCall(call host.Handle) {
	if known := f.calls[call]; known != nil && !known.finished {
		f.step("cancelled %s", *f.calls[call].options.Name)
	}
}

func (f *fake) OutcomeText(outcome host.Handle) string      { return f.calls[outcome].text }
func (f *fake) FinishReason(outcome host.Handle) string     { return "length" }
func (f *fake) Tokens(outcome host.Handle) []uint32         { return []uint32{1, 2} }
func (f *fake) Matched(host.Handle) (string, bool)          { return "\n", true }
func (f *fake) Choice(host.Handle) (uint32, bool)           { return 1, true }
func (f *fake) DropOutcome(host.Handle)                     {}
func (f *fake) ContextsLeft() uint32                        { return uint32(f.places - len(f.contexts)) }
func (f *fake) Emit(channel, data string) *host.Error       { f.step("%s: %s", channel, data); return nil }
func (f *fake) ContextLength(*string) (uint32, *host.Error) { return 0, refused }

// options are those that a call was started with.
func (f *fake) options(name string) *called {
	for _, call := range f.calls {
		if call.options.Name != nil && *call.options.Name == name {
			return call
		}
	}
	return nil
}

// run is what a run of a program comes to: its result, or CODE: MESSAGE.
func run[A, R any](program func(*sglhost.State, A) (R, error), arguments string) string {
	host.Exported = host.Exports{}
	sglhost.Program("test", "", program)
	result, err := host.Exported.Run(arguments)
	if err != nil {
		return err.Code + ": " + err.Message
	}
	return result
}

// with has a program's state for a test.
func with(program func(*sglhost.State)) string {
	return run(func(s *sglhost.State, _ struct{}) (any, error) { program(s); return nil, nil }, "{}")
}

func equal[T comparable](t *testing.T, is, expect T) {
	t.Helper()
	if is != expect {
		t.Errorf("is\n%v\nand not\n%v", is, expect)
	}
}

func (f *fake) expect(t *testing.T, steps ...string) {
	t.Helper()
	if !slices.Equal(f.steps, steps) {
		t.Errorf("steps were\n%q\nand not\n%q", f.steps, steps)
	}
}
