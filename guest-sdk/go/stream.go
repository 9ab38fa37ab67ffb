package sglhost

import (
	"iter"

	"sglhost/internal/host"
)

// Stream is the text generated as name, in pieces, each as soon as the host has it: whole characters, never part of a
// stop text. It waits for each piece, and ends when the call does. A failure comes with an empty piece, as the last.
//
//	for piece, err := range s.Stream("story") {
//		if err != nil {
//			return nil, err
//		}
//		fmt.Print(piece)
//	}
//
// A call can be streamed once; [State.Get] is its whole text in any case.
//
// It panics if nothing was generated under that name.
func (s *State) Stream(name string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		result := s.mustFind(name)
		if result == nil {
			yield("", s.failed.show())
			return
		}
		stream, err := result.stream()
		if err != nil {
			yield("", s.fail(err).show())
			return
		}
		if !pieces(stream, yield) {
			return
		}
		if _, err := result.wait(); err != nil {
			yield("", s.fail(err).show())
		}
	}
}

// pieces yields what comes, and tells whether the reader wants more.
func pieces(stream host.Handle, yield func(string, error) bool) bool {
	defer host.Current().DropStream(stream)
	for {
		piece, more := host.Current().ReadStream(stream)
		if !more {
			return true
		}
		if !yield(piece, nil) {
			return false
		}
	}
}
