#include "launch.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <numeric>
#include <thread>

#include "multiprocessor.h"

namespace twin {

namespace {

std::atomic<u64> order = 0;
std::atomic<u32> workers = 1;

// Threads of the operating system that help with a launch. They and it live until the process ends.
class Helpers {
public:
    // Has `count` helpers do the work together with the caller, until all of them have done it.
    void share(u32 count, const std::function<void()>& work) {
        std::unique_lock lock(mutex_);
        while (size_ < count) {
            size_++;
            std::thread([this] { help(); }).detach();
        }
        work_ = &work, wanted_ = busy_ = count;
        wake_.notify_all();
        lock.unlock();
        work();
        lock.lock();
        done_.wait(lock, [&] { return busy_ == 0; });
    }

private:
    void help() {
        std::unique_lock lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return wanted_ > 0; });
            wanted_--;
            auto* work = work_;
            lock.unlock();
            (*work)();
            lock.lock();
            if (--busy_ == 0) done_.notify_one();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, done_;
    const std::function<void()>* work_ = nullptr;
    u32 size_ = 0, wanted_ = 0, busy_ = 0;
};

// The blocks' numbers in the launch's order. By chance: a walk in equal steps that meets every block, which is enough
// to show what depends on the order of blocks.
class Sequence {
public:
    Sequence(u64 order, u64 count) : order_(order), count_(count) {
        if (order > 1)
            for (step_ = 1 + order * 0x9e3779b97f4a7c15u % count; std::gcd(step_, count) != 1;) step_++;
    }
    u64 at(u64 i) const {
        if (order_ == 0) return i;
        if (order_ == 1) return count_ - 1 - i;
        return (static_cast<unsigned __int128>(i) * step_ + order_) % count_;
    }

private:
    u64 order_, count_, step_ = 1;
};

}  // namespace

void set_order(u64 value) { order = value; }
void set_workers(u32 count) { workers = std::max(count, 1u); }

bool launchable(dim3 grid, dim3 size, u32 shared_bytes) {
    return grid.count() > 0 && grid.x <= 0x7fffffff && grid.y <= 0xffff && grid.z <= 0xffff && size.count() > 0 &&
           size.count() <= MAX_THREADS && size.x <= MAX_THREADS && size.y <= MAX_THREADS && size.z <= 64 &&
           shared_bytes <= MAX_SHARED_BYTES;
}

void launch(const Kernel& kernel, dim3 grid, dim3 size, u32 shared_bytes, void* const* arguments) {
    if (!launchable(grid, size, shared_bytes))
        fatal("%s: no device accepts %u x %u x %u blocks of %u x %u x %u threads with %u bytes of shared memory",
              kernel.name, grid.x, grid.y, grid.z, size.x, size.y, size.z, shared_bytes);
    const Launch launch{kernel, grid, size, shared_bytes, arguments, order};
    const u64 blocks = grid.count();
    const Sequence sequence(launch.order, blocks);
    std::atomic<u64> next = 0;
    auto work = [&] {
        Turn turn;
        for (u64 i; (i = next++) < blocks;) turn.multiprocessor.run(launch, sequence.at(i));
    };
    static auto& helpers = *new Helpers;
    if (u32 count = std::min<u64>(workers, blocks) - 1)
        helpers.share(count, work);
    else
        work();
}

}  // namespace twin
