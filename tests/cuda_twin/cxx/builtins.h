// CUDA's built-in variables and functions, as far as kernels use them; each does what the CUDA C++ Programming Guide
// says. A call that the guide leaves undefined is fatal.
#pragma once

#include <cmath>
#include <cstring>

#include "thread.h"

#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)

#define threadIdx (twin::thread->index)
#define blockIdx (twin::block->index)
#define blockDim (twin::block->size)
#define gridDim (twin::block->grid)

// Meeting others ----------------------------------------------------------------------------------------------------

inline void __syncthreads(twin::Location where = twin::Location::current()) { twin::barrier(where); }

inline void __syncwarp(u32 mask = 0xffffffffu, twin::Location where = twin::Location::current()) {
    twin::together([](void* const (&)[twin::LANES], u32) {}, mask, nullptr, "__syncwarp", where);
}

namespace twin {

template <class T>
struct Shuffle {
    T value;
    u32 source;
    T result;

    static void perform(void* const (&lanes)[LANES], u32 mask) {
        for (u32 lane = 0; lane < LANES; lane++) {
            auto* own = static_cast<Shuffle*>(lanes[lane]);
            if (!own) continue;
            if (!(mask >> own->source & 1))
                fatal("lane %u shuffles from lane %u, which is not in the mask", lane, own->source);
            own->result = static_cast<Shuffle*>(lanes[own->source])->value;
        }
    }
};

template <class T>
T shuffle(u32 mask, T value, u32 source, const char* name, Location where) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "CUDA shuffles words of 4 and 8 bytes");
    Shuffle<T> operands{value, source, value};
    together(&Shuffle<T>::perform, mask, &operands, name, where);
    return operands.result;
}

struct Vote {
    bool predicate;
    u32 result;

    static void perform(void* const (&lanes)[LANES], u32) {
        u32 votes = 0;
        for (u32 lane = 0; lane < LANES; lane++)
            if (lanes[lane] && static_cast<Vote*>(lanes[lane])->predicate) votes |= 1u << lane;
        for (void* own : lanes)
            if (own) static_cast<Vote*>(own)->result = votes;
    }
};

}  // namespace twin

// Lanes are taken in groups of `width`, a power of two; a source outside of the group means the lane itself, but for
// __shfl_sync, where it is taken modulo `width`.
template <class T>
T __shfl_sync(u32 mask, T value, int source, int width = 32, twin::Location where = twin::Location::current()) {
    u32 first = twin::lane() & ~(width - 1u);
    return twin::shuffle(mask, value, first + (source & (width - 1u)), "__shfl_sync", where);
}
template <class T>
T __shfl_up_sync(u32 mask, T value, u32 delta, int width = 32, twin::Location where = twin::Location::current()) {
    u32 lane = twin::lane(), within = lane & (width - 1u);
    return twin::shuffle(mask, value, within >= delta ? lane - delta : lane, "__shfl_up_sync", where);
}
template <class T>
T __shfl_down_sync(u32 mask, T value, u32 delta, int width = 32, twin::Location where = twin::Location::current()) {
    u32 lane = twin::lane(), within = lane & (width - 1u);
    bool inside = delta < static_cast<u32>(width) && within + delta < static_cast<u32>(width);
    return twin::shuffle(mask, value, inside ? lane + delta : lane, "__shfl_down_sync", where);
}
template <class T>
T __shfl_xor_sync(u32 mask, T value, int bits, int width = 32, twin::Location where = twin::Location::current()) {
    u32 lane = twin::lane(), source = lane ^ bits;
    // The guide lets a lane read from earlier groups, and answers its own value for later ones.
    bool inside = source < (lane & ~(width - 1u)) + width;
    return twin::shuffle(mask, value, inside ? source : lane, "__shfl_xor_sync", where);
}
inline u32 __ballot_sync(u32 mask, int predicate, twin::Location where = twin::Location::current()) {
    twin::Vote vote{predicate != 0, 0};
    twin::together(&twin::Vote::perform, mask, &vote, "__ballot_sync", where);
    return vote.result;
}
inline int __any_sync(u32 mask, int predicate, twin::Location where = twin::Location::current()) {
    return __ballot_sync(mask, predicate, where) != 0;
}
inline int __all_sync(u32 mask, int predicate, twin::Location where = twin::Location::current()) {
    return __ballot_sync(mask, predicate, where) == mask;
}

// Memory ------------------------------------------------------------------------------------------------------------

template <class T>
T __ldg(const T* from) {
    twin::check_aligned(from, alignof(T), "__ldg");
    return *from;
}
// Answers the value before. Blocks may run on several threads of the operating system, hence a true atomic.
template <class T>
T atomicAdd(T* at, std::type_identity_t<T> value) {
    static_assert(std::is_integral_v<T>, "sums of floats would depend on the order of threads");
    return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}

// Numbers -----------------------------------------------------------------------------------------------------------

inline float __uint_as_float(u32 bits) { return std::bit_cast<float>(bits); }
inline u32 __float_as_uint(float x) { return std::bit_cast<u32>(x); }

inline int __popc(u32 x) { return std::popcount(x); }
inline int __clz(u32 x) { return std::countl_zero(x); }
inline int __clzll(u64 x) { return std::countl_zero(x); }
inline int __ffs(u32 x) { return x ? std::countr_zero(x) + 1 : 0; }
inline u64 __umul64hi(u64 a, u64 b) { return static_cast<unsigned __int128>(a) * b >> 64; }

inline int min(int a, int b) { return a < b ? a : b; }
inline u32 min(u32 a, u32 b) { return a < b ? a : b; }
inline u32 min(int a, u32 b) { return min(static_cast<u32>(a), b); }
inline u32 min(u32 a, int b) { return min(a, static_cast<u32>(b)); }
inline i64 min(i64 a, i64 b) { return a < b ? a : b; }
inline u64 min(u64 a, u64 b) { return a < b ? a : b; }
inline float min(float a, float b) { return fminf(a, b); }
inline int max(int a, int b) { return a > b ? a : b; }
inline u32 max(u32 a, u32 b) { return a > b ? a : b; }
inline u32 max(int a, u32 b) { return max(static_cast<u32>(a), b); }
inline u32 max(u32 a, int b) { return max(a, static_cast<u32>(b)); }
inline i64 max(i64 a, i64 b) { return a > b ? a : b; }
inline u64 max(u64 a, u64 b) { return a > b ? a : b; }
inline float max(float a, float b) { return fmaxf(a, b); }

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
// Macros, because C's library has declared functions of these names.
#define __expf(x) expf(x)
#define __logf(x) logf(x)
