// Memory in whole pages, so that what lies beside it can be made inaccessible.
#pragma once

#include <sys/mman.h>

#include "fault.h"

namespace twin {

constexpr size_t PAGE = 4096;

inline size_t whole_pages(size_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

inline void forbid(char* at, size_t bytes) { mprotect(at, bytes, PROT_NONE); }

// Memory with an inaccessible page on either side. `bytes` are whole pages.
inline char* map_between_forbidden(size_t bytes) {
    void* memory = mmap(nullptr, bytes + 2 * PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fatal("no memory on the host for %zu bytes", bytes);
    char* start = static_cast<char*>(memory) + PAGE;
    forbid(start - PAGE, PAGE);
    forbid(start + bytes, PAGE);
    return start;
}

}  // namespace twin
