// The driver's modules, functions and launches.
#include <algorithm>
#include <cstring>

#include "cuda.h"

using namespace twin;

namespace {

struct Module {};

Handles<Module> modules;
Handles<Function> functions;

// CUfunction_attribute.
enum FunctionAttribute {
    MaxThreads = 0,
    StaticSharedBytes = 1,
    ConstBytes = 2,
    LocalBytes = 3,
    Registers = 4,
    PtxVersion = 5,
    BinaryVersion = 6,
    MaxDynamicSharedBytes = 8,
    PreferredSharedCarveout = 9,
};

// The values that arguments had when the kernel was launched.
struct Arguments {
    std::vector<std::unique_ptr<u64[]>> values;
    std::vector<void*> pointers;

    Arguments(const Kernel& kernel, void** from) {
        for (auto& parameter : kernel.parameters) {
            auto& value = values.emplace_back(new u64[(parameter.bytes + 7) / 8]);
            memcpy(value.get(), from[values.size() - 1], parameter.bytes);
            pointers.push_back(value.get());
        }
    }

    // The value of parameter i if that is a pointer, else null.
    const void* pointer(const Kernel& kernel, size_t i) const {
        return kernel.parameters[i].pointer ? *static_cast<void**>(pointers[i]) : nullptr;
    }
};

void run_kernel(const Kernel& kernel, dim3 grid, dim3 size, u32 shared_bytes, const Arguments& arguments) {
    count(kernel.name);
    note_threads(kernel.name, size.count());
    // What was freed may be passed, if it is not used.
    for (size_t i = 0; i < arguments.pointers.size(); i++)
        if (auto* pointer = arguments.pointer(kernel, i); pointer && !known(pointer))
            fatal("argument %zu, %p, is no address of the device", i, pointer);
    launch(kernel, grid, size, shared_bytes, arguments.pointers.data());
    for (size_t i = 0; i < arguments.pointers.size(); i++) check_borders_of(arguments.pointer(kernel, i));
}

CUresult launch_kernel(const void* function_handle, dim3 grid, dim3 size, u32 shared_bytes, const void* stream_handle,
                       void** arguments, void** extra) {
    auto function = functions.find(function_handle);
    auto stream = find_stream(stream_handle);
    REQUIRE(function && stream, CUDA_ERROR_INVALID_HANDLE);
    REQUIRE(!extra, CUDA_ERROR_NOT_SUPPORTED);
    REQUIRE(launchable(grid, size, shared_bytes), CUDA_ERROR_INVALID_VALUE);
    REQUIRE(shared_bytes <= function->max_shared_bytes, CUDA_ERROR_INVALID_VALUE);
    auto& kernel = *function->kernel;
    REQUIRE(arguments || kernel.parameters.empty(), CUDA_ERROR_INVALID_VALUE);
    auto values = std::make_shared<Arguments>(kernel, arguments);
    if (!stream->capture) count("launches");
    return issue(stream, {kernel.name, [&kernel, grid, size, shared_bytes, values] {
                              run_kernel(kernel, grid, size, shared_bytes, *values);
                          }});
}

}  // namespace

// Any image is taken for one of the kernels that the library was built with.
API CUresult cuModuleLoadData(Module** module, const void* image) {
    ENTER(Context);
    REQUIRE(image && *static_cast<const char*>(image), CUDA_ERROR_INVALID_IMAGE);
    *module = modules.add(std::make_shared<Module>());
    return CUDA_SUCCESS;
}
API CUresult cuModuleLoadDataEx(Module** module, const void* image, u32, int*, void**) {
    return cuModuleLoadData(module, image);
}
API CUresult cuModuleLoad(Module** module, const char* path) { return cuModuleLoadData(module, path); }

API CUresult cuModuleUnload(Module* module) {
    ENTER(Context);
    REQUIRE(modules.take(module), CUDA_ERROR_INVALID_HANDLE);
    // Of this module or of another: there is no telling.
    if (graphs_live()) count("unloads before graphs");
    run_all();
    return CUDA_SUCCESS;
}

API CUresult cuModuleGetFunction(Function** function, Module* module, const char* name) {
    ENTER(Context);
    REQUIRE(modules.find(module), CUDA_ERROR_INVALID_HANDLE);
    auto* kernel = find_kernel(name);
    REQUIRE(kernel, CUDA_ERROR_NOT_FOUND);
    *function = functions.add(std::make_shared<Function>(kernel));
    return CUDA_SUCCESS;
}

