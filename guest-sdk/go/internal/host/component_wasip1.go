package host

import (
	"runtime"
	"runtime/debug"
	"sync"
	"unsafe"
)

// component is the host of a component: the imports, with their answers copied into Go's memory.
type component struct{}

var (
	// One call of the host at a time, from its beginning until its answer is copied: other goroutines may run
	// meanwhile.
	calls sync.Mutex
	// Where answers are written that do not fit one result: six words, as many as the contract's largest has.
	area [6]uint32
	// What the program answers with: 0 or 1, and a text or an error.
	answer [6]uint32
	// What an answer points into must live until the host has copied it.
	answerTexts [2]string
)

// memoryGoal is above what Go collects garbage more often, rather than let it take as much as all that is in use: a run
// has 128 MiB unless it is given more.
const memoryGoal = 96 << 20

func init() {
	debug.SetMemoryLimit(memoryGoal)
	keepWhatIsThere()
	Use(component{})
}

//go:wasmexport run-program
func runProgram(arguments unsafe.Pointer, bytes uint32) unsafe.Pointer {
	given := string(unsafe.Slice((*byte)(arguments), bytes))
	forget()
	result, err := carryOut(given)
	answer = [6]uint32{}
	if err == nil {
		answerTexts[0] = result
		answer[1], answer[2] = address(result), uint32(len(result))
		return unsafe.Pointer(&answer)
	}
	answerTexts = [2]string{err.Code, err.Message}
	answer[0] = 1
	answer[1], answer[2] = address(err.Code), uint32(len(err.Code))
	answer[3], answer[4] = address(err.Message), uint32(len(err.Message))
	if err.Retryable {
		answer[5] = 1
	}
	return unsafe.Pointer(&answer)
}

//go:wasmexport describe
func describe() unsafe.Pointer {
	if Exported.Describe == nil {
		panic("sglhost: there is no program here: call sglhost.Program in an init function of package main")
	}
	text := Exported.Describe()
	answerTexts[0] = text
	answer[0], answer[1] = address(text), uint32(len(text))
	return unsafe.Pointer(&answer)
}

func address(text string) uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.StringData(text)))) }

// ask calls the host, and has read copy what it answered into area and memory.
func ask[T any](call func(area unsafe.Pointer), read func() T) T {
	calls.Lock()
	defer calls.Unlock()
	call(unsafe.Pointer(&area))
	value := read()
	forget()
	return value
}

// try is ask where the host may refuse: the answer begins with whether it did.
func try[T any](call func(area unsafe.Pointer), read func() T) (T, *Error) {
	var err *Error
	value := ask(call, func() (value T) {
		if flag(0) {
			err = &Error{Code: text(1), Message: text(3), Retryable: flag(5)}
			return value
		}
		return read()
	})
	return value, err
}

// do is try where there is nothing to read.
func do(call func(area unsafe.Pointer)) *Error {
	_, err := try(call, func() struct{} { return struct{}{} })
	return err
}

// Of what one byte is written, the rest is what was there before.
func flag(word int) bool       { return area[word]&0xff != 0 }
func text(word int) string     { return textAt(area[word], area[word+1]) }
func number() uint32           { return area[1] }
func handle() Handle           { return Handle(area[1]) }
func resultText() string       { return text(1) }
func truth() bool              { return flag(1) }
func plainText() string        { return text(0) }
func logprobs() []TokenLogprob { return logprobsAt(area[1], area[2]) }

func textAt(address, bytes uint32) string {
	return string(unsafe.Slice((*byte)(pointer(uintptr(address))), bytes))
}

// listAt is where a list of count items lies. It must be copied.
func listAt[T any](address, count uint32) []T {
	return unsafe.Slice((*T)(pointer(uintptr(address))), count)
}

