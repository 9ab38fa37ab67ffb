// The one header that kernels include: types, conversions, and all PTX.
//
// Everything that is not plain C++ lives here, so that the CPU twin (tests/cuda_twin) can compile the same kernels as
// C++ and run them: it defines SGLHOST_TWIN, and twin.h brings its own version of each function declared below
// "Instructions", and of CUDA's built-ins.
//
// Rules for kernels, which the twin relies on:
// - shared memory is dynamic, through SHARED_MEMORY; it is garbage (NaN on the twin) until it is written;
// - every kernel is listed with EXPORT(name, registers): the build fails if it needs more than those;
// - warp operations are called by all lanes of the warp, with the full mask;
// - all threads of a block come to the same barriers, and none leaves the kernel before the last of them.
#pragma once

#ifdef SGLHOST_TWIN
#include "twin.h"
#else
#include <cuda_bf16.h>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;
typedef __nv_bfloat16 bf16;

// Names the kernel to the twin's registry, and its budget to the build, which reads this variable in the PTX and takes it
// out of it.
#define EXPORT(kernel, registers) extern "C" { __device__ u32 registers_of_##kernel = registers; }
// The block's dynamic shared memory, aligned to 128 bytes, as a T*.
#define SHARED_MEMORY(T, name)                                  \
    extern __shared__ __align__(128) unsigned char shared_[]; \
    T* name = reinterpret_cast<T*>(shared_)
#endif

constexpr u32 WARP = 32;
constexpr u32 ALL_LANES = 0xffffffffu;
constexpr float INFINITE = __builtin_bit_cast(float, 0x7f800000u);

// Instructions ------------------------------------------------------------------------------------------------------
#ifndef SGLHOST_TWIN

__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
// Rounds to nearest even.
__device__ __forceinline__ bf16 to_bf16(float x) { return __float2bfloat16_rn(x); }
// 2^x, within 2 ulp; 0 for -infinity.
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ u32 shared_address(const void* pointer) {
    return static_cast<u32>(__cvta_generic_to_shared(pointer));
}

// Starts to copy 16 bytes from global to shared memory, both aligned to 16; writes zeros instead where `valid` is false
// (then `from` is not read). Nothing may be expected there before copy_async_wait and a barrier.
__device__ __forceinline__ void copy_async_16(void* to, const void* from, bool valid = true) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(valid ? 16 : 0)
                 : "memory");
}
// Ends a group of copies.
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until all of this thread's groups but the last N have arrived.
template <int N>
__device__ __forceinline__ void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// Reads 16 bytes that are used once, past the first-level cache.
__device__ __forceinline__ uint4 load_once(const uint4* from) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(from));
    return v;
}

// Four 8x8 matrices of 16-bit elements. Lane 8 j + i gives the address (in shared memory, aligned to 16) of row i of
// matrix j. r[j] of lane l: elements 2 (l % 4) and the next of row l / 4 of matrix j.
__device__ __forceinline__ void load_matrices(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
// The same of the transposed matrices: r[j] of lane l is elements (2 (l % 4), l / 4) and (2 (l % 4) + 1, l / 4).
__device__ __forceinline__ void load_matrices_transposed(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// d[16, 8] += a[16, 16] b[16, 8], bf16 with f32 sums (PTX mma.m16n8k16). With g = lane / 4 and c = 2 (lane % 4):
// a: (g, c..), (g + 8, c..), (g, c + 8..), (g + 8, c + 8..); b: (c.., g), (c + 8.., g); d: (g, c), (g, c + 1),
// (g + 8, c), (g + 8, c + 1). "c.." are the elements c and c + 1, the first in the low half.
__device__ __forceinline__ void multiply_add(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif

// Plain C++ ---------------------------------------------------------------------------------------------------------

// Two neighbouring elements in one word, the first in the low half.
__device__ __forceinline__ u32 pack(float low, float high) {
    bf16 l = to_bf16(low), h = to_bf16(high);
    u16 bits[2];
    memcpy(&bits[0], &l, 2);
    memcpy(&bits[1], &h, 2);
    return static_cast<u32>(bits[0]) | static_cast<u32>(bits[1]) << 16;
}
// A bf16 is the upper half of a float.
__device__ __forceinline__ float low(u32 pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }

// The sum over the warp, in every lane; always added in the same order.
template <class T>
__device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(ALL_LANES, x, distance);
    return x;
}
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, distance));
    return x;
}