API CUresult cuFuncGetAttribute(int* value, int attribute, Function* handle) {
    ENTER(Context);
    auto function = functions.find(handle);
    REQUIRE(function, CUDA_ERROR_INVALID_HANDLE);
    switch (attribute) {
        case MaxThreads: *value = MAX_THREADS; break;
        case Registers: *value = function->kernel->registers; break;
        case PtxVersion:
        case BinaryVersion: *value = 90; break;
        case MaxDynamicSharedBytes: *value = function->max_shared_bytes; break;
        case PreferredSharedCarveout: *value = -1; break;
        default: *value = 0;
    }
    return CUDA_SUCCESS;
}

API CUresult cuFuncSetAttribute(Function* handle, int attribute, int value) {
    ENTER(Context);
    auto function = functions.find(handle);
    REQUIRE(function, CUDA_ERROR_INVALID_HANDLE);
    if (attribute == MaxDynamicSharedBytes) {
        REQUIRE(value >= 0 && static_cast<u32>(value) <= MAX_SHARED_BYTES, CUDA_ERROR_INVALID_VALUE);
        function->max_shared_bytes = value;
    } else {
        REQUIRE(attribute == PreferredSharedCarveout, CUDA_ERROR_INVALID_VALUE);
    }
    return CUDA_SUCCESS;
}

API CUresult cuFuncSetCacheConfig(Function* handle, int) {
    ENTER(Context);
    return functions.find(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

API CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Function* handle, int threads,
                                                         size_t shared_bytes) {
    ENTER(Context);
    auto function = functions.find(handle);
    REQUIRE(function, CUDA_ERROR_INVALID_HANDLE);
    REQUIRE(threads > 0, CUDA_ERROR_INVALID_VALUE);
    // A warp's threads and registers are given out in whole warps, shared memory with the system's 1,024 bytes.
    int warps = (threads + 31) / 32, registers = std::max(function->kernel->registers, 1u);
    int by_shared = (228 * 1024) / static_cast<int>(shared_bytes + 1024);
    *blocks = std::min({32, 64 / warps, 65536 / (registers * warps * 32), by_shared});
    return CUDA_SUCCESS;
}

API CUresult cuLaunchKernel(Function* function, u32 grid_x, u32 grid_y, u32 grid_z, u32 x, u32 y, u32 z,
                            u32 shared_bytes, void* stream, void** arguments, void** extra) {
    ENTER(Context);
    return launch_kernel(function, {grid_x, grid_y, grid_z}, {x, y, z}, shared_bytes, stream, arguments, extra);
}

// CUlaunchConfig. Its attributes are hints, but for clusters and the like, which kernels here do not use.
struct LaunchConfig {
    u32 grid[3];
    u32 size[3];
    u32 shared_bytes;
    void* stream;
    void* attributes;
    u32 attribute_count;
};

API CUresult cuLaunchKernelEx(const LaunchConfig* config, Function* function, void** arguments, void** extra) {
    ENTER(Context);
    auto &g = config->grid, &s = config->size;
    return launch_kernel(function, {g[0], g[1], g[2]}, {s[0], s[1], s[2]}, config->shared_bytes, config->stream,
                         arguments, extra);
}

API CUresult cuLaunchHostFunc(void* handle, void (*function)(void*), void* data) {
    ENTER(Context);
    auto stream = find_stream(handle);
    REQUIRE(stream, CUDA_ERROR_INVALID_HANDLE);
    return issue(stream, {"host function", [=] {
                              // Its illegal accesses are its own.
                              auto* outer = running;
                              running = nullptr, in_host_function = true;
                              function(data);
                              running = outer, in_host_function = false;
                          }});
}

// For libraries beside the driver (cublaslt.cpp): issues `work`, which is called with a copy of the `bytes` bytes at
// `data`, perhaps many times.
API CUresult twin_issue(void* handle, const char* name, void (*work)(const void*), const void* data, size_t bytes) {
    ENTER(Context);
    auto stream = find_stream(handle);
    REQUIRE(stream, CUDA_ERROR_INVALID_HANDLE);
    auto start = static_cast<const char*>(data);
    return issue(stream, {name, [work, kept = std::vector<char>(start, start + bytes)] {
                              work(kept.data());
                          }});
}