func logprobsAt(address, count uint32) []TokenLogprob {
	type record struct {
		token, bytes, count uint32
		logprob             float32
	}
	list := make([]TokenLogprob, count)
	for i, one := range listAt[record](address, count) {
		bytes := append([]byte(nil), listAt[byte](one.bytes, one.count)...)
		list[i] = TokenLogprob{Token: one.token, Bytes: bytes, Logprob: one.logprob}
	}
	return list
}

// texts is a list of texts as the host reads it. The texts must be kept alive meanwhile.
func texts(list []string) (unsafe.Pointer, uint32) {
	pairs := make([][2]uint32, len(list))
	for i, text := range list {
		pairs[i] = [2]uint32{address(text), uint32(len(text))}
	}
	return unsafe.Pointer(unsafe.SliceData(pairs)), uint32(len(list))
}

func some(model *string) (bool, string) {
	if model == nil {
		return false, ""
	}
	return true, *model
}

func (component) CreateContext(model *string) (Handle, *Error) {
	given, name := some(model)
	return try(func(area unsafe.Pointer) { contextCreate(given, name, area) }, handle)
}

func (component) DropContext(context Handle) { dropContext(int32(context)) }

func (component) Append(context Handle, text string) *Error {
	return do(func(area unsafe.Pointer) { contextAppend(int32(context), text, area) })
}

func (component) AppendMarkup(context Handle, text string) *Error {
	return do(func(area unsafe.Pointer) { contextAppendMarkup(int32(context), text, area) })
}

func (component) AppendTokens(context Handle, tokens []uint32) *Error {
	data, count := unsafe.Pointer(unsafe.SliceData(tokens)), uint32(len(tokens))
	return do(func(area unsafe.Pointer) { contextAppendTokens(int32(context), data, count, area) })
}

func (component) AppendImage(context Handle, bytes []byte) *Error {
	data, count := unsafe.Pointer(unsafe.SliceData(bytes)), uint32(len(bytes))
	image, err := try(func(area unsafe.Pointer) { imageDecode(data, count, area) }, handle)
	if err != nil {
		return err
	}
	defer dropImage(int32(image))
	return do(func(area unsafe.Pointer) { contextAppendImage(int32(context), int32(image), area) })
}

func (component) BeginRole(context Handle, role string) *Error {
	return do(func(area unsafe.Pointer) { contextBeginRole(int32(context), role, area) })
}

func (component) EndRole(context Handle) *Error {
	return do(func(area unsafe.Pointer) { contextEndRole(int32(context), area) })
}

func (component) Generate(context Handle, options *Options) (Handle, *Error) {
	made, err := lower(options)
	if err != nil {
		return 0, err
	}
	defer dropOptions(made)
	return try(func(area unsafe.Pointer) { contextGenerate(int32(context), made, area) }, handle)
}

func (component) Select(context Handle, choices []string, options *Options) (Handle, *Error) {
	made, err := lower(options)
	if err != nil {
		return 0, err
	}
	defer dropOptions(made)
	defer runtime.KeepAlive(choices)
	pairs, count := texts(choices)
	return try(func(area unsafe.Pointer) { contextSelect(int32(context), pairs, count, made, area) }, handle)
}

func (component) Score(context Handle, text string) ([]TokenLogprob, *Error) {
	return try(func(area unsafe.Pointer) { contextScore(int32(context), text, area) }, logprobs)
}

func (component) NextTokens(context Handle, count uint32) ([]TokenLogprob, *Error) {
	return try(func(area unsafe.Pointer) { contextNextTokens(int32(context), count, area) }, logprobs)
}

func (component) Fork(context Handle) (Handle, *Error) {
	return try(func(area unsafe.Pointer) { contextFork(int32(context), area) }, handle)
}

func (component) Truncate(context Handle, tokens uint32) *Error {
	return do(func(area unsafe.Pointer) { contextTruncate(int32(context), tokens, area) })
}

func (component) TokenCount(context Handle) (uint32, *Error) {
	return try(func(area unsafe.Pointer) { contextTokenCount(int32(context), area) }, number)
}

