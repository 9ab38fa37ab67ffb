// Products with few rows: out[r, i] = bias[i] + sum over j of weight[i, j] x[r, j], for rows <= R of gemv_T_R.
//
// What takes time is reading the weights, once, so all there is to it is to keep enough of them under way: a warp asks
// for 6 or 8 times 16 bytes a lane before it uses the first, and x lies in shared memory, because reads through the
// first-level cache would queue behind the weights.
//
// weight [n, k], bias [n] or null, x [rows, k], all bf16; out [rows, n], bf16 or f32.
// Layout: k a multiple of 8, any n; weight and x start at multiples of 16 bytes.
// Launch: a block a multiprocessor, all with the same number of warps, so that they end together. A warp computes two
// outputs at once, or its share of their k. With
//     split   = 1, doubled while split < 8, split * n <= 3072 and 512 * split <= k:   warps that share two outputs
//     most    = 24 (20 for R = 4), rounded down to a multiple of split:               warps that fit
//     shares  = ceil(ceil(n / 2) * split / multiprocessors)
//     warps   = ceil(shares / ceil(shares / most)), rounded up to a multiple of split
// it is block (32, split, warps / split), grid min(multiprocessors, ceil(ceil(n / 2) / (warps / split))) and shared
// memory 2 R k + 16 R warps bytes; where a block may not have that much, gemm.cu is for the product.
// Any number of groups (the block's third size) up to `most` warps and any grid are right, and give the same bits.
// Numerics: f32 sums of exact products. A lane adds its share of k in increasing order, then lanes are added by halving
// and warps in increasing order, then the bias. So the bits of a row depend on n, k, split and that row only; they are
// the same for each R, but not those of gemm.cu.
// Tested against `linear` of host/device/src/cpu/mod.rs.
#include "device.cuh"

