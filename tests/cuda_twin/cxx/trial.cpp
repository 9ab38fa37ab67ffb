#include "trial.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

#include "cuda.h"

namespace twin {

namespace {

struct Failure {
    u64 calls;
    CUresult status;
    bool lasting = false;
};

std::mutex mutex;
// Never destroyed: threads may call the driver while the process ends.
auto& counts = *new std::map<std::string, u64, std::less<>>;
auto& most_threads = *new std::map<std::string, u32, std::less<>>;
auto& failures = *new std::map<std::string, Failure, std::less<>>;
CUresult broken = CUDA_SUCCESS;

// Another process than the test's is told by a file that the device is broken.
bool broken_by_file() {
    static const char* file = std::getenv("SGLHOST_TWIN_BREAK");
    return file && access(file, F_OK) == 0;
}

}  // namespace

std::string_view without_version(std::string_view function) {
    auto end = function.size();
    return end > 3 && function.substr(end - 3, 2) == "_v" ? function.substr(0, end - 3) : function;
}

void count(std::string_view what) {
    std::lock_guard lock(mutex);
    auto found = counts.find(what);
    if (found == counts.end()) found = counts.emplace(what, 0).first;
    found->second++;
}

void note_threads(std::string_view kernel, u32 threads) {
    std::lock_guard lock(mutex);
    auto& most = most_threads[std::string(kernel)];
    most = std::max(most, threads);
}

CUresult enter(std::string_view function) {
    function = without_version(function);
    count(function);
    std::lock_guard lock(mutex);
    if (broken) return broken;
    if (broken_by_file()) return CUDA_ERROR_ILLEGAL_ADDRESS;
    auto found = failures.find(function);
    if (found == failures.end()) return CUDA_SUCCESS;
    if (found->second.calls-- > 0) return CUDA_SUCCESS;
    CUresult status = found->second.status;
    if (found->second.lasting) found->second.calls = 0;
    else failures.erase(found);
    return status;
}

}  // namespace twin

API void twin_set_order(u64 order) { twin::set_order(order); }

API void twin_set_workers(u32 count) { twin::set_workers(count); }

API void twin_set_lazy(int lazy) {
    std::lock_guard lock(twin::driver_lock);
    twin::set_lazy(lazy != 0);
}

API void twin_set_memory(u64 bytes) { twin::set_device_memory(bytes); }

API void twin_fail_after(const char* function, u64 calls, int status) {
    std::lock_guard lock(twin::mutex);
    auto name = std::string(twin::without_version(function));
    twin::failures.insert_or_assign(name, twin::Failure{calls, static_cast<CUresult>(status)});
}

API void twin_fail_next(const char* function, int status) { twin_fail_after(function, 0, status); }

API void twin_fail_always(const char* function, int status) {
    std::lock_guard lock(twin::mutex);
    auto name = std::string(twin::without_version(function));
    if (status) twin::failures.insert_or_assign(name, twin::Failure{0, static_cast<CUresult>(status), true});
    else twin::failures.erase(name);
}

API void twin_break(int status) {
    std::lock_guard lock(twin::mutex);
    twin::broken = static_cast<CUresult>(status);
}

API int twin_enter(const char* function) { return twin::enter(function); }

API u32 twin_alignment(const void* pointer) { return twin::alignment(pointer); }

API u32 twin_most_threads(const char* kernel) {
    std::lock_guard lock(twin::mutex);
    return twin::most_threads[kernel];
}

API u64 twin_count(const char* what) {
    if (what == std::string_view("live allocations")) return twin::use_of_device_memory().allocations;
    if (what == std::string_view("live bytes")) return twin::use_of_device_memory().bytes;
    std::lock_guard lock(twin::mutex);
    auto found = twin::counts.find(twin::without_version(what));
    return found == twin::counts.end() ? 0 : found->second;
}

API void twin_check() {
    std::lock_guard lock(twin::driver_lock);
    twin::check_borders();
}
