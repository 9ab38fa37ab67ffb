package sglhost

import "sglhost/internal/host"

// generation is what is asked of the model: the call's options, and with choices a select.
type generation struct {
	options host.Options
	choices []string
	// With choices, even none, it is a select.
	selects bool
}

// Option is one of [Gen] and [Select]. What is not set takes the host's default, which is SGLang's: 128 tokens,
// temperature 1. Of two that set the same the last counts; stops and biases add up.
type Option interface{ apply(*generation) }

type option func(*generation)

func (set option) apply(asked *generation) { set(asked) }

// Gen is text to be generated under a name: s.Assistant(Gen("answer", MaxTokens(512))), then s.Get("answer"). The name
// "" is for text that nobody reads by one.
func Gen(name string, options ...Option) Prompt {
	asked := &generation{}
	if name != "" {
		asked.options.Name = &name
	}
	for _, set := range options {
		set.apply(asked)
	}
	return Prompt{[]part{{kind: kindGen, asked: asked}}}
}

// Select is the likeliest of several continuations. A [ChoicesMethod] is an option of it.
func Select(name string, choices []string, options ...Option) Prompt {
	return Gen(name, append([]Option{Choices(choices...)}, options...)...)
}

// GenInt is an integer: Gen(name, Int()), read with [State.GetInt].
func GenInt(name string, options ...Option) Prompt { return Gen(name, append(options, Int())...) }

// GenFloat is a decimal number: Gen(name, Float()), read with [State.GetFloat].
func GenFloat(name string, options ...Option) Prompt { return Gen(name, append(options, Float())...) }

// GenBool is true or false: Gen(name, Bool()), read with [State.GetBool].
func GenBool(name string, options ...Option) Prompt { return Gen(name, append(options, Bool())...) }

// GenString is a string of JSON's: Gen(name, String()), read with [State.GetJSON].
func GenString(name string, options ...Option) Prompt { return Gen(name, append(options, String())...) }

// What a typed call admits parses in Go and is JSON.
const (
	// No +, no leading zeros, no -0; an int64 holds it.
	intPattern   = `0|-?[1-9][0-9]{0,17}`
	floatPattern = `-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?`
	// SGLang has Python's True and False.
	boolPattern = `true|false`
	// With its quotes. Escapes that are half of a character (surrogates) are left out.
	stringPattern = `"([^"\\\x00-\x1f\x7f]|\\(["\\/bfnrt]|u([0-9a-cefA-CEF][0-9a-fA-F]|[dD][0-7])[0-9a-fA-F]{2}))*"`
)

// MaxTokens is the most to generate (128 if it is not set); 0 is allowed.
func MaxTokens(count int) Option {
	return option(func(g *generation) { g.options.MaxTokens = count32(count) })
}

// MinTokens: until so many are generated, neither end-of-text nor a stop token is taken.
func MinTokens(count int) Option {
	return option(func(g *generation) { g.options.MinTokens = count32(count) })
}

// Temperature: 0 always takes the likeliest token; 1 leaves the distribution as it is.
func Temperature(value float64) Option {
	return option(func(g *generation) { g.options.Temperature = float(value) })
}

// TopP keeps the likeliest tokens whose probabilities reach this sum, in (0, 1].
func TopP(value float64) Option { return option(func(g *generation) { g.options.TopP = float(value) }) }

// TopK keeps this many of the likeliest tokens; -1 keeps all.
func TopK(count int) Option {
	return option(func(g *generation) { value := int32(count); g.options.TopK = &value })
}

// MinP keeps tokens at least this fraction as likely as the likeliest, in [0, 1].
func MinP(value float64) Option { return option(func(g *generation) { g.options.MinP = float(value) }) }

// FrequencyPenalty is subtracted from a token's logit for each time that this call took it, in [-2, 2].
func FrequencyPenalty(value float64) Option {
	return option(func(g *generation) { g.options.FrequencyPenalty = float(value) })
}

// PresencePenalty is subtracted once from the logit of each token that this call took, in [-2, 2].
func PresencePenalty(value float64) Option {
	return option(func(g *generation) { g.options.PresencePenalty = float(value) })
}

// RepetitionPenalty divides positive and multiplies negative logits of tokens that this call took, in [0.01, 2].
func RepetitionPenalty(value float64) Option {
	return option(func(g *generation) { g.options.RepetitionPenalty = float(value) })
}

// Stop ends the call at any of these texts. It is cut off, with all after it.
func Stop(texts ...string) Option {
	return option(func(g *generation) { g.options.Stop = append(g.options.Stop, texts...) })
}

// StopToken ends the call at any of these tokens.
func StopToken(tokens ...uint32) Option {
	return option(func(g *generation) { g.options.StopTokens = append(g.options.StopTokens, tokens...) })
}

// StopRegex ends the call where one of these regular expressions matches. The match is kept.
func StopRegex(patterns ...string) Option {
	return option(func(g *generation) { g.options.StopRegexes = append(g.options.StopRegexes, patterns...) })
}

