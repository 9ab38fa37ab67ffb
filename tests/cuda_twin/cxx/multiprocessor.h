// A multiprocessor: runs one block at a time, on one thread of the operating system.
//
// It owns a fiber for each thread of a block and switches between them. Fibers are made once: when a block has ended
// they wait, in the endless loop that each of them runs, for the next block, perhaps of another launch and on another
// thread of the operating system. So nothing that belongs to such a thread may be kept from one block to the next.
#pragma once

#include <memory>

#include "fiber.h"
#include "launch.h"

namespace twin {

constexpr u32 MAX_WARPS = MAX_THREADS / LANES;

// What a launch is to all who take part in it.
struct Launch {
    const Kernel& kernel;
    dim3 grid;
    dim3 size;
    u32 shared_bytes;
    void* const* arguments;
    u64 order;
};

class Multiprocessor {
public:
    Multiprocessor();

    // Runs the block to its end. Blocks are numbered x fastest.
    void run(const Launch& launch, u64 number);

    // The functions of thread.h, for this multiprocessor's current thread.
    void barrier(Location where);
    void together(Operation operation, u32 mask, void* operands, const char* name, Location where);

    bool overflowed_at(const void* address) const;

private:
    // 32 threads of the block, a bit each.
    struct Warp {
        // Threads that can go on, and those that have left the kernel.
        u32 ready;
        u32 left;
        // Lanes that wait in the operation below, which is the same for all of them.
        u32 waiting;
        u32 mask;
        Operation operation;
        const char* name;
        Location where;
        void* operands[LANES];
    };

    static void live();
    void run_thread();
    void prepare(const Launch& launch, u64 number);
    void make_all_ready();
    void switch_to_next();
    [[noreturn]] void stuck() const;
    u32 choose(u32 candidates);
    u32 lanes_of(u32 warp) const;

    const Launch* launch_ = nullptr;
    Block block_;
    // The end of the shared memory of all blocks: behind it is an inaccessible page.
    char* shared_end_;
    std::vector<Thread> threads_;
    std::vector<std::unique_ptr<Fiber>> fibers_;
    // Of the block.
    u32 thread_count_ = 0;
    u32 warp_count_ = 0;
    Warp warps_[MAX_WARPS];
    // Warps with a ready thread, a bit each.
    u32 ready_ = 0;
    u32 current_warp_ = 0;
    // Threads that have left the kernel, and those that wait at `barrier_`.
    u32 left_ = 0;
    u32 at_barrier_ = 0;
    Location barrier_;
    u64 chance_ = 1;
    // What called `run`.
    void* caller_ = nullptr;
};

// Gives this thread of the operating system a multiprocessor, one that no other thread has, for as long as it lives.
class Turn {
public:
    Turn();
    ~Turn();
    Turn(const Turn&) = delete;

    Multiprocessor& multiprocessor;
};

}  // namespace twin
