// The driver's start, its device and its context.
#include <cstring>
#include <string_view>

#include "cuda.h"

namespace twin {

std::mutex driver_lock;
TWIN_LOCAL bool in_host_function = false;

namespace {

bool initialised = false;
u32 context_users = 0;
int context;
TWIN_LOCAL void* current_context = nullptr;

constexpr const char* NAME = "CPU twin";
constexpr int DRIVER_VERSION = 12090;

// CUdevice_attribute: an H100's values, but few multiprocessors, so that splitting work over them is seldom worth it
// and yet happens. What is not listed is 0.
auto& attributes = *new std::map<int, int>{
    {1, MAX_THREADS},        // threads of a block
    {2, MAX_THREADS},        // in x
    {3, MAX_THREADS},        // in y
    {4, 64},                 // in z
    {5, 0x7fffffff},         // blocks of a grid in x
    {6, 0xffff},             // in y
    {7, 0xffff},             // in z
    {8, 48 * 1024},          // bytes of shared memory of a block, unless it opts in for more
    {9, 64 * 1024},          // bytes of constant memory
    {10, LANES},             // threads of a warp
    {12, 65536},             // registers of a block
    {13, 1980000},           // clock, in kHz
    {16, 4},                 // multiprocessors
    {31, 1},                 // concurrent kernels
    {36, 2619000},           // memory clock, in kHz
    {37, 5120},              // memory bus, in bits
    {38, 50 << 20},          // bytes of second-level cache
    {39, 2048},              // threads of a multiprocessor
    {40, 3},                 // copy engines
    {41, 1},                 // one address space with the host
    {75, 9},                 // compute capability, major
    {76, 0},                 // minor
    {78, 1},                 // streams have priorities
    {81, 228 * 1024},        // bytes of shared memory of a multiprocessor
    {82, 65536},             // registers of a multiprocessor
    {97, MAX_SHARED_BYTES},  // bytes of shared memory of a block that opts in
    {106, 32},               // blocks of a multiprocessor
    {111, 1024},             // bytes of shared memory of a block that the system uses
    {115, 1},                // memory pools
};

}  // namespace

CUresult check_entry(const char* function, Needs needs) {
    TRY(enter(function));
    REQUIRE(needs == Needs::Nothing || initialised, CUDA_ERROR_NOT_INITIALIZED);
    REQUIRE(needs != Needs::Context || (current_context && context_users), CUDA_ERROR_INVALID_CONTEXT);
    return CUDA_SUCCESS;
}

}  // namespace twin

using namespace twin;

API void twin_set_attribute(int attribute, int value) {
    std::lock_guard lock(driver_lock);
    attributes[attribute] = value;
}

API CUresult cuInit(u32 flags) {
    ENTER(Nothing);
    REQUIRE(flags == 0, CUDA_ERROR_INVALID_VALUE);
    initialised = true;
    return CUDA_SUCCESS;
}

API CUresult cuDriverGetVersion(int* version) {
    ENTER(Nothing);
    *version = DRIVER_VERSION;
    return CUDA_SUCCESS;
}

API CUresult cuGetErrorName(CUresult status, const char** name) {
    switch (status) {
#define X(number, status_name, text)    \
    case status_name:                   \
        *name = #status_name;           \
        return CUDA_SUCCESS;
        TWIN_STATUSES(X)
#undef X
    }
    *name = nullptr;
    return CUDA_ERROR_INVALID_VALUE;
}

API CUresult cuGetErrorString(CUresult status, const char** string) {
    switch (status) {
#define X(number, status_name, text)    \
    case status_name:                   \
        *string = text;                 \
        return CUDA_SUCCESS;
        TWIN_STATUSES(X)
#undef X
    }
    *string = nullptr;
    return CUDA_ERROR_INVALID_VALUE;
}

// Devices -----------------------------------------------------------------------------------------------------------

API CUresult cuDeviceGetCount(int* count) {
    ENTER(Driver);
    *count = 1;
    return CUDA_SUCCESS;
}

API CUresult cuDeviceGet(int* device, int ordinal) {
    ENTER(Driver);
    REQUIRE(ordinal == 0, CUDA_ERROR_INVALID_DEVICE);
    *device = 0;
    return CUDA_SUCCESS;
}

API CUresult cuDeviceGetName(char* name, int bytes, int device) {
    ENTER(Driver);
    REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
    REQUIRE(bytes > 0, CUDA_ERROR_INVALID_VALUE);
    strncpy(name, NAME, bytes - 1);
    name[bytes - 1] = 0;
    return CUDA_SUCCESS;
}

API CUresult cuDeviceGetUuid_v2(char* uuid, int device) {
    ENTER(Driver);
    REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
    memset(uuid, 0, 16);
    strncpy(uuid, NAME, 16);
    return CUDA_SUCCESS;
}
API CUresult cuDeviceGetUuid(char* uuid, int device) { return cuDeviceGetUuid_v2(uuid, device); }

API CUresult cuDeviceTotalMem_v2(size_t* bytes, int device) {
    ENTER(Driver);
    REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
    *bytes = use_of_device_memory().total;
    return CUDA_SUCCESS;
}

API CUresult cuDeviceGetAttribute(int* value, int attribute, int device) {
    ENTER(Driver);
    REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
    auto found = attributes.find(attribute);
    *value = found == attributes.end() ? 0 : found->second;
    return CUDA_SUCCESS;
}

// The context -------------------------------------------------------------------------------------------------------

API CUresult cuDevicePrimaryCtxRetain(void** retained, int device) {
    ENTER(Driver);
    REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
    context_users++;
    *retained = &context;
    return CUDA_SUCCESS;
}

API CUresult cuDevicePrimaryCtxRelease_v2(int device) {
    ENTER(Driver);
    REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
    REQUIRE(context_users > 0, CUDA_ERROR_INVALID_CONTEXT);
    if (context_users == 1) {
        run_all();
        check_borders();
    }
    context_users--;
    return CUDA_SUCCESS;
}

API CUresult cuCtxGetCurrent(void** current) {
    ENTER(Driver);
    *current = current_context;
    return CUDA_SUCCESS;
}

API CUresult cuCtxSetCurrent(void* wanted) {
    ENTER(Driver);
    REQUIRE(!wanted || (wanted == &context && context_users), CUDA_ERROR_INVALID_CONTEXT);
    current_context = wanted;
    // A thread that may run work.
    catch_illegal_accesses();
    return CUDA_SUCCESS;
}

API CUresult cuCtxGetDevice(int* device) {
    ENTER(Context);
    *device = 0;
    return CUDA_SUCCESS;
}

API CUresult cuCtxSetFlags(u32) {
    ENTER(Context);
    return CUDA_SUCCESS;
}

API CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    ENTER(Context);
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return CUDA_SUCCESS;
}

API CUresult cuCtxSynchronize() {
    ENTER(Context);
    TRY(refuse_if_any_capturing());
    count("synchronisations");
    run_all();
    check_borders();
    return CUDA_SUCCESS;
}