// NoStopTrim keeps in the output what ended it: the stop text, the stop token or end-of-text.
func NoStopTrim(keep bool) Option {
	return option(func(g *generation) { g.options.NoStopTrim = &keep })
}

// SkipSpecialTokens leaves control tokens out of the text, as is done if it is not set.
func SkipSpecialTokens(skip bool) Option {
	return option(func(g *generation) { g.options.SkipSpecialTokens = &skip })
}

// IgnoreEOS goes on after end-of-text.
func IgnoreEOS(ignore bool) Option {
	return option(func(g *generation) { g.options.IgnoreEOS = &ignore })
}

// Seed: same seed, same prompt, same output.
func Seed(seed uint64) Option { return option(func(g *generation) { g.options.Seed = &seed }) }

// LogitBias adds this to a token's logit; -100 forbids it in practice.
func LogitBias(token uint32, bias float64) Option {
	return option(func(g *generation) {
		g.options.LogitBias = append(g.options.LogitBias, host.Bias{Token: token, Bias: float32(bias)})
	})
}

// TopLogprobs reports log-probabilities of the generated tokens, with this many alternatives each.
func TopLogprobs(count int) Option {
	return option(func(g *generation) { g.options.TopLogprobs = count32(count) })
}

// Choices takes the likeliest of these continuations instead of generating freely, as [Select] does.
func Choices(choices ...string) Option {
	return option(func(g *generation) { g.choices, g.selects = append([]string{}, choices...), true })
}

// ChoicesMethod is how a [Select] compares its choices: SGLang's choices_method. It is an option itself.
type ChoicesMethod string

const (
	// TokenLengthNormalized takes the highest mean log-probability over the choice's tokens. This is the default.
	TokenLengthNormalized ChoicesMethod = "token-length-normalized"
	// GreedyTokenSelection compares token by token, as greedy decoding over the choices would.
	GreedyTokenSelection ChoicesMethod = "greedy-token-selection"
	// UnconditionalLikelihoodNormalized takes the highest mean of log-probability given the prompt less that without
	// it.
	UnconditionalLikelihoodNormalized ChoicesMethod = "unconditional-likelihood-normalized"
)

func (method ChoicesMethod) apply(asked *generation) {
	value := string(method)
	asked.options.ChoicesMethod = &value
}

// constrain: a call has one constraint, the last that is given. The host compiles it, and keeps it for calls to come;
// what is wrong with it is the error of the call.
func constrain(kind host.ConstraintKind, text string, choices ...string) Option {
	return option(func(g *generation) {
		g.options.Constraint = &host.Constraint{Kind: kind, Text: text, Choices: choices}
	})
}

// Regex: the whole output must match this regular expression, in the syntax of Rust's regex crate (Go's RE2, nearly)
// without word boundaries.
func Regex(pattern string) Option { return constrain(host.Regex, pattern) }

// JSONSchema: the output must be JSON that this JSON Schema accepts: in one line, with a space after each , and :, and
// properties in the schema's order. A keyword that the host does not implement is the error unsupported, which names
// it. "x-guidance": {"whitespace_flexible": true} in the schema leaves whitespace to the model. Read it with
// [State.GetJSON].
func JSONSchema(schema string) Option { return constrain(host.JSONSchema, schema) }

// Lark: the output must be what this grammar makes of start, in the variant of Lark's notation that the llguidance
// library documents.
func Lark(grammar string) Option { return constrain(host.Lark, grammar) }

// StructuralTag: the output is free text, in which a trigger opens one of the tags that begin with it, and what is in a
// tag is constrained. JSON text of the form that SGLang takes:
//
//	{"structures": [{"begin": "<function=f>", "schema": {"type": "object"}, "end": "</function>"}],
//	 "triggers": ["<function="]}
//
// with "regex": "…" in place of schema where wanted.
func StructuralTag(tags string) Option { return constrain(host.StructuralTag, tags) }

// ConstrainChoices: the output must be one of these texts. It is sampled token by token, as all that is generated is;
// [Choices] compares the texts as wholes instead, and tells their scores.
func ConstrainChoices(choices ...string) Option {
	return constrain(host.Choices, "", append([]string{}, choices...)...)
}

// Int: the output is an integer of at most 18 digits, such as -12: SGLang's dtype=int. Read it with [State.GetInt].
func Int() Option { return Regex(intPattern) }

// Float: the output is a decimal number of at most 18 digits before the point and 17 after it: SGLang's dtype=float.
// Read it with [State.GetFloat].
func Float() Option { return Regex(floatPattern) }

// Bool: the output is true or false: SGLang's dtype=bool. Read it with [State.GetBool].
func Bool() Option { return Regex(boolPattern) }

// String: the output is a string of JSON's, between quotes: SGLang's dtype=str. Read what is between them with
// [State.GetJSON]. It is as long as the model likes: one that reaches [MaxTokens] has no end.
func String() Option { return Regex(stringPattern) }

func float(value float64) *float32 {
	narrow := float32(value)
	return &narrow
}
