// Package host is the contract of wit/ as Go: what a program asks of its host, and what it exports to it.
//
// In a component it is carried out by imports (component_wasip1.go), in tests by whatever [Use] is given. Everything is
// blocking. That costs no overlap: the host starts a call at once, and a program waits only where it reads a result.
//
// Not here: names of results, sticky errors, the lifetime of handles. Those are package sglhost's.
package host

// Error is why the host refused something.
type Error struct {
	Code      string
	Message   string
	Retryable bool
}

// TokenLogprob is a token with its bytes and its log-probability.
type TokenLogprob struct {
	Token   uint32
	Bytes   []byte
	Logprob float32
}

// Handle is a resource of the host's. 0 is none.
type Handle int32

// ConstraintKind is how a constraint's text is read.
type ConstraintKind int

// Kinds of constraints.
const (
	Regex ConstraintKind = iota
	JSONSchema
	Lark
	StructuralTag
	// Choices has texts in place of a text.
	Choices
)

// Constraint is what an output must match.
type Constraint struct {
	Kind    ConstraintKind
	Text    string
	Choices []string
}

// Bias is added to a token's logit.
type Bias struct {
	Token uint32
	Bias  float32
}

// Options are those of one call. What is nil, or empty, takes the host's default.
type Options struct {
	Name              *string
	MaxTokens         *uint32
	MinTokens         *uint32
	Temperature       *float32
	TopP              *float32
	TopK              *int32
	MinP              *float32
	FrequencyPenalty  *float32
	PresencePenalty   *float32
	RepetitionPenalty *float32
	Stop              []string
	StopTokens        []uint32
	StopRegexes       []string
	NoStopTrim        *bool
	SkipSpecialTokens *bool
	IgnoreEOS         *bool
	Seed              *uint64
	LogitBias         []Bias
	TopLogprobs       *uint32
	ChoicesMethod     *string
	Constraint        *Constraint
}

// Host is everything that a program can ask for. A model is nil for the host's default.
type Host interface {
	CreateContext(model *string) (Handle, *Error)
	DropContext(context Handle)
	Append(context Handle, text string) *Error
	AppendMarkup(context Handle, text string) *Error
	AppendTokens(context Handle, tokens []uint32) *Error
	AppendImage(context Handle, bytes []byte) *Error
	BeginRole(context Handle, role string) *Error
	EndRole(context Handle) *Error
	Generate(context Handle, options *Options) (Handle, *Error)
	Select(context Handle, choices []string, options *Options) (Handle, *Error)
	Score(context Handle, text string) ([]TokenLogprob, *Error)
	NextTokens(context Handle, count uint32) ([]TokenLogprob, *Error)
	Fork(context Handle) (Handle, *Error)
	Truncate(context Handle, tokens uint32) *Error
	TokenCount(context Handle) (uint32, *Error)
	Text(context Handle) (string, *Error)

	// CallText is the call's stream. At most once a call.
	CallText(call Handle) (Handle, *Error)
	// Finished waits for the end, and gives the outcome.
	Finished(call Handle) (Handle, *Error)
	Cancel(call Handle)
	DropCall(call Handle)

	// ReadStream waits for the next piece of text; false: there is none any more.
	ReadStream(stream Handle) (string, bool)
	DropStream(stream Handle)

	OutcomeText(outcome Handle) string
	Tokens(outcome Handle) []uint32
	FinishReason(outcome Handle) string
	Matched(outcome Handle) (string, bool)
	Logprobs(outcome Handle) []TokenLogprob
	TopLogprobs(outcome Handle, position uint32) []TokenLogprob
	PromptTokens(outcome Handle) uint32
	CachedTokens(outcome Handle) uint32
	CompletionTokens(outcome Handle) uint32
	ForcedTokens(outcome Handle) uint32
	Choice(outcome Handle) (uint32, bool)
	Scores(outcome Handle) []float32
	DropOutcome(outcome Handle)

	Models() []string
	ContextLength(model *string) (uint32, *Error)
	AcceptsImages(model *string) (bool, *Error)

	Emit(channel, data string) *Error
	TokensLeft() uint64
	ContextsLeft() uint32
	MillisecondsLeft() uint64
}

// Exports are what the program offers to its host.
type Exports struct {
	// Run takes a JSON object of arguments, and gives the result as JSON.
	Run func(arguments string) (string, *Error)
	// Describe gives a JSON document: name, description, JSON Schema of the arguments.
	Describe func() string
}

// Exported is the program of this component.
var Exported Exports

var current Host

// Use has all that is asked for answered by host.
func Use(host Host) { current = host }

// Current is the host.
func Current() Host {
	if current == nil {
		panic("sglhost: there is no host here: a program is built by `sglhost build` and run by `sglhost run`; " +
			"a test of one needs a host of its own")
	}
	return current
}
