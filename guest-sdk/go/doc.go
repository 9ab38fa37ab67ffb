// Package sglhost is for prompt programs: conversations with a model, interleaved with ordinary control flow, that run
// next to the model. It is SGLang's frontend language in Go.
//
//	package main
//
//	import "sglhost"
//
//	type arguments struct {
//		Question string `doc:"What to ask."`
//	}
//
//	func init() {
//		sglhost.Program("basic_qa", "Answers a question.", basicQA)
//	}
//
//	func main() {}
//
//	func basicQA(s *sglhost.State, a arguments) (any, error) {
//		s.System("You are a helpful assistant.")
//		s.User(a.Question)
//		s.Assistant(sglhost.Gen("answer", sglhost.MaxTokens(512)))
//		return nil, nil
//	}
//
// A program is a component: `sglhost build DIR` makes one of a module, `sglhost run FILE.wasm` runs it.
//
// # Nothing waits until it is read
//
// [Gen] starts a call at once, and what is appended after it queues behind it on the host. The program waits where it
// reads a result, with [State.Get] for one. So forks overlap although nothing here is concurrent:
//
//	forks := s.Fork(3)
//	for i, f := range forks {
//		f.Assistant("Idea ", i+1, ": ", sglhost.Gen("idea", sglhost.Stop("\n")))
//	}
//	for _, f := range forks {
//		s.Append(f.Get("idea"))
//	}
//
// # Errors
//
// Steps return nothing to check. The first failure stays with its state: later steps on it do nothing, [State.Get]
// gives "", and the run ends with that failure's code and message, whatever the program returned meanwhile. To handle
// it instead, look at it: [State.Outcome], [State.GetInt], [State.GetJSON], [State.Sync], [State.Err] and all others
// that return an error hand it over, and from then on it is the program's.
//
// # Goroutines
//
// A component has one thread, and whatever waits for the host stops all goroutines. They give no parallelism, and are
// not needed for it: calls overlap because they start at once. A [State] is for one goroutine at a time.
package sglhost
