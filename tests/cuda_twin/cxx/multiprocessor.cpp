#include "multiprocessor.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "pages.h"

namespace twin {

TWIN_LOCAL Thread* thread = nullptr;
TWIN_LOCAL Block* block = nullptr;

namespace {

TWIN_LOCAL Multiprocessor* own = nullptr;

bool same(Location a, Location b) {
    auto *file = a.file_name(), *other = b.file_name();
    return a.line() == b.line() && a.column() == b.column() && (file == other || !strcmp(file, other));
}

u32 first_bits(u32 count) { return count >= 32 ? ~0u : (1u << count) - 1; }

bool describe(const void* address, char* text, u64 text_bytes) {
    if (own && own->overflowed_at(address)) {
        snprintf(text, text_bytes, "the thread's stack of %zu bytes is full", STACK_BYTES);
        return true;
    }
    if (!block || address < block->shared || address >= block->shared + MAX_SHARED_BYTES) return false;
    snprintf(text, text_bytes, "past the end of the block's %u bytes of shared memory", block->shared_bytes);
    return true;
}

// Multiprocessors that nobody has. They are never destroyed: fibers are many, and threads that launch come and go.
std::mutex idle_lock;
auto& idle = *new std::vector<Multiprocessor*>;

Multiprocessor& take_idle() {
    std::lock_guard lock(idle_lock);
    if (idle.empty()) return *new Multiprocessor;
    auto* taken = idle.back();
    idle.pop_back();
    return *taken;
}

}  // namespace

Turn::Turn() : multiprocessor(take_idle()) {
    static const bool added = (add_description(describe), true);
    (void)added;
    catch_illegal_accesses();
    own = &multiprocessor;
}

Turn::~Turn() {
    own = nullptr;
    std::lock_guard lock(idle_lock);
    idle.push_back(&multiprocessor);
}

void barrier(Location where) { own->barrier(where); }

void together(Operation operation, u32 mask, void* operands, const char* name, Location where) {
    own->together(operation, mask, operands, name, where);
}

Multiprocessor::Multiprocessor() {
    const size_t bytes = whole_pages(MAX_SHARED_BYTES);
    shared_end_ = map_between_forbidden(bytes) + bytes;
}

bool Multiprocessor::overflowed_at(const void* address) const {
    return std::any_of(fibers_.begin(), fibers_.end(), [&](auto& fiber) { return fiber->overflowed_at(address); });
}

u32 Multiprocessor::lanes_of(u32 warp) const { return first_bits(thread_count_ - warp * LANES); }

void Multiprocessor::make_all_ready() {
    for (u32 i = 0; i < warp_count_; i++) warps_[i].ready = lanes_of(i);
    ready_ = first_bits(warp_count_);
}

void Multiprocessor::prepare(const Launch& launch, u64 number) {
    dim3 size = launch.size, grid = launch.grid;
    block_.index.x = number % grid.x;
    block_.index.y = number / grid.x % grid.y;
    block_.index.z = number / grid.x / grid.y;
    block_.grid = grid;
    block_.shared_bytes = launch.shared_bytes;

    if (block_.size.x != size.x || block_.size.y != size.y || block_.size.z != size.z) {
        block_.size = size;
        thread_count_ = size.count();
        warp_count_ = (thread_count_ + LANES - 1) / LANES;
        if (threads_.size() < thread_count_) threads_.resize(thread_count_);
        while (fibers_.size() < thread_count_) fibers_.push_back(std::make_unique<Fiber>(live));
        for (u32 i = 0; i < thread_count_; i++) {
            threads_[i].number = i;
            threads_[i].index = {i % size.x, i / size.x % size.y, i / size.x / size.y};
        }
    }
    for (u32 i = 0; i < warp_count_; i++) warps_[i].left = warps_[i].waiting = 0;
    make_all_ready();
    left_ = at_barrier_ = 0;
    current_warp_ = launch.order == 1 ? warp_count_ - 1 : 0;
    // SplitMix64's constants: neighbouring seeds and blocks shall have nothing in common.
    chance_ = ((launch.order + 1) * 0x9e3779b97f4a7c15u) ^ ((number + 1) * 0xbf58476d1ce4e5b9u);
}

void Multiprocessor::run(const Launch& launch, u64 number) {
    prepare(launch, number);
    // Aligned to 128 bytes as on a device. What is left before the inaccessible page is NaN too, and must stay so.
    u32 space = (launch.shared_bytes + 127) / 128 * 128;
    block_.shared = shared_end_ - space;
    memset(block_.shared, 0xff, space);

    auto* outer = running;
    launch_ = &launch, block = &block_, running = launch.kernel.name;
    switch_to_next();
    for (u32 i = launch.shared_bytes; i < space; i++)
        if (block_.shared[i] != '\xff')
            fatal("wrote past the end of its %u bytes of shared memory", launch.shared_bytes);
    launch_ = nullptr, block = nullptr, running = outer;
}

// What a fiber does.
void Multiprocessor::live() {
    auto& multiprocessor = *own;
    for (;;) multiprocessor.run_thread();
}

// Not a part of `live`, so that the place of `thread` is looked up for each block.
__attribute__((noinline)) void Multiprocessor::run_thread() {
    launch_->kernel.call(launch_->kernel.function, launch_->arguments);
    thread->copies.clear();
    thread->group_ends.clear();
    warps_[thread->number / LANES].left |= 1u << lane();
    left_++;
    switch_to_next();
}

// One of the set bits.
u32 Multiprocessor::choose(u32 candidates) {
    if (launch_->order == 0) return std::countr_zero(candidates);
    if (launch_->order == 1) return 31 - std::countl_zero(candidates);
    // Marsaglia's xorshift.
    chance_ ^= chance_ << 13, chance_ ^= chance_ >> 7, chance_ ^= chance_ << 17;
    u32 skipped = static_cast<u32>(chance_ >> 32) % std::popcount(candidates);
    while (skipped--) candidates &= candidates - 1;
    return std::countr_zero(candidates);
}

// Leaves the current thread, and comes back when it is its turn; or leaves `run`, and comes back when all is done.
void Multiprocessor::switch_to_next() {
    void** from = thread ? &fibers_[thread->number]->stack_pointer : &caller_;
    if (!ready_) {
        if (left_ != thread_count_) stuck();
        thread = nullptr;
        twin_switch(from, caller_);
        return;
    }
    // A warp goes on as long as it can, unless chance has it otherwise.
    if (launch_->order > 1 || !(ready_ >> current_warp_ & 1)) current_warp_ = choose(ready_);
    auto& warp = warps_[current_warp_];
    u32 lane = choose(warp.ready);
    warp.ready &= ~(1u << lane);
    if (!warp.ready) ready_ &= ~(1u << current_warp_);
    auto* next = &threads_[current_warp_ * LANES + lane];
    if (next == thread) return;
    thread = next;
    twin_switch(from, fibers_[next->number]->stack_pointer);
}

void Multiprocessor::barrier(Location where) {
    if (at_barrier_ == 0) barrier_ = where;
    if (!same(where, barrier_))
        fatal("divergent barrier: waits at %s:%u, while others wait at %s:%u", where.file_name(), where.line(),
              barrier_.file_name(), barrier_.line());
    if (++at_barrier_ == thread_count_) {
        at_barrier_ = 0;
        make_all_ready();
    }
    switch_to_next();
}

void Multiprocessor::together(Operation operation, u32 mask, void* operands, const char* name, Location where) {
    u32 index = thread->number / LANES, lane = twin::lane();
    auto& warp = warps_[index];
    if (!(mask >> lane & 1))
        fatal("%s at %s:%u: lane %u is not in its own mask %08x", name, where.file_name(), where.line(), lane, mask);
    if (!warp.waiting) {
        warp.operation = operation, warp.mask = mask, warp.name = name, warp.where = where;
        std::fill(std::begin(warp.operands), std::end(warp.operands), nullptr);
    }
    if (warp.operation != operation || warp.mask != mask || !same(warp.where, where))
        fatal("divergent warp: %s with mask %08x at %s:%u, while other lanes wait in %s with mask %08x at %s:%u", name,
              mask, where.file_name(), where.line(), warp.name, warp.mask, warp.where.file_name(), warp.where.line());
    warp.operands[lane] = operands;
    warp.waiting |= 1u << lane;
    if (warp.waiting == mask) {
        operation(warp.operands, mask);
        warp.waiting = 0;
        warp.ready |= mask;
        ready_ |= 1u << index;
    }
    switch_to_next();
}

// No thread can go on: says who waits for whom.
void Multiprocessor::stuck() const {
    thread = nullptr;
    for (u32 i = 0; i < warp_count_; i++) {
        auto& warp = warps_[i];
        if (!warp.waiting) continue;
        u32 missing = warp.mask & ~warp.waiting, absent = missing & ~lanes_of(i);
        fatal("divergent warp %u: lanes %08x wait in %s at %s:%u for lanes %08x; of these %08x have left the kernel, "
              "%08x do not exist and %08x wait at a barrier",
              i, warp.waiting, warp.name, warp.where.file_name(), warp.where.line(), missing, missing & warp.left,
              absent, missing & ~warp.left & ~absent);
    }
    fatal("divergent barrier: %u threads wait at %s:%u, but %u have left the kernel", at_barrier_, barrier_.file_name(),
          barrier_.line(), left_);
}

}  // namespace twin
