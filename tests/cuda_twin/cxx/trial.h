// What tests ask of the twin: functions of the driver that fail, a device that is broken, and counts.
//
// The functions that tests find in the library, all thread-safe:
//
//   void twin_set_order(uint64_t order)                                    who goes first: 0, 1 or a seed (launch.h)
//   void twin_set_workers(uint32_t count)                                  threads that share a launch (launch.h)
//   void twin_set_lazy(int lazy)                                           work waits for the host; 1 first (stream.h)
//   void twin_set_memory(uint64_t bytes)                                   of the device; 1 GiB at first
//   void twin_set_attribute(int attribute, int value)                      as cuDeviceGetAttribute numbers them
//   void twin_fail_next(const char* function, int status)                  its next call answers this
//   void twin_fail_after(const char* function, uint64_t calls, int status) its call after so many answers this
//   void twin_fail_always(const char* function, int status)                all its calls answer this; 0: none does
//   void twin_break(int status)                                            all calls answer this; 0 repairs the device
//   the file that SGLHOST_TWIN_BREAK names, if it is there                 the same, for another process than the test's
//   uint64_t twin_count(const char* what)                                  see below
//   uint32_t twin_most_threads(const char* kernel)                         of a block of it, in any launch
//   void twin_check()                                                      fatal if something was written beside memory
//
// And for libraries beside the driver:
//
//   int twin_enter(const char* function)                                   counts a call; what it must answer, if not 0
//   int twin_issue(...)                                                    issues work (cuda_kernel.cpp)
//   uint32_t twin_alignment(const void* pointer)                           of a device's address, up to 256 (memory.h)
//
// What can be counted: calls of a function of the driver, by its name; how often a kernel ran, by its name, in graphs
// or alone; "launches" of kernels that are not captured, "graph launches", "synchronisations" (calls in which the host
// waits), "allocations" and "pinned allocations" (calls), "live allocations" and "live bytes" on the device, "unloads
// before graphs" (of modules while a graph lives). Functions are named without a suffix like "_v2"; one that is another
// with more arguments counts as that other.
#pragma once

#include <string_view>

#include "status.h"
#include "types.h"

namespace twin {

// What a call of the function has to answer instead of doing anything; counts it.
CUresult enter(std::string_view function);
void count(std::string_view what);
void note_threads(std::string_view kernel, u32 threads);

// Names without "_v2", "_v3".
std::string_view without_version(std::string_view function);

}  // namespace twin
