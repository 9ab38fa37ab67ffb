// The driver's memory: allocation, copies, fills.
#include <algorithm>
#include <cstring>
#include <vector>

#include "cuda.h"

using namespace twin;

namespace {

using Address = u64;

void* pointer(Address address) { return reinterpret_cast<void*>(address); }

// Small copies from memory that is not pinned are staged by the driver: they take the bytes when they are issued.
constexpr size_t STAGED_BYTES = 64 * 1024;

CUresult allocate_on_device(Address* address, size_t bytes) {
    count("allocations");
    void* memory = allocate(Memory::Device, bytes);
    if (!memory) {
        // What is to be freed may have been waiting for its turn.
        run_all();
        memory = allocate(Memory::Device, bytes);
    }
    REQUIRE(memory, CUDA_ERROR_OUT_OF_MEMORY);
    *address = reinterpret_cast<Address>(memory);
    return CUDA_SUCCESS;
}

// Between host and device, or within the device: whoever is the device's must be the device's.
CUresult copy(const char* name, void* to, const void* from, size_t bytes, const std::shared_ptr<Stream>& stream) {
    return issue(stream, {name, [=] {
                              memcpy(to, from, bytes);
                          }});
}

CUresult copy_to_device(void* to, const void* from, size_t bytes, const std::shared_ptr<Stream>& stream) {
    if (bytes == 0) return CUDA_SUCCESS;
    REQUIRE(within(Memory::Device, to, bytes), CUDA_ERROR_INVALID_VALUE);
    if (within(Memory::Pinned, from, bytes)) return copy("copy to the device", to, from, bytes, stream);
    // CUDA may allow this. But a graph would read, at each launch, memory that nobody promised to keep.
    TRY(refuse_if_capturing(*stream));
    if (bytes > STAGED_BYTES) {
        count("synchronisations");
        TRY(copy("copy to the device", to, from, bytes, stream));
        run(*stream);
        return CUDA_SUCCESS;
    }
    auto start = static_cast<const char*>(from);
    return issue(stream, {"copy to the device", [to, staged = std::vector<char>(start, start + bytes)] {
                              memcpy(to, staged.data(), staged.size());
                          }});
}

CUresult copy_to_host(void* to, const void* from, size_t bytes, const std::shared_ptr<Stream>& stream) {
    if (bytes == 0) return CUDA_SUCCESS;
    REQUIRE(within(Memory::Device, from, bytes), CUDA_ERROR_INVALID_VALUE);
    if (within(Memory::Pinned, to, bytes)) return copy("copy to the host", to, from, bytes, stream);
    // Memory that is not pinned has its bytes when the call returns.
    TRY(refuse_if_capturing(*stream));
    count("synchronisations");
    TRY(copy("copy to the host", to, from, bytes, stream));
    run(*stream);
    return CUDA_SUCCESS;
}

CUresult copy_on_device(void* to, const void* from, size_t bytes, const std::shared_ptr<Stream>& stream) {
    if (bytes == 0) return CUDA_SUCCESS;
    REQUIRE(within(Memory::Device, to, bytes) && within(Memory::Device, from, bytes), CUDA_ERROR_INVALID_VALUE);
    return copy("copy on the device", to, from, bytes, stream);
}

template <class T>
CUresult fill(Address to, T value, size_t count, const std::shared_ptr<Stream>& stream) {
    if (count == 0) return CUDA_SUCCESS;
    REQUIRE(to % sizeof(T) == 0 && within(Memory::Device, pointer(to), count * sizeof(T)), CUDA_ERROR_INVALID_VALUE);
    return issue(stream, {"fill", [=] {
                              std::fill_n(static_cast<T*>(pointer(to)), count, value);
                          }});
}

// What the calls without a stream share: they go through the null stream and wait for it.
template <class Call>
CUresult at_once(Call call) {
    TRY(refuse_while_capturing());
    auto null = null_stream();
    TRY(call(null));
    count("synchronisations");
    run(*null);
    return CUDA_SUCCESS;
}

}  // namespace

API CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
    ENTER(Context);
    auto use = use_of_device_memory();
    *free = use.total - use.bytes;
    *total = use.total;
    return CUDA_SUCCESS;
}

API CUresult cuMemAlloc_v2(Address* address, size_t bytes) {
    ENTER(Context);
    TRY(refuse_while_capturing());
    REQUIRE(bytes > 0, CUDA_ERROR_INVALID_VALUE);
    return allocate_on_device(address, bytes);
}

