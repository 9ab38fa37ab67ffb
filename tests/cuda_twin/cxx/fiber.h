// Fibers: stacks to run on, and going from one to another.
#pragma once

#include <cstddef>

// Saves what a call must preserve on this stack, leaves the stack's pointer in *from, and goes on with another stack
// that was left the same way.
extern "C" void twin_switch(void** from, void* to);

namespace twin {

constexpr size_t STACK_BYTES = 64 * 1024;

// A stack that calls `function` at the first switch to it; `function` never returns. Below it is an inaccessible page.
class Fiber {
public:
    explicit Fiber(void (*function)());
    Fiber(const Fiber&) = delete;

    // What to switch to, and where to leave the pointer when switching away.
    void* stack_pointer;

    // Whether the address is in the inaccessible page.
    bool overflowed_at(const void* address) const;

private:
    // Never given back: fibers live as long as their process.
    char* stack_;
};

}  // namespace twin
