package sglhost

import "sglhost/internal/host"

// Emit sends a piece of output to whoever started the run, at once; it waits when the reader is slow. It fails when the
// run's limit of emitted bytes is reached, or nobody reads any more.
func Emit(channel, data string) error { return plain(host.Current().Emit(channel, data)) }

// TokensLeft is how many tokens, of prompts and outputs together, the run may still use.
func TokensLeft() uint64 { return host.Current().TokensLeft() }

// ContextsLeft is how many states the run may still open or fork; closing one gives its place back.
func ContextsLeft() int { return int(host.Current().ContextsLeft()) }

// MillisecondsLeft is the wall-clock time until the run is ended.
func MillisecondsLeft() uint64 { return host.Current().MillisecondsLeft() }

// Models are the names of the models that the host serves, the default first.
func Models() []string { return host.Current().Models() }

// ContextLength is the longest conversation, in tokens, of a model; "" is the default model.
func ContextLength(model string) (int, error) {
	length, err := host.Current().ContextLength(named(model))
	return int(length), plain(err)
}

// AcceptsImages tells whether a model takes images; "" is the default model.
func AcceptsImages(model string) (bool, error) {
	accepts, err := host.Current().AcceptsImages(named(model))
	return accepts, plain(err)
}

// plain is an error that goes to the program at once.
func plain(err *host.Error) error {
	if err == nil {
		return nil
	}
	return &Error{Code: err.Code, Message: err.Message, Retryable: err.Retryable}
}

func named(model string) *string {
	if model == "" {
		return nil
	}
	return &model
}
