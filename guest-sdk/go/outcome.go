package sglhost

import (
	"strings"
	"sync"

	"sglhost/internal/host"
)

// Outcome is how a [Gen] or [Select] ended. Everything but the text is fetched from the host when it is asked for.
type Outcome struct {
	handle host.Handle
	text   func() string
}

// TokenLogprob is a token with its log-probability under the model's own distribution, before temperature, penalties
// and constraints.
type TokenLogprob struct {
	Token uint32
	// Bytes are the token's; a token may hold part of a character.
	Bytes []byte
	// Logprob is the natural logarithm of its probability.
	Logprob float32
}

// Text is the token's; parts of characters are shown as U+FFFD.
func (t TokenLogprob) Text() string { return strings.ToValidUTF8(string(t.Bytes), "\uFFFD") }

func logprobs(list []host.TokenLogprob) []TokenLogprob {
	converted := make([]TokenLogprob, len(list))
	for i, one := range list {
		converted[i] = TokenLogprob(one)
	}
	return converted
}

func newOutcome(handle host.Handle) *Outcome {
	outcome := &Outcome{handle: handle}
	outcome.text = sync.OnceValue(func() string { return host.Current().OutcomeText(handle) })
	cleanUp(outcome, func() { host.Current().DropOutcome(handle) })
	return outcome
}

// Text is the whole output; of a [Select], the choice.
func (o *Outcome) Text() string { return o.text() }

// Tokens are those generated.
func (o *Outcome) Tokens() []uint32 { return ask(o, host.Host.Tokens) }

// FinishReason is "stop", "length" or "end-of-text".
func (o *Outcome) FinishReason() string { return ask(o, host.Host.FinishReason) }

// Matched is the stop text, regex match or stop token's text that ended it, if one did.
func (o *Outcome) Matched() (text string, matched bool) {
	return ask2(o, host.Host.Matched)
}

// Logprobs are those of each generated token, if [TopLogprobs] asked for them.
func (o *Outcome) Logprobs() []TokenLogprob { return logprobs(ask(o, host.Host.Logprobs)) }

// TopLogprobs are the alternatives at one position of the output, likeliest first.
func (o *Outcome) TopLogprobs(position int) []TokenLogprob {
	return logprobs(ask(o, func(h host.Host, of host.Handle) []host.TokenLogprob {
		return h.TopLogprobs(of, uint32(position))
	}))
}

// PromptTokens is how many there were before the output, cached ones included.
func (o *Outcome) PromptTokens() int { return int(ask(o, host.Host.PromptTokens)) }

// CachedTokens is how many of those the cache already held.
func (o *Outcome) CachedTokens() int { return int(ask(o, host.Host.CachedTokens)) }

// CompletionTokens is how many were generated.
func (o *Outcome) CompletionTokens() int { return int(ask(o, host.Host.CompletionTokens)) }

// ForcedTokens is how many of those nobody sampled, because the constraint allowed nothing else.
func (o *Outcome) ForcedTokens() int { return int(ask(o, host.Host.ForcedTokens)) }

// Choice is which of the choices a [Select] took, from 0 on; false if it was none.
func (o *Outcome) Choice() (index int, selected bool) {
	choice, selected := ask2(o, host.Host.Choice)
	return int(choice), selected
}

// Scores are those of each choice that a [Select] compared.
func (o *Outcome) Scores() []float32 { return ask(o, host.Host.Scores) }

func ask[T any](o *Outcome, get func(host.Host, host.Handle) T) T {
	value := get(host.Current(), o.handle)
	keep(o)
	return value
}

func ask2[T any](o *Outcome, get func(host.Host, host.Handle) (T, bool)) (T, bool) {
	value, is := get(host.Current(), o.handle)
	keep(o)
	return value, is
}
