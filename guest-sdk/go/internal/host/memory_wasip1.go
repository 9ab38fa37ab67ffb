package host

import "unsafe"

// Where the host puts what it hands over: lists and texts, of which everything is copied before the next call. So it is
// one piece of memory that is filled from its beginning again at each call, and grows to what the largest answer took.
//
// It is no memory of Go's own heap. The host asks for it in the middle of a call, when nothing of the host may be
// called: there, Go could begin to collect garbage, which reads the clock and may switch to a goroutine that calls the
// host.

// firstBytes holds what WASI's adapter keeps for good (about 130 KB) and all answers of ordinary size.
const firstBytes = 512 << 10

var (
	first [firstBytes / 8]uint64

	// The piece that is being filled; 0 before the first use.
	pieceStart, pieceEnd uintptr
	// Where the next answer begins, and how far it has got.
	answerStart, filled uintptr
)

// sbrk takes memory from the end of what Go has, as Go itself does.
//
//go:linkname sbrk runtime.sbrk
func sbrk(bytes uintptr) unsafe.Pointer

// reallocate is what the host calls for memory. It may come before Go has begun, and in the middle of any call.
//
//go:wasmexport cabi_realloc
func reallocate(old unsafe.Pointer, oldBytes, align, newBytes uint32) unsafe.Pointer {
	if pieceEnd == 0 {
		pieceStart = uintptr(unsafe.Pointer(&first))
		pieceEnd = pieceStart + firstBytes
		answerStart, filled = pieceStart, pieceStart
	}
	start := aligned(filled, uintptr(align))
	if start+uintptr(newBytes) > pieceEnd {
		// What is in the piece before stays readable until the next answer.
		bytes := max(2*(pieceEnd-pieceStart), uintptr(newBytes)+64<<10)
		start = uintptr(sbrk(bytes))
		if start == 0 {
			// There is no memory. The host finds this outside of all memory, and ends the run.
			return pointer(1<<32 - 16)
		}
		pieceStart, pieceEnd, answerStart = start, start+bytes, start
		start = aligned(start, uintptr(align))
	}
	filled = start + uintptr(newBytes)
	if oldBytes > 0 {
		copy(unsafe.Slice((*byte)(pointer(start)), newBytes), unsafe.Slice((*byte)(old), oldBytes))
	}
	return pointer(start)
}

func aligned(address, align uintptr) uintptr { return (address + align - 1) &^ (align - 1) }

// pointer makes one of an address in the memory's 32 bits that is not of Go's heap, or is held by something else.
func pointer(address uintptr) unsafe.Pointer { return unsafe.Add(unsafe.Pointer(nil), address) }

// keepWhatIsThere has answers begin after what was asked for so far: WASI's adapter holds it for good.
func keepWhatIsThere() { answerStart = filled }

// forget makes room for the next answer.
func forget() { filled = answerStart }
