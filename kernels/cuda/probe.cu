// Each instruction of device.cuh on its own, so that a test can hold the device, and the twin, to what the header says.
//
// All are launched with one block of 32 threads. Tested against expectations that the host computes.
#include "device.cuh"

// out [count, 3], of x [count]: x as bf16, that as a float, exp2_fast of x; the bits of each.
extern "C" __global__ void __launch_bounds__(32) probe_numbers(const float* x, u32* out, u32 count) {
    for (u32 i = threadIdx.x; i < count; i += WARP) {
        const bf16 half = to_bf16(x[i]);
        out[3 * i] = pack(x[i], 0.0f);
        out[3 * i + 1] = __float_as_uint(to_float(half));
        out[3 * i + 2] = __float_as_uint(exp2_fast(x[i]));
    }
}
EXPORT(probe_numbers, 32)

// out [7, 32], of x [32]: x of lane (5 lane + 3) % 32, of lane ^ 5, of lane + 3 and lane - 3 (its own where there is
// none), the lanes whose x is odd, the sum of all x, and the largest x as a float.
extern "C" __global__ void __launch_bounds__(32) probe_shuffles(const u32* x, u32* out) {
    const u32 lane = threadIdx.x, own = x[lane];
    out[lane] = __shfl_sync(ALL_LANES, own, (5 * lane + 3) % WARP);
    out[32 + lane] = __shfl_xor_sync(ALL_LANES, own, 5);
    out[64 + lane] = __shfl_down_sync(ALL_LANES, own, 3);
    out[96 + lane] = __shfl_up_sync(ALL_LANES, own, 3);
    out[128 + lane] = __ballot_sync(ALL_LANES, own % 2);
    out[160 + lane] = warp_sum(own);
    out[192 + lane] = static_cast<u32>(warp_max(static_cast<float>(own)));
}
EXPORT(probe_shuffles, 32)

// out [3, 32] pieces of 16 bytes, of x [64]: the first 32 copied as one group, the others as a second of which only
// even lanes' are valid (odd ones give zeros), and the first 32 read with load_once. Shared memory 1,024 bytes.
extern "C" __global__ void __launch_bounds__(32) probe_copies(const uint4* x, uint4* out) {
    SHARED_MEMORY(uint4, pieces);
    const u32 lane = threadIdx.x;
    copy_async_16(pieces + lane, x + lane);
    copy_async_commit();
    copy_async_16(pieces + 32 + lane, x + 32 + lane, lane % 2 == 0);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();
    // Another lane's piece, which the barrier makes visible.
    out[31 - lane] = pieces[31 - lane];
    copy_async_wait<0>();
    __syncthreads();
    out[63 - lane] = pieces[63 - lane];
    out[64 + lane] = load_once(x + lane);
}
EXPORT(probe_copies, 32)

// out [2, 4, 32], of x: four matrices, each [8, 8] bf16. r[j] of each lane of load_matrices, then of
// load_matrices_transposed. Shared memory 512 bytes.
extern "C" __global__ void __launch_bounds__(32) probe_matrices(const uint4* x, u32* out) {
    SHARED_MEMORY(uint4, rows);
    const u32 lane = threadIdx.x;
    rows[lane] = x[lane];
    __syncthreads();
    u32 r[4], t[4];
    load_matrices(r, rows + lane);
    load_matrices_transposed(t, rows + lane);
#pragma unroll
    for (u32 j = 0; j < 4; ++j) {
        out[32 * j + lane] = r[j];
        out[128 + 32 * j + lane] = t[j];
    }
}
EXPORT(probe_matrices, 32)

// d [16, 8] f32 += a [16, 16] b, with a in words of two bf16, and b as its columns [8, 16] likewise.
extern "C" __global__ void __launch_bounds__(32) probe_multiply_add(const u32* a, const u32* b, float* d) {
    const u32 g = threadIdx.x / 4, c = threadIdx.x % 4;
    const u32 a_words[4] = {a[8 * g + c], a[8 * (g + 8) + c], a[8 * g + 4 + c], a[8 * (g + 8) + 4 + c]};
    const u32 b_words[2] = {b[8 * g + c], b[8 * g + 4 + c]};
    float* upper = d + 8 * g + 2 * c;
    float* lower = upper + 64;
    float sums[4] = {upper[0], upper[1], lower[0], lower[1]};
    multiply_add(sums, a_words, b_words);
    upper[0] = sums[0], upper[1] = sums[1];
    lower[0] = sums[2], lower[1] = sums[3];
}
EXPORT(probe_multiply_add, 32)