API CUresult cuMemFree_v2(Address address) {
    ENTER(Context);
    if (!address) return CUDA_SUCCESS;
    TRY(refuse_while_capturing());
    // It waits for the device.
    run_all();
    return release(Memory::Device, pointer(address)) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// In a capture these would become parts of the graph; the twin has no such graphs.
API CUresult cuMemAllocAsync(Address* address, size_t bytes, void* handle) {
    ENTER(Context);
    auto stream = find_stream(handle);
    REQUIRE(stream, CUDA_ERROR_INVALID_HANDLE);
    TRY(refuse_if_capturing(*stream));
    return allocate_on_device(address, bytes);
}

API CUresult cuMemFreeAsync(Address address, void* handle) {
    ENTER(Context);
    auto stream = find_stream(handle);
    REQUIRE(stream, CUDA_ERROR_INVALID_HANDLE);
    if (!address) return CUDA_SUCCESS;
    TRY(refuse_if_capturing(*stream));
    REQUIRE(within(Memory::Device, pointer(address), 1), CUDA_ERROR_INVALID_VALUE);
    return issue(stream, {"free", [address] {
                              if (!release(Memory::Device, pointer(address))) fatal("the memory was freed already");
                          }});
}

API CUresult cuMemHostAlloc(void** address, size_t bytes, u32) {
    ENTER(Context);
    TRY(refuse_while_capturing());
    count("pinned allocations");
    *address = allocate(Memory::Pinned, bytes);
    return CUDA_SUCCESS;
}
API CUresult cuMemAllocHost_v2(void** address, size_t bytes) { return cuMemHostAlloc(address, bytes, 0); }

// Does not wait for the device: a copy that is still to come ends in an illegal access.
API CUresult cuMemFreeHost(void* address) {
    ENTER(Context);
    TRY(refuse_while_capturing());
    return release(Memory::Pinned, address) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// Pools: there is one, which keeps nothing.

API CUresult cuDeviceGetDefaultMemPool(void** pool, int) {
    ENTER(Driver);
    static int only;
    *pool = &only;
    return CUDA_SUCCESS;
}
API CUresult cuDeviceGetMemPool(void** pool, int device) { return cuDeviceGetDefaultMemPool(pool, device); }

API CUresult cuMemPoolSetAttribute(void*, int, void*) {
    ENTER(Driver);
    return CUDA_SUCCESS;
}

API CUresult cuMemPoolTrimTo(void*, size_t) {
    ENTER(Driver);
    return CUDA_SUCCESS;
}

// Copies and fills --------------------------------------------------------------------------------------------------

#define STREAM(handle)                 \
    auto stream = find_stream(handle); \
    REQUIRE(stream, CUDA_ERROR_INVALID_HANDLE)

API CUresult cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void* handle) {
    ENTER(Context);
    STREAM(handle);
    return copy_to_device(pointer(to), from, bytes, stream);
}
API CUresult cuMemcpyHtoD_v2(Address to, const void* from, size_t bytes) {
    ENTER(Context);
    return at_once([&](auto& null) { return copy_to_device(pointer(to), from, bytes, null); });
}

API CUresult cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void* handle) {
    ENTER(Context);
    STREAM(handle);
    return copy_to_host(to, pointer(from), bytes, stream);
}
API CUresult cuMemcpyDtoH_v2(void* to, Address from, size_t bytes) {
    ENTER(Context);
    return at_once([&](auto& null) { return copy_to_host(to, pointer(from), bytes, null); });
}

API CUresult cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void* handle) {
    ENTER(Context);
    STREAM(handle);
    return copy_on_device(pointer(to), pointer(from), bytes, stream);
}
API CUresult cuMemcpyDtoD_v2(Address to, Address from, size_t bytes) {
    ENTER(Context);
    return at_once([&](auto& null) { return copy_on_device(pointer(to), pointer(from), bytes, null); });
}

API CUresult cuMemsetD8Async(Address to, u8 value, size_t count, void* handle) {
    ENTER(Context);
    STREAM(handle);
    return fill(to, value, count, stream);
}
API CUresult cuMemsetD8_v2(Address to, u8 value, size_t count) {
    ENTER(Context);
    return at_once([&](auto& null) { return fill(to, value, count, null); });
}

API CUresult cuMemsetD32Async(Address to, u32 value, size_t count, void* handle) {
    ENTER(Context);
    STREAM(handle);
    return fill(to, value, count, stream);
}
API CUresult cuMemsetD32_v2(Address to, u32 value, size_t count) {
    ENTER(Context);
    return at_once([&](auto& null) { return fill(to, value, count, null); });
}
