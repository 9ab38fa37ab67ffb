// What the compiler's checks for undefined behaviour call (g++ -fsanitize=alignment,bounds,shift,integer-divide-by-zero
// -fno-sanitize-recover), instead of the library that comes with them: so that kernels built with these checks end with
// the twin's message. A misaligned access is an error on a device, too; a shift or an index past its bounds is garbage.
//
// The structures are those of LLVM's compiler-rt/lib/ubsan/ubsan_handlers.h, as far as they are read here.
#include "fault.h"

struct Place {
    const char* file;
    u32 line;
    u32 column;
};
struct TypeMismatch {
    Place place;
    const void* type;
    u8 alignment_log2;
    u8 kind;
};

#define HANDLER extern "C" [[noreturn]] __attribute__((visibility("hidden"))) void

HANDLER __ubsan_handle_type_mismatch_v1_abort(const TypeMismatch* at, const void* pointer) {
    twin::fatal("misaligned access at %s:%u: %p is not aligned to %u", at->place.file, at->place.line, pointer,
                1u << at->alignment_log2);
}
HANDLER __ubsan_handle_out_of_bounds_abort(const Place* at, u64 index) {
    twin::fatal("index %lld past the bounds of an array at %s:%u", index, at->file, at->line);
}
HANDLER __ubsan_handle_shift_out_of_bounds_abort(const Place* at, u64, u64 bits) {
    twin::fatal("shift by %lld bits at %s:%u", bits, at->file, at->line);
}
HANDLER __ubsan_handle_divrem_overflow_abort(const Place* at, u64, u64) {
    twin::fatal("division by zero at %s:%u", at->file, at->line);
}
