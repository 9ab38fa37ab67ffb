package sglhost

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"sglhost/internal/host"
)

// emptyReadsMax is how often a result is read from a failed state as "" before the program is stopped: it would loop
// for ever otherwise.
const emptyReadsMax = 10_000

// State is a conversation with the model: text, generated results by name, and their place in the host's cache. A
// program is given its first one; SGLang calls it s.
//
// After the first failure no step reaches the host any more; see the package's comment. A state is for one goroutine at
// a time.
type State struct {
	// What is dropped with the state; apart from it, so that it outlives a state that nobody has any more.
	held *holding
	// The first failure.
	failed     *failure
	emptyReads int
}

// NewState is an empty conversation with the host's default model.
func NewState() *State { return open(nil) }

// NewStateWithModel is an empty conversation with one of the models that the host serves; see [Models].
func NewStateWithModel(model string) *State { return open(&model) }

func open(model *string) *State {
	makeRoom(true)
	context, err := host.Current().CreateContext(model)
	return newState(context, fromHost(err), nil)
}

func newState(context host.Handle, failed *failure, results []*result) *State {
	s := &State{held: &holding{context: context, results: results}, failed: failed}
	s.held.hold()
	cleanUp(s, s.held.release)
	return s
}

// Close drops the conversation now: its place in the cache, its place among the run's states, and what it still
// generates, unless a fork has that, too. A state that nobody has any more is closed by and by, so Close is seldom
// needed. Results that were read stay readable; steps on a closed state fail.
func (s *State) Close() {
	s.held.release()
	keep(s)
}

// fail keeps the first failure. Later ones follow from it, so nobody need look at them.
func (s *State) fail(failed *failure) *failure {
	if s.failed == nil {
		s.failed = failed
	}
	if s.failed != failed {
		failed.seen = true
	}
	return s.failed
}

// step does one on the host, unless an earlier one failed.
func step[T any](s *State, do func(context host.Handle) (T, *host.Error)) (T, *failure) {
	var none T
	if s.failed != nil {
		return none, s.failed
	}
	if s.held.closed {
		return none, s.fail(note(invalid("the state was closed; nothing can be done with it any more")))
	}
	value, err := do(s.held.context)
	keep(s)
	if err != nil {
		return none, s.fail(fromHost(err))
	}
	return value, nil
}

// Append appends parts: text, generated text, images or messages. See [Prompt] for what a part may be.
func (s *State) Append(parts ...any) {
	for _, part := range Join(parts...).parts {
		s.append(part)
	}
}

func (s *State) append(part part) {
	if part.kind == kindText && part.text == "" {
		return
	}
	if part.kind == kindGen {
		s.start(part.asked)
		return
	}
	// A failure stays in the state; the caller has nothing to check.
	step(s, func(context host.Handle) (struct{}, *host.Error) {
		current := host.Current()
		switch part.kind {
		case kindText:
			return struct{}{}, current.Append(context, part.text)
		case kindMarkup:
			return struct{}{}, current.AppendMarkup(context, part.text)
		case kindTokens:
			return struct{}{}, current.AppendTokens(context, part.tokens)
		case kindImage:
			return struct{}{}, current.AppendImage(context, part.bytes)
		case kindBeginRole:
			return struct{}{}, current.BeginRole(context, part.text)
		default:
			return struct{}{}, current.EndRole(context)
		}
	})
}

func (s *State) start(asked *generation) {
	makeRoom(false)
	call, failed := step(s, func(context host.Handle) (host.Handle, *host.Error) {
		if asked.selects {
			return host.Current().Select(context, asked.choices, &asked.options)
		}
		return host.Current().Generate(context, &asked.options)
	})
	if failed != nil {
		return
	}
	name := ""
	if asked.options.Name != nil {
		name = *asked.options.Name
	}
	s.held.add(&result{name: name, call: call})
}

// Role appends a whole message of any role that the model's chat template knows.
func (s *State) Role(role string, parts ...any) { s.Append(Role(role, parts...)) }

// RoleBegin appends the beginning of a message of any role.
func (s *State) RoleBegin(role string) { s.Append(RoleBegin(role)) }

