package host

import (
	"fmt"
	"path"
	"runtime"
	"strings"
)

// Place is where the program's own code called a function that is on the stack, or what called that in the end:
// " (program.go:12)".
func Place(called string) string {
	callers := make([]uintptr, 64)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	below := false
	for {
		frame, more := frames.Next()
		pkg, _, _ := strings.Cut(frame.Function, ".")
		switch {
		case frame.Function == called:
			below = true
		case below && pkg != "runtime" && pkg != "os" && pkg != "log" && pkg != "sglhost":
			return fmt.Sprintf(" (%s:%d)", path.Base(frame.File), frame.Line)
		}
		if !more {
			return ""
		}
	}
}
