package sglhost

import (
	"fmt"
	"os"
	"reflect"
	"runtime/debug"

	"sglhost/internal/host"
)

// Program makes run the program of this component. It is called once, in an init function of package main:
//
//	func init() { sglhost.Program("tip_suggestion", "Two tips, expanded and summarised.", tipSuggestion) }
//
// A is a struct. Its exported fields are the program's arguments, in order: strings, bools, numbers, slices of those,
// pointers to those (an argument that may be left out, and is nil then), and any or [encoding/json.RawMessage], which
// take whatever there is. Tags say more of a field:
//
//	Topic string `json:"topic" doc:"What to give tips on." default:"health"`
//
// json is the argument's name (the field's in snake_case if there is none), doc its description, default the value that
// it takes when it is left out: text as it is, anything else as JSON.
//
// What run returns is the run's result, written as JSON; with R any and nil it is null. An error ends the run: an
// [*Error] with its own code and message, any other with the code "program".
//
// A panic ends the run with an error that has the code "program", its message and its line; its stack goes to the run's
// log. A panic in a goroutine that the program started cannot be caught: it ends the run as a trap, and is in the log.
func Program[A, R any](name, description string, run func(s *State, arguments A) (R, error)) {
	if host.Exported.Run != nil {
		panic("sglhost.Program was called twice: a component is one program")
	}
	arguments := argumentsOf(reflect.TypeFor[A]())
	host.Exported = host.Exports{
		Describe: func() string { return describeProgram(name, description, arguments) },
		Run: func(given string) (string, *host.Error) {
			failures = nil
			result, err := carryOut(func() ([]byte, error) {
				var values A
				// Before a context is opened: a wrong argument should cost nothing.
				if err := takeArguments(given, arguments, reflect.ValueOf(&values).Elem()); err != nil {
					return nil, err
				}
				s := NewState()
				result, err := run(s, values)
				if err != nil {
					return nil, err
				}
				// What nobody read must still be generated: it is part of the run's text and of its variables.
				if !s.held.closed {
					s.waitForAll()
				}
				text, err := marshal(result)
				if err != nil {
					return nil, program("the result cannot be written as JSON: %v", err)
				}
				return text, nil
			})
			if err != nil {
				return "", toHost(err)
			}
			return string(result), nil
		},
	}
}

// carryOut makes an error of a panic, and of the first failure that the program did not look at. That comes before what
// the program returned, which follows from it: text that could not be generated reads as empty, and then does not
// parse.
func carryOut(run func() ([]byte, error)) (result []byte, err error) {
	defer func() {
		if value := recover(); value != nil {
			fmt.Fprintf(os.Stderr, "panic: %v\n\n%s", value, debug.Stack())
			result, err = nil, program("panic: %v%s", value, host.Place("runtime.gopanic"))
		}
		if unseen := firstUnseen(); unseen != nil {
			result, err = nil, unseen
		}
	}()
	return run()
}
