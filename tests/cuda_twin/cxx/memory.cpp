#include "memory.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>

#include "pages.h"

namespace twin {

namespace {

struct Allocation {
    size_t bytes;
    Memory memory;
    bool freed;

    // Pages from `first_page(pointer)` on.
    size_t page_bytes() const { return whole_pages(slack() + bytes); }
    size_t slack() const { return (16 - bytes % 16) % 16; }
};

std::mutex mutex;
// Never destroyed, like all that threads may still use while the process ends. Also read by the signal handler, while
// the thread that could change it waits for the kernel.
auto& allocations = *new std::map<char*, Allocation>;
size_t device_total = size_t{1} << 30;
size_t device_used = 0;
u64 device_count = 0;

char* first_page(char* pointer) { return reinterpret_cast<char*>(reinterpret_cast<uintptr_t>(pointer) / PAGE * PAGE); }

// A file full of 0xff. Mapping it privately gives memory that is full of it and costs nothing until it is written.
constexpr size_t FILL_BYTES = 4 << 20;
int fill_file() {
    static const int file = [] {
        int file = memfd_create("cuda-twin", MFD_CLOEXEC);
        char page[PAGE];
        memset(page, 0xff, sizeof page);
        bool written = file >= 0;
        for (size_t at = 0; at < FILL_BYTES; at += PAGE) written = written && write(file, page, PAGE) == PAGE;
        if (!written) fatal("cannot make a file in memory");
        return file;
    }();
    return file;
}

void fill(char* at, size_t bytes) {
    for (size_t done = 0; done < bytes; done += FILL_BYTES) {
        size_t part = std::min(FILL_BYTES, bytes - done);
        void* mapped = mmap(at + done, part, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
                            fill_file(), 0);
        if (mapped == MAP_FAILED) fatal("no memory on the host for %zu bytes", bytes);
    }
}

const char* name_of(Memory memory) { return memory == Memory::Device ? "device memory" : "pinned memory"; }

void check_border(char* pointer, const Allocation& allocation) {
    auto is_fill = [](char c) { return c == '\xff'; };
    char *start = first_page(pointer), *end = pointer + allocation.bytes;
    if (!std::all_of(start, pointer, is_fill))
        fatal("something wrote before the start of %zu bytes of %s at %p", allocation.bytes, name_of(allocation.memory),
              static_cast<void*>(pointer));
    if (!std::all_of(end, end + allocation.slack(), is_fill))
        fatal("something wrote past the end of %zu bytes of %s at %p", allocation.bytes, name_of(allocation.memory),
              static_cast<void*>(pointer));
}

// The allocation that the address is in or beside.
auto nearest(const void* address) {
    char* at = static_cast<char*>(const_cast<void*>(address));
    auto next = allocations.upper_bound(at);
    if (next != allocations.end() && at >= first_page(next->first) - PAGE) return next;
    if (next == allocations.begin()) return allocations.end();
    auto before = std::prev(next);
    return at < first_page(before->first) + before->second.page_bytes() + PAGE ? before : allocations.end();
}

bool describe(const void* address, char* text, u64 text_bytes) {
    if (address < reinterpret_cast<void*>(PAGE)) {
        snprintf(text, text_bytes, "a null pointer");
        return true;
    }
    auto found = nearest(address);
    if (found == allocations.end()) return false;
    auto& [pointer, allocation] = *found;
    const char* where = allocation.freed ? "freed" : address < pointer ? "before the start of" : "past the end of";
    snprintf(text, text_bytes, "%s %s, %zu bytes at %p", where, name_of(allocation.memory), allocation.bytes,
             static_cast<void*>(pointer));
    return true;
}

}  // namespace

void* allocate(Memory memory, size_t bytes) {
    std::lock_guard lock(mutex);
    static const bool added = (add_description(describe), true);
    (void)added;
    Allocation allocation{std::max<size_t>(bytes, 1), memory, false};
    if (memory == Memory::Device) {
        if (bytes > device_total - device_used) return nullptr;
        device_used += allocation.bytes, device_count++;
    }
    char* start = map_between_forbidden(allocation.page_bytes());
    fill(start, allocation.page_bytes());
    char* pointer = start + allocation.page_bytes() - allocation.slack() - allocation.bytes;
    allocations.emplace(pointer, allocation);
    return pointer;
}

bool release(Memory memory, void* pointer) {
    std::lock_guard lock(mutex);
    auto found = allocations.find(static_cast<char*>(pointer));
    if (found == allocations.end() || found->second.memory != memory || found->second.freed) return false;
    auto& allocation = found->second;
    check_border(found->first, allocation);
    // Mapped anew rather than only forbidden: that gives the memory back, and keeps the addresses.
    mmap(first_page(found->first), allocation.page_bytes(), PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    allocation.freed = true;
    if (memory == Memory::Device) device_used -= allocation.bytes, device_count--;
    return true;
}

void check_borders() {
    std::lock_guard lock(mutex);
    for (auto& [pointer, allocation] : allocations)
        if (!allocation.freed) check_border(pointer, allocation);
}

void check_borders_of(const void* pointer) {
    std::lock_guard lock(mutex);
    auto found = nearest(pointer);
    if (found != allocations.end() && !found->second.freed) check_border(found->first, found->second);
}

bool within(Memory memory, const void* pointer, size_t bytes) {
    std::lock_guard lock(mutex);
    auto found = nearest(pointer);
    if (found == allocations.end() || found->second.freed || found->second.memory != memory) return false;
    auto at = static_cast<const char*>(pointer);
    return at >= found->first && bytes <= found->second.bytes && at + bytes <= found->first + found->second.bytes;
}

bool known(const void* pointer) {
    std::lock_guard lock(mutex);
    auto found = nearest(pointer);
    if (found == allocations.end()) return false;
    auto at = static_cast<const char*>(pointer);
    return at >= found->first && at <= found->first + found->second.bytes;
}

u32 alignment(const void* pointer) {
    std::lock_guard lock(mutex);
    auto found = nearest(pointer);
    if (found == allocations.end()) return 1;
    u64 offset = static_cast<const char*>(pointer) - found->first;
    return 1u << std::countr_zero(offset | 256);
}

Use use_of_device_memory() {
    std::lock_guard lock(mutex);
    return {device_used, device_total, device_count};
}

void set_device_memory(size_t bytes) {
    std::lock_guard lock(mutex);
    device_total = std::max(bytes, device_used);
}

}  // namespace twin