// RoleEnd appends the end of the message that was begun last.
func (s *State) RoleEnd() { s.Append(RoleEnd()) }

// RoleBlock is a message of any role, written by a function: SGLang's with s.role(..).
func (s *State) RoleBlock(role string, write func()) {
	s.RoleBegin(role)
	write()
	s.RoleEnd()
}

// System appends a whole system message.
func (s *State) System(parts ...any) { s.Role("system", parts...) }

// SystemBegin appends the beginning of a system message.
func (s *State) SystemBegin() { s.RoleBegin("system") }

// SystemEnd appends the end of a system message.
func (s *State) SystemEnd() { s.RoleEnd() }

// SystemBlock is a system message written by a function: SGLang's with s.system().
func (s *State) SystemBlock(write func()) { s.RoleBlock("system", write) }

// User appends a whole message of the user.
func (s *State) User(parts ...any) { s.Role("user", parts...) }

// UserBegin appends the beginning of a message of the user.
func (s *State) UserBegin() { s.RoleBegin("user") }

// UserEnd appends the end of a message of the user.
func (s *State) UserEnd() { s.RoleEnd() }

// UserBlock is a message of the user written by a function: SGLang's with s.user().
func (s *State) UserBlock(write func()) { s.RoleBlock("user", write) }

// Assistant appends a whole message of the assistant.
func (s *State) Assistant(parts ...any) { s.Role("assistant", parts...) }

// AssistantBegin appends the beginning of a message of the assistant.
func (s *State) AssistantBegin() { s.RoleBegin("assistant") }

// AssistantEnd appends the end of a message of the assistant.
func (s *State) AssistantEnd() { s.RoleEnd() }

// AssistantBlock is a message of the assistant written by a function: SGLang's with s.assistant().
func (s *State) AssistantBlock(write func()) { s.RoleBlock("assistant", write) }

// Get is the text generated under name, SGLang's s["name"]. It waits for it.
//
// Of a failed call or state it is "", and the failure ends the run unless the program looks at it: with
// [State.Outcome], [State.Sync] or [State.Err]. It panics if nothing was generated under that name.
func (s *State) Get(name string) string {
	failed := s.failed
	if result := s.mustFind(name); result != nil {
		outcome, err := result.wait()
		if err == nil {
			return outcome.Text()
		}
		failed = s.fail(err)
	}
	s.emptyReads++
	if s.emptyReads >= emptyReadsMax {
		panic(fmt.Sprintf("%q was read %d times after it failed: %v", name, s.emptyReads, failed.err))
	}
	return ""
}

// GetInt is the text generated under name, trimmed, as an integer.
func (s *State) GetInt(name string) (int64, error) {
	return parsed(s, name, "integer", func(text string) (int64, error) { return strconv.ParseInt(text, 10, 64) })
}

// GetFloat is the text generated under name, trimmed, as a number.
func (s *State) GetFloat(name string) (float64, error) {
	return parsed(s, name, "number", func(text string) (float64, error) { return strconv.ParseFloat(text, 64) })
}

// GetBool is the text generated under name, trimmed, which must be true or false.
func (s *State) GetBool(name string) (bool, error) {
	return parsed(s, name, "true or false", func(text string) (bool, error) {
		if text == "true" || text == "false" {
			return text == "true", nil
		}
		return false, strconv.ErrSyntax
	})
}

func parsed[T any](s *State, name, wanted string, parse func(string) (T, error)) (T, error) {
	var none T
	outcome, err := s.Outcome(name)
	if err != nil {
		return none, err
	}
	value, err := parse(strings.TrimSpace(outcome.Text()))
	if err != nil {
		return none, wrong(name, outcome, wanted)
	}
	return value, nil
}

// GetJSON reads the text generated under name as JSON into the value that into points to, as [json.Unmarshal] does:
// what a [JSONSchema] asked for. It fails if the call failed, or if the text is no such JSON: it may have reached
// [MaxTokens] first.
func (s *State) GetJSON(name string, into any) error {
	outcome, err := s.Outcome(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(outcome.Text()), into); err != nil {
		wrong := wrong(name, outcome, "JSON of the kind that is read")
		wrong.Message += " (" + err.Error() + ")"
		return wrong
	}
	return nil
}

