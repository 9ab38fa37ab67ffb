#include "fiber.h"

#include <algorithm>
#include <atomic>

#include "pages.h"

#ifndef __x86_64__
#error "the CPU twin switches fibers in x86-64 assembly: write twin_switch and Fiber's first frame for this machine"
#endif

// It ends in a jump, as a return to another place than the caller would always be predicted wrongly.
asm(R"(
    .text
    .hidden twin_switch
    .globl twin_switch
    .type twin_switch, @function
twin_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    pop %rcx
    jmp *%rcx
    .size twin_switch, . - twin_switch
)");

namespace twin {

Fiber::Fiber(void (*function)()) : stack_(map_between_forbidden(STACK_BYTES)) {
    // Stacks that began at the same place of their pages would all want the same lines of the cache.
    static std::atomic<size_t> count = 0;
    size_t shift = count++ * 13 % 32 * 64;
    void** frame = reinterpret_cast<void**>(stack_ + STACK_BYTES - shift) - 8;
    // Six registers, then where twin_switch returns to, then where that would return to.
    std::fill(frame, frame + 8, nullptr);
    frame[6] = reinterpret_cast<void*>(function);
    stack_pointer = frame;
}

bool Fiber::overflowed_at(const void* address) const { return address >= stack_ - PAGE && address < stack_; }

}  // namespace twin
