// What the attention kernels share: how rows lie in shared memory, and the softmax that goes along a context.
//
// The softmax is online and in base 2. Each row of queries has a reference r and the sum of its weights so far,
// 2^(scale log2(e) score - r); its weighted values are sums with the same weights. r starts below every score and is
// raised to the largest score of a step only where that exceeds r by more than RAISE: most steps leave what was summed
// before as it is, and weights stay below 2^RAISE, where bf16 is as precise as below 1. When r is raised depends on the
// row alone. A position that a row does not see has the score -infinity and the weight 0, so a step of which a row sees
// nothing changes no bit of it.
#pragma once
#include "device.cuh"

namespace attention {

constexpr float RAISE = 8.0f;
// The reference before the first score; finite, so that it can be subtracted from -infinity.
constexpr float BELOW_ALL = -1e30f;
constexpr float LOG2_E = 1.44269504f;

// Rows of D elements of bf16 in shared memory, in pieces of 16 bytes. Pieces change places within their row so that no
// two of eight meet in a bank: neither the same piece of eight rows (load_matrices) nor eight pieces of a row (copies).
template <u32 D>
struct Rows {
    static constexpr u32 PIECES = D / 8;
    static constexpr u32 BYTES = 2 * D;
    // The largest power of two, up to eight, that divides PIECES: pieces change places among so many, and so many lanes
    // copy a row.
    static constexpr u32 LANES = PIECES % 8 == 0 ? 8 : PIECES % 4 == 0 ? 4 : 2;
    static_assert(D % 16 == 0, "two pieces at least");

    // Where a piece lies, in bytes from the first row.
    static __device__ __forceinline__ u32 at(u32 row, u32 piece) {
        return row * BYTES + (piece ^ (row / (8 / LANES) % LANES)) * 16;
    }
    // The place `further` bytes from piece p + `pieces` of a row whose piece p lies at `at` in `shared`; p < 2,
    // `pieces` even. What is known when compiling is added last, since load_matrices takes such an addend along.
    static __device__ __forceinline__ const unsigned char* along(const void* shared, u32 at, u32 pieces, u32 further) {
        const unsigned char* piece = static_cast<const unsigned char*>(shared) + (at ^ (pieces % LANES * 16));
        return piece + (pieces / LANES * LANES * 16 + further);
    }
};

// Where the row of a lane for load_matrices begins, in bytes from the first of 16 rows. Matrices go down the rows
// first, then to the next piece: that is an a of multiply_add, or, transposed, two b.
template <u32 D>
__device__ __forceinline__ u32 down_first(u32 lane) {
    return Rows<D>::at(lane % 16, lane / 16);
}
// Matrices go along a row first: that is two b, with these rows as columns.
template <u32 D>
__device__ __forceinline__ u32 along_first(u32 lane) {
    return Rows<D>::at(lane % 8 + lane / 16 * 8, lane / 8 % 2);
}

// d += a b for two d side by side and the two b of one load.
__device__ __forceinline__ void multiply_add_two(float (&left)[4], float (&right)[4], const u32 (&a)[4],
                                                 const u32 (&b)[4]) {
    const u32 b_left[2] = {b[0], b[1]}, b_right[2] = {b[2], b[3]};
    multiply_add(left, a, b_left);
    multiply_add(right, a, b_right);
}

// A lane's part in the softmax of 16 rows, of which it has two: lane / 4 and lane / 4 + 8.
struct Softmax {
    float reference[2] = {BELOW_ALL, BELOW_ALL};
    // Of the weights that this lane has seen; the four lanes of a row have a part each.
    float sum[2] = {0.0f, 0.0f};

    // The largest score of each row among 8 N positions, scores as multiply_add leaves them. `scale` includes log2(e).
    template <u32 N>
    static __device__ __forceinline__ void find_largest(const float (&scores)[N][4], float scale, float (&largest)[2]) {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            float x = fmaxf(scores[0][2 * half], scores[0][2 * half + 1]);
#pragma unroll
            for (u32 n = 1; n < N; ++n) x = fmaxf(x, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
            x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
            largest[half] = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2)) * scale;
        }
    }

    // Whether a reference has to be raised for them.
    __device__ __forceinline__ bool exceeded_by(const float (&largest)[2]) const {
        return largest[0] > reference[0] + RAISE || largest[1] > reference[1] + RAISE;
    }

    // Raises those that have to be. `values` are the weighted values so far.
    template <u32 N>
    __device__ __forceinline__ void raise(const float (&largest)[2], float (&values)[N][4]) {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            float factor = 1.0f;
            if (largest[half] > reference[half] + RAISE) {
                factor = exp2_fast(reference[half] - largest[half]);
                reference[half] = largest[half];
            }
            sum[half] *= factor;
#pragma unroll
            for (u32 n = 0; n < N; ++n) values[n][2 * half] *= factor, values[n][2 * half + 1] *= factor;
        }
    }

    // The weights of 16 positions, whose scores stand side by side, as the a of multiply_add.
    __device__ __forceinline__ void weigh(const float (&left)[4], const float (&right)[4], float scale, u32 (&a)[4]) {
        float weights[8];
#pragma unroll
        for (u32 i = 0; i < 8; ++i) {
            weights[i] = exp2_fast(fmaf(i < 4 ? left[i] : right[i - 4], scale, -reference[i / 2 % 2]));
        }
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            const float* w = weights + 2 * half;
            sum[half] += (w[0] + w[1]) + (w[4] + w[5]);
        }
#pragma unroll
        for (u32 i = 0; i < 4; ++i) a[i] = pack(weights[2 * i], weights[2 * i + 1]);
    }

    // The sum of all weights of a row, in its four lanes.
    __device__ __forceinline__ float whole_sum(u32 half) const {
        const float pair = sum[half] + __shfl_xor_sync(ALL_LANES, sum[half], 1);
        return pair + __shfl_xor_sync(ALL_LANES, pair, 2);
    }
};

}  // namespace attention