func (component) Text(context Handle) (string, *Error) {
	return try(func(area unsafe.Pointer) { contextText(int32(context), area) }, resultText)
}

func (component) CallText(call Handle) (Handle, *Error) {
	return try(func(area unsafe.Pointer) { callText(int32(call), area) }, handle)
}

func (component) Finished(call Handle) (Handle, *Error) {
	return try(func(area unsafe.Pointer) { callFinished(int32(call), area) }, handle)
}

func (component) Cancel(call Handle)   { callCancel(int32(call)) }
func (component) DropCall(call Handle) { dropCall(int32(call)) }

func (component) ReadStream(stream Handle) (string, bool) {
	const blocked = 1<<32 - 1
	var piece string
	read := ask(func(area unsafe.Pointer) {
		status := readStream(int32(stream), area, 1)
		if status == blocked {
			set := newWaitableSet()
			joinSet(int32(stream), set)
			var event [2]uint32 // The waitable, and what became of it.
			waitForSet(set, unsafe.Pointer(&event))
			joinSet(int32(stream), 0)
			dropWaitableSet(set)
			status = event[1]
		}
		// How many there are, above four bits that say whether the other end goes on.
		if status>>4 == 0 {
			*(*uint32)(area) = 0
			*(*uint32)(unsafe.Add(area, 8)) = 0
		} else {
			*(*uint32)(unsafe.Add(area, 8)) = 1
		}
	}, func() bool {
		if !flag(2) {
			return false
		}
		piece = plainText()
		return true
	})
	return piece, read
}

func (component) DropStream(stream Handle) { dropStream(int32(stream)) }

func (component) OutcomeText(outcome Handle) string {
	return ask(func(area unsafe.Pointer) { outcomeText(int32(outcome), area) }, plainText)
}

func (component) Tokens(outcome Handle) []uint32 {
	return ask(func(area unsafe.Pointer) { outcomeTokens(int32(outcome), area) }, func() []uint32 {
		return append([]uint32(nil), listAt[uint32](area[0], area[1])...)
	})
}

func (component) FinishReason(outcome Handle) string {
	return ask(func(area unsafe.Pointer) { outcomeFinishReason(int32(outcome), area) }, plainText)
}

func (component) Matched(outcome Handle) (string, bool) {
	var matched bool
	text := ask(func(area unsafe.Pointer) { outcomeMatched(int32(outcome), area) }, func() string {
		if matched = flag(0); !matched {
			return ""
		}
		return resultText()
	})
	return text, matched
}

func (component) Logprobs(outcome Handle) []TokenLogprob {
	return ask(func(area unsafe.Pointer) { outcomeLogprobs(int32(outcome), area) }, func() []TokenLogprob {
		return logprobsAt(area[0], area[1])
	})
}

func (component) TopLogprobs(outcome Handle, position uint32) []TokenLogprob {
	return ask(func(area unsafe.Pointer) { outcomeTopLogprobs(int32(outcome), position, area) }, func() []TokenLogprob {
		return logprobsAt(area[0], area[1])
	})
}

func (component) PromptTokens(outcome Handle) uint32 { return outcomePromptTokens(int32(outcome)) }
func (component) CachedTokens(outcome Handle) uint32 { return outcomeCachedTokens(int32(outcome)) }
func (component) CompletionTokens(outcome Handle) uint32 {
	return outcomeCompletionTokens(int32(outcome))
}
func (component) ForcedTokens(outcome Handle) uint32 { return outcomeForcedTokens(int32(outcome)) }

func (component) Choice(outcome Handle) (uint32, bool) {
	var chosen bool
	choice := ask(func(area unsafe.Pointer) { outcomeChoice(int32(outcome), area) }, func() uint32 {
		chosen = flag(0)
		return number()
	})
	return choice, chosen
}