// wrong: what was generated is not what is wanted.
func wrong(name string, outcome *Outcome, wanted string) *Error {
	cut := ""
	if outcome.FinishReason() == "length" {
		cut = "; it was cut at MaxTokens: allow it more"
	}
	return program("the text generated as %q is no %s: %q%s", name, wanted, strings.TrimSpace(outcome.Text()), cut)
}

// Outcome is how the call named name ended: its text, tokens, finish reason, log-probabilities, scores. It waits for
// it. It fails if the call failed, or if there is none of that name.
func (s *State) Outcome(name string) (*Outcome, error) {
	result := s.held.find(name)
	if result == nil {
		if s.failed != nil {
			return nil, s.failed.show()
		}
		return nil, invalid("%s", s.noSuchName(name))
	}
	outcome, failed := result.wait()
	if failed != nil {
		s.fail(failed)
		return nil, failed.show()
	}
	return outcome, nil
}

// Cancel stops generating name; what was delivered stays.
func (s *State) Cancel(name string) {
	if result := s.held.find(name); result != nil && !result.dropped() {
		host.Current().Cancel(result.call)
		keep(s)
	}
}

// mustFind is nil only in a state that has failed.
func (s *State) mustFind(name string) *result {
	found := s.held.find(name)
	if found == nil && s.failed == nil {
		panic(s.noSuchName(name))
	}
	return found
}

func (s *State) noSuchName(name string) string {
	return fmt.Sprintf("nothing was generated as %q; there is %q", name, s.held.names())
}

// Fork is independent copies from here on, with the results so far. They share the cache up to here, and their calls
// run at the same time.
func (s *State) Fork(count int) []*State {
	forks := make([]*State, 0, max(count, 0))
	for range count {
		forks = append(forks, s.Copy())
	}
	return forks
}

// Copy is one independent copy from here on.
func (s *State) Copy() *State {
	makeRoom(true)
	context, failed := step(s, host.Current().Fork)
	return newState(context, failed, s.held.results)
}

// Text is the whole text so far, role markers included. It waits for what is queued.
func (s *State) Text() (string, error) { return shown(step(s, host.Current().Text)) }

// TokenCount is the length of the conversation in tokens. It waits for what is queued.
func (s *State) TokenCount() (int, error) {
	count, err := shown(step(s, host.Current().TokenCount))
	return int(count), err
}

// Truncate cuts the conversation back to its first tokens.
func (s *State) Truncate(tokens int) error {
	_, err := shown(step(s, func(context host.Handle) (struct{}, *host.Error) {
		return struct{}{}, host.Current().Truncate(context, *count32(tokens))
	}))
	return err
}

// Score is the log-probability of each token of text as the continuation. The conversation stays as it is.
func (s *State) Score(text string) ([]TokenLogprob, error) {
	list, err := shown(step(s, func(context host.Handle) ([]host.TokenLogprob, *host.Error) {
		return host.Current().Score(context, text)
	}))
	return logprobs(list), err
}

// NextTokens are the likeliest next tokens, likeliest first: for search, voting and decoding of one's own.
func (s *State) NextTokens(count int) ([]TokenLogprob, error) {
	list, err := shown(step(s, func(context host.Handle) ([]host.TokenLogprob, *host.Error) {
		return host.Current().NextTokens(context, *count32(count))
	}))
	return logprobs(list), err
}

func shown[T any](value T, failed *failure) (T, error) {
	if failed != nil {
		return value, failed.show()
	}
	return value, nil
}

// Sync waits for all calls of this state. It returns the first failure of a step or a call.
func (s *State) Sync() error {
	s.waitForAll()
	return s.Err()
}

// waitForAll is like Sync, but a failure stays unseen.
func (s *State) waitForAll() {
	for _, result := range s.held.results {
		if _, failed := result.wait(); failed != nil {
			s.fail(failed)
		}
	}
}

// Err is why this state stopped taking steps, or nil. Whoever asks has seen the error: it no longer ends the run.
func (s *State) Err() error {
	if s.failed == nil {
		return nil
	}
	return s.failed.show()
}
