// Included before all of QuickJS: makes deep recursion a RangeError of the script before it is a trap of the run.
//
// QuickJS looks how much of the stack it has used, and on WebAssembly sees only a part: C's arrays, and variables whose
// address is taken. The rest is on a stack of the host's that nothing can look at. Measured on wasmtime, functions that
// recurse take at most 2.4 times as much there as here, except for some that take next to nothing here: those that read
// and write JSON, for one. So the functions that look take some more here. (Source text that is nested some 400 levels
// deep still traps: its parser does not look.)
#include <stdbool.h>
#include <stddef.h>

// Bytes that are taken where QuickJS looks before it recurses in C, in a regular expression, and before it calls.
enum { STACK_LEVEL = 128, STACK_GROUP = 160, STACK_CALL = 64 };

#define STACK_TAKE(bytes) ({ void *taken = __builtin_alloca(bytes); __asm__ volatile("" : : "r"(taken)); })

#define js_check_stack_overflow(runtime, bytes)                             \
    (STACK_TAKE(__builtin_constant_p(bytes) ? STACK_LEVEL : STACK_CALL),    \
     js_check_stack_overflow_unpadded(runtime, bytes))
#define lre_check_stack_overflow(opaque, bytes) \
    (STACK_TAKE(STACK_GROUP), lre_check_stack_overflow_unpadded(opaque, bytes))

bool lre_check_stack_overflow_unpadded(void *opaque, size_t bytes);