func (component) Scores(outcome Handle) []float32 {
	return ask(func(area unsafe.Pointer) { outcomeScores(int32(outcome), area) }, func() []float32 {
		return append([]float32(nil), listAt[float32](area[0], area[1])...)
	})
}

func (component) DropOutcome(outcome Handle) { dropOutcome(int32(outcome)) }

func (component) Models() []string {
	return ask(models, func() []string {
		list := make([]string, area[1])
		for i, pair := range listAt[[2]uint32](area[0], area[1]) {
			list[i] = textAt(pair[0], pair[1])
		}
		return list
	})
}

func (component) ContextLength(model *string) (uint32, *Error) {
	given, name := some(model)
	return try(func(area unsafe.Pointer) { contextLength(given, name, area) }, number)
}

func (component) AcceptsImages(model *string) (bool, *Error) {
	given, name := some(model)
	return try(func(area unsafe.Pointer) { acceptsImages(given, name, area) }, truth)
}

func (component) Emit(channel, data string) *Error {
	return do(func(area unsafe.Pointer) { emit(channel, data, area) })
}

func (component) TokensLeft() uint64       { return tokensLeft() }
func (component) ContextsLeft() uint32     { return contextsLeft() }
func (component) MillisecondsLeft() uint64 { return millisecondsLeft() }

// lower makes the host's options, which must be dropped.
func lower(options *Options) (int32, *Error) {
	var constraint Handle
	if options.Constraint != nil {
		var err *Error
		if constraint, err = compile(options.Constraint); err != nil {
			return 0, err
		}
		defer dropConstraint(int32(constraint))
	}
	made := newOptions()
	set(made, options.Name, optionsName)
	set(made, options.MaxTokens, optionsMaxTokens)
	set(made, options.MinTokens, optionsMinTokens)
	set(made, options.Temperature, optionsTemperature)
	set(made, options.TopP, optionsTopP)
	set(made, options.TopK, optionsTopK)
	set(made, options.MinP, optionsMinP)
	set(made, options.FrequencyPenalty, optionsFrequencyPenalty)
	set(made, options.PresencePenalty, optionsPresencePenalty)
	set(made, options.RepetitionPenalty, optionsRepetitionPenalty)
	for _, text := range options.Stop {
		optionsStop(made, text)
	}
	for _, token := range options.StopTokens {
		optionsStopToken(made, token)
	}
	for _, pattern := range options.StopRegexes {
		optionsStopRegex(made, pattern)
	}
	set(made, options.NoStopTrim, optionsNoStopTrim)
	set(made, options.SkipSpecialTokens, optionsSkipSpecialTokens)
	set(made, options.IgnoreEOS, optionsIgnoreEos)
	set(made, options.Seed, optionsSeed)
	for _, bias := range options.LogitBias {
		optionsLogitBias(made, bias.Token, bias.Bias)
	}
	set(made, options.TopLogprobs, optionsTopLogprobs)
	set(made, options.ChoicesMethod, optionsChoicesMethod)
	if constraint != 0 {
		optionsConstrain(made, int32(constraint))
	}
	return made, nil
}

func set[T any](options int32, value *T, set func(int32, T)) {
	if value != nil {
		set(options, *value)
	}
}

func compile(constraint *Constraint) (Handle, *Error) {
	given := constraint.Text
	var ask func(string, unsafe.Pointer)
	switch constraint.Kind {
	case Choices:
		defer runtime.KeepAlive(constraint.Choices)
		pairs, count := texts(constraint.Choices)
		return try(func(area unsafe.Pointer) { constraintChoices(pairs, count, area) }, handle)
	case Regex:
		ask = constraintRegex
	case JSONSchema:
		ask = constraintJsonSchema
	case Lark:
		ask = constraintLark
	case StructuralTag:
		ask = constraintStructuralTag
	}
	return try(func(area unsafe.Pointer) { ask(given, area) }, handle)
}
