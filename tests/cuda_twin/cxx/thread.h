// What a CUDA thread on the twin can see and do: who it is, and how it meets the others of its warp and its block.
//
// A thread is a fiber. It runs until it meets others: at a barrier, where the whole block waits for its last thread, or
// in a warp operation, where the warp waits for its last lane, which then performs the operation for all of them.
// Between two such points a thread runs alone, in an order that `set_order` decides; so a kernel that forgot a barrier
// reads, in some order, what another thread has not written yet.
#pragma once

#include <source_location>
#include <vector>

#include "fault.h"
#include "types.h"

namespace twin {

constexpr u32 LANES = 32;

using Location = std::source_location;

// A copy of 16 bytes that has started and has not arrived. `from` is null for zeros.
struct Copy {
    void* to;
    const void* from;
};

struct Thread {
    // threadIdx.
    uint3 index;
    // In the block, x fastest; its lane is number % 32.
    u32 number;
    // Copies in the order in which they started, and for each committed group the number of copies up to its end.
    std::vector<Copy> copies;
    std::vector<u32> group_ends;
};

struct Block {
    uint3 index;
    dim3 size;
    dim3 grid;
    // Its shared memory, aligned to 128 bytes; what lies behind is not accessible.
    char* shared = nullptr;
    u32 shared_bytes = 0;
};

// The thread and the block that this thread of the operating system is running.
extern TWIN_LOCAL Thread* thread;
extern TWIN_LOCAL Block* block;

inline u32 lane() { return thread->number % LANES; }

// Waits for all threads of the block. Fatal if another thread waits at another place, or has left the kernel: CUDA
// leaves the first undefined, and the second is seldom meant.
void barrier(Location where);

// Performs a warp operation for all lanes of the mask, when the last has come. `operands` is what each lane passed;
// null outside of the mask.
using Operation = void (*)(void* const (&operands)[LANES], u32 mask);
// Waits for the other lanes of the mask. Fatal if a lane is not in its own mask, if another lane of the warp waits at
// another place or with another mask, or if a lane of the mask can no longer come.
void together(Operation operation, u32 mask, void* operands, const char* name, Location where);

// Fatal unless `bytes` bytes at `pointer` are in the block's shared memory.
inline void check_shared(const void* pointer, u32 bytes, const char* what) {
    auto offset = static_cast<const char*>(pointer) - block->shared;
    if (offset < 0 || offset + bytes > block->shared_bytes)
        fatal("%s outside of the block's %u bytes of shared memory, at offset %td", what, block->shared_bytes, offset);
}
inline void check_aligned(const void* pointer, u32 bytes, const char* what) {
    if (reinterpret_cast<uintptr_t>(pointer) % bytes != 0) fatal("%s at %p, not aligned to %u", what, pointer, bytes);
}

}  // namespace twin