namespace few_rows {

// A piece is what a lane reads at once: 8 neighbouring elements.
constexpr u32 PIECE = 8;

__device__ __forceinline__ u32 word(const uint4& piece, u32 i) {
    return i == 0 ? piece.x : i == 1 ? piece.y : i == 2 ? piece.z : piece.w;
}

// sums[o][r] += the products of a piece of each output's weights and the same piece of each row.
template <u32 OUTPUTS, u32 ROWS>
__device__ __forceinline__ void add_products(float (&sums)[OUTPUTS][ROWS], const uint4 (&weights)[OUTPUTS],
                                             const uint4 (&x)[ROWS]) {
#pragma unroll
    for (u32 i = 0; i < PIECE / 2; ++i) {
#pragma unroll
        for (u32 o = 0; o < OUTPUTS; ++o) {
            const u32 w = word(weights[o], i);
#pragma unroll
            for (u32 r = 0; r < ROWS; ++r) {
                sums[o][r] += low(w) * low(word(x[r], i));
                sums[o][r] += high(w) * high(word(x[r], i));
            }
        }
    }
}

// Adds a batch of pieces of each output, `stride` apart: DEPTH of them, or `count` where CHECKED; then a lane passes
// over the first unless it `has_first`. `await_x` is called when the weights are under way.
template <bool CHECKED, u32 DEPTH, u32 OUTPUTS, u32 ROWS, class Await>
__device__ __forceinline__ void add_batch(float (&sums)[OUTPUTS][ROWS], const uint4* const (&from)[OUTPUTS],
                                          const uint4* x, u32 pieces, u32 stride, u32 count, bool has_first,
                                          Await await_x) {
    uint4 weights[DEPTH][OUTPUTS];
#pragma unroll
    for (u32 d = 0; d < DEPTH; ++d) {
        if (!CHECKED || (d == 0 ? has_first : d < count)) {
#pragma unroll
            for (u32 o = 0; o < OUTPUTS; ++o) weights[d][o] = load_once(from[o] + d * stride);
        }
    }
    await_x();
#pragma unroll
    for (u32 d = 0; d < DEPTH; ++d) {
        if (!CHECKED || (d == 0 ? has_first : d < count)) {
            uint4 row[ROWS];
#pragma unroll
            for (u32 r = 0; r < ROWS; ++r) row[r] = x[r * pieces + d * stride];
            add_products(sums, weights[d], row);
        }
    }
}

template <u32 ROWS, u32 OUTPUTS, u32 DEPTH, class T>
__device__ __forceinline__ void gemv(const bf16* weight, const bf16* bias, const bf16* x, T* out, u32 rows, u32 n,
                                     u32 k) {
    constexpr u32 SUMS = OUTPUTS * ROWS;
    const u32 lane = threadIdx.x, part = threadIdx.y, parts = blockDim.y, group = threadIdx.z, groups = blockDim.z;
    const u32 pieces = k / PIECE, stride = parts * WARP, own_piece = part * WARP + lane;

    SHARED_MEMORY(uint4, row_pieces);  // [ROWS, pieces]
    float* part_sums = reinterpret_cast<float*>(row_pieces + ROWS * pieces);  // [2, groups, parts, SUMS]
    for (u32 i = group * stride + own_piece; i < ROWS * pieces; i += groups * stride) {
        copy_async_16(row_pieces + i, reinterpret_cast<const uint4*>(x) + i, i < rows * pieces);
    }
    copy_async_commit();
    // Strides are counted from a row's end, so that only the first may be in part. The first batch has those of them
    // that make no whole batch.
    const u32 strides = (pieces + stride - 1) / stride, head = (strides - 1) % DEPTH + 1;
    const i32 own_start = static_cast<i32>(own_piece + pieces) - static_cast<i32>(strides * stride);

    u32 pass = 0;
    for (u32 first = blockIdx.x * groups * OUTPUTS; first < n; first += gridDim.x * groups * OUTPUTS, ++pass) {
        const u32 output = first + group * OUTPUTS;
        const uint4* from[OUTPUTS];
#pragma unroll
        for (u32 o = 0; o < OUTPUTS; ++o) {
            // Past the end the last output is computed again, and not written, so that all warps keep step.
            from[o] = reinterpret_cast<const uint4*>(weight) + (i64(min(output + o, n - 1)) * pieces + own_start);
        }
        // The sum of output o and row r ends in lane o * ROWS + r.
        const u32 own_output = output + lane / ROWS, own_row = lane % ROWS;
        const bool writes = part == 0 && lane < SUMS && own_output < n && own_row < rows;
        const float own_bias = writes && bias ? to_float(bias[own_output]) : 0.0f;

        float sums[OUTPUTS][ROWS] = {};
        const uint4* at = row_pieces + own_start;
        add_batch<true, DEPTH>(sums, from, at, pieces, stride, head, own_start >= 0, [&] {
            if (pass > 0) return;
            copy_async_wait<0>();
            __syncthreads();
        });
        for (u32 done = head; done < strides; done += DEPTH) {
            const u32 ahead = done == head ? head * stride : DEPTH * stride;
#pragma unroll
            for (u32 o = 0; o < OUTPUTS; ++o) from[o] += ahead;
            at += ahead;
            add_batch<false, DEPTH>(sums, from, at, pieces, stride, DEPTH, true, [] {});
        }

        float own = 0.0f;
#pragma unroll
        for (u32 i = 0; i < SUMS; ++i) {
            const float sum = warp_sum(sums[i / ROWS][i % ROWS]);
            if (lane == i) own = sum;
        }
        if (parts > 1) {
            // Two places in turn: a warp may come to the next pass while part 0 still reads.
            float* shared = part_sums + (pass % 2 * groups + group) * parts * SUMS + lane;
            if (lane < SUMS) shared[part * SUMS] = own;
            __syncthreads();
            if (writes) {
                for (u32 p = 1; p < parts; ++p) own += shared[p * SUMS];
            }
        }
        if (writes) {
            own += own_bias;
            T* to = out + u64(own_row) * n + own_output;
            if constexpr (sizeof(T) == sizeof(float)) {
                *to = own;
            } else {
                *to = to_bf16(own);
            }
        }
    }
}

}  // namespace few_rows

#define GEMV(name, T, rows_at_most, depth, warps, registers)                                              \
    extern "C" __global__ void __launch_bounds__(warps * WARP, 1)                                         \
        name(const bf16* __restrict__ weight, const bf16* __restrict__ bias, const bf16* __restrict__ x,  \
             T* __restrict__ out, u32 rows, u32 n, u32 k) {                                               \
        few_rows::gemv<rows_at_most, 2, depth>(weight, bias, x, out, rows, n, k);                         \
    }                                                                                                     \
    EXPORT(name, registers)

GEMV(gemv_bf16_1, bf16, 1, 4, 24, 80)
GEMV(gemv_bf16_2, bf16, 2, 4, 24, 80)
GEMV(gemv_bf16_4, bf16, 4, 3, 20, 96)
GEMV(gemv_f32_1, float, 1, 4, 24, 80)
GEMV(gemv_f32_2, float, 2, 4, 24, 80)
GEMV(gemv_f32_4, float, 4, 3, 20, 96)
#undef GEMV
