package host

import (
	"fmt"
	"runtime/debug"
	"strings"
	_ "unsafe" // For go:linkname.
)

// A program that calls os.Exit ends its run with an error that says so. WASI would tell the host only that it failed,
// and not where.

// end is how a run ends.
type end struct {
	result string
	err    *Error
}

// ended is told once how the run ends, by whoever ends it.
var ended chan end

type exitHook struct {
	F            func()
	RunOnFailure bool
}

// addExitHook has os.Exit call a function before it ends everything.
//
//go:linkname addExitHook internal/runtime/exithook.Add
func addExitHook(hook exitHook)

func init() { addExitHook(exitHook{F: exiting, RunOnFailure: true}) }

// carryOut runs the program on a goroutine of its own, which can be left where it is.
func carryOut(arguments string) (string, *Error) {
	ended = make(chan end, 1)
	go func() {
		end := end{err: &Error{Code: "program", Message: "the program ended its own goroutine (runtime.Goexit)"}}
		defer func() { ended <- end }()
		end.result, end.err = Exported.Run(arguments)
	}()
	end := <-ended
	return end.result, end.err
}

func exiting() {
	if ended == nil {
		return // Not in a run.
	}
	// Its argument is nowhere else to be found.
	code := "a code"
	if _, after, found := strings.Cut(string(debug.Stack()), "\nos.Exit(0x"); found {
		var number uint64
		if _, err := fmt.Sscanf(after, "%x", &number); err == nil {
			code = fmt.Sprintf("code %d", int64(number))
		}
	}
	ended <- end{err: &Error{Code: "program", Message: "the program exits with " + code + Place("os.Exit")}}
	select {}
}
