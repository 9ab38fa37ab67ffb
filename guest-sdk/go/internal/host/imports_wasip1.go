package host

import "unsafe"

// The contract's functions as the component model's canonical ABI has them: handles are i32, a text is an address and a
// length, and what does not fit one result is written to an area whose address comes last. A name or a type that is not
// the contract's is an error when the component is made.

//go:wasmimport sgl:program/lm@0.1.0 [static]constraint.regex
func constraintRegex(text string, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [static]constraint.json-schema
func constraintJsonSchema(text string, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [static]constraint.lark
func constraintLark(text string, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [static]constraint.structural-tag
func constraintStructuralTag(text string, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [static]constraint.choices
func constraintChoices(choices unsafe.Pointer, count uint32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [resource-drop]constraint
func dropConstraint(constraint int32)

//go:wasmimport sgl:program/lm@0.1.0 [constructor]options
func newOptions() int32

//go:wasmimport sgl:program/lm@0.1.0 [method]options.name
func optionsName(options int32, text string)

//go:wasmimport sgl:program/lm@0.1.0 [method]options.max-tokens
func optionsMaxTokens(options int32, value uint32)

//go:wasmimport sgl:program/lm@0.1.0 [method]options.min-tokens
func optionsMinTokens(options int32, value uint32)

//go:wasmimport sgl:program/lm@0.1.0 [method]options.temperature
func optionsTemperature(options int32, value float32)

//go:wasmimport sgl:program/lm@0.1.0 [method]options.top-p
func optionsTopP(options int32, value float32)

//go:wasmimport sgl:program/lm@0.1.0 [method]options.top-k
func optionsTopK(options int32, value int32)

//go:wasmimport sgl:program/lm@0.1.0 [method]options.min-p
func optionsMinP(options int32, value float32)

//go:wasmimport sgl:program/lm@0.1.0 [method]options.frequency-penalty
func optionsFrequencyPenalty(options int32, value float32)

//go:wasmimport sgl:program/lm@0.1.0 [method]options.presence-penalty
func optionsPresencePenalty(options int32, value float32)

//go:wasmimport sgl:program/lm@0.1.0 [method]options.repetition-penalty
func optionsRepetitionPenalty(options int32, value float32)

//go:wasmimport sgl:program/lm@0.1.0 [method]options.stop
func optionsStop(options int32, text string)

//go:wasmimport sgl:program/lm@0.1.0 [method]options.stop-token
func optionsStopToken(options int32, value uint32)

//go:wasmimport sgl:program/lm@0.1.0 [method]options.stop-regex
func optionsStopRegex(options int32, text string)

//go:wasmimport sgl:program/lm@0.1.0 [method]options.no-stop-trim
func optionsNoStopTrim(options int32, value bool)

//go:wasmimport sgl:program/lm@0.1.0 [method]options.skip-special-tokens
func optionsSkipSpecialTokens(options int32, value bool)

//go:wasmimport sgl:program/lm@0.1.0 [method]options.ignore-eos
func optionsIgnoreEos(options int32, value bool)

//go:wasmimport sgl:program/lm@0.1.0 [method]options.seed
func optionsSeed(options int32, value uint64)

//go:wasmimport sgl:program/lm@0.1.0 [method]options.top-logprobs
func optionsTopLogprobs(options int32, value uint32)

//go:wasmimport sgl:program/lm@0.1.0 [method]options.choices-method
func optionsChoicesMethod(options int32, text string)

//go:wasmimport sgl:program/lm@0.1.0 [method]options.logit-bias
func optionsLogitBias(options int32, token uint32, bias float32)

//go:wasmimport sgl:program/lm@0.1.0 [method]options.constrain
func optionsConstrain(options int32, constraint int32)

//go:wasmimport sgl:program/lm@0.1.0 [resource-drop]options
func dropOptions(options int32)

//go:wasmimport sgl:program/lm@0.1.0 [method]outcome.text
func outcomeText(outcome int32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]outcome.tokens
func outcomeTokens(outcome int32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]outcome.finish-reason
func outcomeFinishReason(outcome int32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]outcome.matched
func outcomeMatched(outcome int32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]outcome.logprobs
func outcomeLogprobs(outcome int32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]outcome.choice
func outcomeChoice(outcome int32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]outcome.scores
func outcomeScores(outcome int32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]outcome.top-logprobs
func outcomeTopLogprobs(outcome int32, position uint32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]outcome.prompt-tokens
func outcomePromptTokens(outcome int32) uint32

//go:wasmimport sgl:program/lm@0.1.0 [method]outcome.cached-tokens
func outcomeCachedTokens(outcome int32) uint32

//go:wasmimport sgl:program/lm@0.1.0 [method]outcome.completion-tokens
func outcomeCompletionTokens(outcome int32) uint32

//go:wasmimport sgl:program/lm@0.1.0 [method]outcome.forced-tokens
func outcomeForcedTokens(outcome int32) uint32

//go:wasmimport sgl:program/lm@0.1.0 [resource-drop]outcome
func dropOutcome(outcome int32)

//go:wasmimport sgl:program/lm@0.1.0 [method]call.text
func callText(call int32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]call.finished
func callFinished(call int32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]call.cancel
func callCancel(call int32)

//go:wasmimport sgl:program/lm@0.1.0 [resource-drop]call
func dropCall(call int32)

//go:wasmimport sgl:program/lm@0.1.0 [async-lower][stream-read-0][method]call.text
func readStream(stream int32, items unsafe.Pointer, count uint32) uint32

//go:wasmimport sgl:program/lm@0.1.0 [stream-drop-readable-0][method]call.text
func dropStream(stream int32)

//go:wasmimport $root [waitable-set-new]
func newWaitableSet() int32

//go:wasmimport $root [waitable-set-wait]
func waitForSet(set int32, event unsafe.Pointer) uint32

//go:wasmimport $root [waitable-set-drop]
func dropWaitableSet(set int32)

//go:wasmimport $root [waitable-join]
func joinSet(waitable, set int32)

//go:wasmimport sgl:program/lm@0.1.0 [static]image.decode
func imageDecode(bytes unsafe.Pointer, count uint32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [resource-drop]image
func dropImage(image int32)

//go:wasmimport sgl:program/lm@0.1.0 [static]context.create
func contextCreate(some bool, model string, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]context.append
func contextAppend(context int32, text string, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]context.append-markup
func contextAppendMarkup(context int32, text string, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]context.begin-role
func contextBeginRole(context int32, text string, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]context.score
func contextScore(context int32, text string, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]context.append-tokens
func contextAppendTokens(context int32, tokens unsafe.Pointer, count uint32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]context.append-image
func contextAppendImage(context, image int32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]context.end-role
func contextEndRole(context int32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]context.fork
func contextFork(context int32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]context.token-count
func contextTokenCount(context int32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]context.text
func contextText(context int32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]context.generate
func contextGenerate(context, options int32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]context.select
func contextSelect(context int32, choices unsafe.Pointer, count uint32, options int32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]context.next-tokens
func contextNextTokens(context int32, count uint32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [method]context.truncate
func contextTruncate(context int32, count uint32, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 [resource-drop]context
func dropContext(context int32)

//go:wasmimport sgl:program/lm@0.1.0 models
func models(area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 context-length
func contextLength(some bool, model string, area unsafe.Pointer)

//go:wasmimport sgl:program/lm@0.1.0 accepts-images
func acceptsImages(some bool, model string, area unsafe.Pointer)

//go:wasmimport sgl:program/run@0.1.0 emit
func emit(channel, data string, area unsafe.Pointer)

//go:wasmimport sgl:program/run@0.1.0 tokens-left
func tokensLeft() uint64

//go:wasmimport sgl:program/run@0.1.0 contexts-left
func contextsLeft() uint32

//go:wasmimport sgl:program/run@0.1.0 milliseconds-left
func millisecondsLeft() uint64
