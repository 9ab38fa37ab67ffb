// The kernels by name, each with a way to call it with arguments from memory, as a driver does.
#pragma once

#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "types.h"

namespace twin {

struct Parameter {
    u32 bytes;
    bool pointer;
};

struct Kernel {
    const char* name;
    // What EXPORT allows it.
    u32 registers;
    // The kernel's address.
    void* function;
    // Calls it; arguments[i] points at the value of parameter i.
    void (*call)(void* function, void* const* arguments);
    std::vector<Parameter> parameters;
};

inline std::vector<Kernel>& kernels() {
    // Never destroyed: threads may launch while the process ends.
    static auto& all = *new std::vector<Kernel>;
    return all;
}

inline const Kernel* find_kernel(std::string_view name) {
    for (auto& kernel : kernels())
        if (kernel.name == name) return &kernel;
    return nullptr;
}

// What EXPORT makes of a kernel.
struct Registration {
    template <class... Parameters>
    Registration(const char* name, u32 registers, void (*function)(Parameters...)) {
        auto call = [](void* function, void* const* arguments) {
            [&]<size_t... I>(std::index_sequence<I...>) {
                reinterpret_cast<void (*)(Parameters...)>(function)(*static_cast<Parameters*>(arguments[I])...);
            }(std::index_sequence_for<Parameters...>{});
        };
        kernels().push_back({name,
                             registers,
                             reinterpret_cast<void*>(function),
                             call,
                             {Parameter{sizeof(Parameters), std::is_pointer_v<Parameters>}...}});
    }
};

}  // namespace twin
