// Running a kernel: block by block, on one or several threads of the operating system.
#pragma once

#include <tuple>

#include "registry.h"
#include "thread.h"

namespace twin {

// What a device of compute capability 9.0 allows.
constexpr u32 MAX_THREADS = 1024;
constexpr u32 MAX_SHARED_BYTES = 232448;
// Whether any device accepts these sizes.
bool launchable(dim3 grid, dim3 size, u32 shared_bytes);

// Runs the kernel to its end; arguments[i] points at the value of parameter i. Sizes that are not launchable are fatal.
void launch(const Kernel& kernel, dim3 grid, dim3 size, u32 shared_bytes, void* const* arguments);

// Which thread, and which block, goes on where several could: 0 the first, 1 the last, another number a seed of chance.
void set_order(u64 order);
// Threads of the operating system that share the blocks of a launch; 1 unless set. More than one adds races between
// blocks that no seed can repeat.
void set_workers(u32 count);

// The same with the kernel itself, for C++ callers: launch(embed, {tokens}, {256}, 0, table, ...).
template <class... Parameters, class... Arguments>
void launch(void (*function)(Parameters...), dim3 grid, dim3 size, u32 shared_bytes, Arguments... arguments) {
    static_assert(sizeof...(Parameters) == sizeof...(Arguments), "the kernel has another number of parameters");
    const Kernel* kernel = nullptr;
    for (auto& each : kernels())
        if (each.function == reinterpret_cast<void*>(function)) kernel = &each;
    if (!kernel) fatal("the kernel is not listed with EXPORT");
    std::tuple<Parameters...> values(arguments...);
    std::apply(
        [&](auto&... value) {
            void* pointers[] = {&value..., nullptr};
            launch(*kernel, grid, size, shared_bytes, pointers);
        },
        values);
}

}  // namespace twin
