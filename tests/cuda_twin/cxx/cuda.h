// What the files of the driver share. They are libcuda.so to a program that loads it: the functions of the CUDA driver
// API that the host's device code needs, which behave as NVIDIA's documentation says, and refuse what it forbids.
//
// One device, one context. Each call holds one lock to its end, work that it runs included.
#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "launch.h"
#include "memory.h"
#include "status.h"
#include "stream.h"
#include "trial.h"

#define API extern "C" __attribute__((visibility("default")))

namespace twin {

extern std::mutex driver_lock;
// Whether this thread is in a host function, which may not call the driver.
extern TWIN_LOCAL bool in_host_function;

enum class Needs { Nothing, Driver, Context };
// Whether a call may go on: cuInit was called, this thread has a context, no test wants it to fail.
CUresult check_entry(const char* function, Needs needs);

// At the start of each function of the driver.
#define ENTER(needs)                                                       \
    if (::twin::in_host_function) return CUDA_ERROR_NOT_PERMITTED;         \
    std::lock_guard lock(::twin::driver_lock);                             \
    TRY(::twin::check_entry(__func__, ::twin::Needs::needs))
#define TRY(call) \
    if (CUresult status = (call)) return status
#define REQUIRE(condition, status) \
    if (!(condition)) return status

// Objects that the host knows by a pointer; what it has destroyed is not found.
template <class T>
class Handles {
public:
    T* add(std::shared_ptr<T> object) {
        T* handle = object.get();
        objects_[handle] = std::move(object);
        return handle;
    }
    std::shared_ptr<T> find(const void* handle) const {
        auto found = objects_.find(handle);
        return found == objects_.end() ? nullptr : found->second;
    }
    std::shared_ptr<T> take(const void* handle) {
        auto object = find(handle);
        objects_.erase(handle);
        return object;
    }
    bool empty() const { return objects_.empty(); }

private:
    // Never destroyed: threads may call the driver while the process ends.
    std::map<const void*, std::shared_ptr<T>>& objects_ = *new std::map<const void*, std::shared_ptr<T>>;
};

// A kernel as one module's function, with what cuFuncSetAttribute sets.
struct Function {
    const Kernel* kernel;
    u32 max_shared_bytes = 48 * 1024;
};

// The stream of a handle; null if there is none. 0 and 1 are the null stream.
std::shared_ptr<Stream> find_stream(const void* handle);

// Whether there are graphs that could be launched.
bool graphs_live();

}  // namespace twin
