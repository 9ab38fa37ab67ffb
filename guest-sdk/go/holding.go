package sglhost

import (
	"fmt"
	"math"
	"reflect"
	"runtime"
	"sync"

	"sglhost/internal/host"
)

// Handles of the host's, and when they are dropped: by Close, or after Go's garbage collector found that nobody has the
// state, or the outcome, any more. The collector finds it on a goroutine of its own, at any time, also where nothing of
// the host may be called; so it only says so, and the program's next call drops them.

// result is a call, and how it ended once somebody waited for it. Forks share it.
type result struct {
	name string
	// 0 once it is dropped.
	call host.Handle
	// States that have it.
	holders int
	outcome *Outcome
	failed  *failure
}

func (r *result) dropped() bool { return r.call == 0 }

// wait gives one of the two.
func (r *result) wait() (*Outcome, *failure) {
	switch {
	case r.outcome != nil || r.failed != nil:
	case r.dropped():
		r.failed = note(invalid("the state was closed before %q was read", r.name))
	default:
		outcome, err := host.Current().Finished(r.call)
		if err != nil {
			r.failed = fromHost(err)
		} else {
			r.outcome = newOutcome(outcome)
		}
	}
	return r.outcome, r.failed
}

func (r *result) stream() (host.Handle, *failure) {
	if r.dropped() {
		return 0, note(invalid("the state was closed before %q was streamed", r.name))
	}
	stream, err := host.Current().CallText(r.call)
	return stream, fromHost(err)
}

// holding is what a state holds of the host's.
type holding struct {
	// 0 where the host refused to open one.
	context host.Handle
	// In the order in which they were started; the last of a name counts.
	results []*result
	closed  bool
}

func (h *holding) add(started *result) {
	started.holders++
	handles += 2 // The call, and its outcome in time.
	// Never into an array that a fork has, too.
	h.results = append(h.results[:len(h.results):len(h.results)], started)
}

func (h *holding) hold() {
	handles++
	for _, result := range h.results {
		result.holders++
	}
}

func (h *holding) release() {
	if h.closed {
		return
	}
	h.closed = true
	handles--
	if h.context != 0 {
		host.Current().DropContext(h.context)
	}
	for _, result := range h.results {
		result.holders--
		if result.holders == 0 {
			host.Current().DropCall(result.call)
			result.call = 0
			handles -= 2
		}
	}
}

func (h *holding) find(name string) *result {
	for i := len(h.results) - 1; i >= 0; i-- {
		if h.results[i].name == name {
			return h.results[i]
		}
	}
	return nil
}

func (h *holding) names() []string {
	names := []string{}
	for _, result := range h.results {
		names = append(names, result.name)
	}
	return names
}

// collectAt is how many handles there may be before those that nobody has are looked for. A run may have 4096, and
// looking takes about a millisecond.
const collectAt = 1024

var (
	// How many there are, about.
	handles int
	collect = collectAt

	forgotten struct {
		sync.Mutex
		releases []func()
	}
)

// cleanUp has release called once nobody has of any more. release must not hold it.
func cleanUp[T any](of *T, release func()) {
	runtime.AddCleanup(of, func(release func()) {
		forgotten.Lock()
		defer forgotten.Unlock()
		forgotten.releases = append(forgotten.releases, release)
	}, release)
}

// keep has the collector not find of before now.
func keep[T any](of *T) { runtime.KeepAlive(of) }

// turns are how often the collector's goroutine may go on before it is taken to have found nothing.
const turns = 1000

// makeRoom drops what nobody has any more, before a call or a context is made. Where there is no place for another, the
// collector looks first: a loop that forks must not run out of them because there is memory enough.
func makeRoom(context bool) {
	dropForgotten()
	full := func() bool { return context && host.Current().ContextsLeft() == 0 }
	if handles < collect && !full() {
		return
	}
	runtime.GC()
	for range turns {
		if dropForgotten() && !full() {
			break
		}
		runtime.Gosched()
	}
	collect = max(collectAt, 2*handles)
}

// dropForgotten tells whether there was something.
func dropForgotten() bool {
	forgotten.Lock()
	releases := forgotten.releases
	forgotten.releases = nil
	forgotten.Unlock()
	for _, release := range releases {
		release()
	}
	return len(releases) > 0
}

// isPlain: whether a value's text is what one expects.
func isPlain(value any) bool {
	switch reflect.ValueOf(value).Kind() {
	case reflect.String, reflect.Bool, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	}
	return false
}

// count32 is a count as the host takes it.
func count32(count int) *uint32 {
	if count < 0 || int64(count) > math.MaxUint32 {
		panic(fmt.Sprintf("sglhost: %d is no count", count))
	}
	narrow := uint32(count)
	return &narrow
}
