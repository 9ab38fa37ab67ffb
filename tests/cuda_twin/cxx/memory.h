// The device's memory, and pinned memory of the host.
//
// Every allocation ends at an inaccessible page, but for up to 15 bytes, for it starts at a multiple of 16; a device's
// starts at one of 256, which no kernel here relies on. Another inaccessible page lies before it. All is filled with
// 0xff: NaN as a float. What is freed becomes inaccessible and its addresses are never given out again.
#pragma once

#include <cstddef>

#include "types.h"

namespace twin {

enum class Memory { Device, Pinned };

// Null if less than `bytes` are left of the device's memory, or of the host's if pinned. 0 bytes are 1.
void* allocate(Memory memory, size_t bytes);
// False if there is no such allocation. Fatal if something was written before or behind it.
bool release(Memory memory, void* pointer);
// Fatal if something was written before or behind any allocation.
void check_borders();
// The same of the allocation that the address is in.
void check_borders_of(const void* pointer);

// Whether the whole range lies in one allocation.
bool within(Memory memory, const void* pointer, size_t bytes);
// Whether the address is in an allocation of either kind or just behind one, freed ones included.
bool known(const void* pointer);
// The power of two, up to 256, that a device's address would be a multiple of.
u32 alignment(const void* pointer);

struct Use {
    size_t bytes;
    size_t total;
    u64 allocations;
};
Use use_of_device_memory();
// Bytes that the device has; 1 GiB unless set.
void set_device_memory(size_t bytes);

}  // namespace twin
