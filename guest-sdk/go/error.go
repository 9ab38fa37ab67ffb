package sglhost

import (
	"errors"
	"fmt"

	"sglhost/internal/host"
)

// Error is why a step, or the whole program, failed.
//
// A program may return one of its own, or any other error, whose code then is "program".
type Error struct {
	// Code is what kind of failure it was, from an open set: invalid, limit-exceeded, too-long, unsupported, cancelled,
	// deadline-exceeded, unavailable, or program for one that the program itself found.
	Code string
	// Message is for people.
	Message string
	// Retryable tells whether the same step may succeed later.
	Retryable bool
}

// Error is the code and the message.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

func invalid(format string, values ...any) *Error {
	return &Error{Code: "invalid", Message: fmt.Sprintf(format, values...)}
}

func program(format string, values ...any) *Error {
	return &Error{Code: "program", Message: fmt.Sprintf(format, values...)}
}

// fromHost turns what the host says into a failure that nobody has seen yet; nil stays nil.
func fromHost(err *host.Error) *failure {
	if err == nil {
		return nil
	}
	return note(&Error{Code: err.Code, Message: err.Message, Retryable: err.Retryable})
}

// toHost is the error that a run ends with. One that wraps an *Error has its code.
func toHost(err error) *host.Error {
	if of, plain := err.(*Error); plain {
		return &host.Error{Code: of.Code, Message: of.Message, Retryable: of.Retryable}
	}
	ends := &host.Error{Code: "program", Message: err.Error()}
	if of := (*Error)(nil); errors.As(err, &of) {
		ends.Code, ends.Retryable = of.Code, of.Retryable
	}
	return ends
}

// failure is one of a step, and whether the program has seen it.
type failure struct {
	err  *Error
	seen bool
}

// failures are all of this run's, in order.
var failures []*failure

func note(err *Error) *failure {
	failed := &failure{err: err}
	failures = append(failures, failed)
	return failed
}

// show hands the error to the program, whose business it now is.
func (f *failure) show() error {
	f.seen = true
	return f.err
}

func firstUnseen() error {
	for _, failed := range failures {
		if !failed.seen {
			return failed.err
		}
	}
	return nil
}
