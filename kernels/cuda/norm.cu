// Root-mean-square norms of rows.
//
//   rms_norm:      out = x / sqrt(mean(x^2) + epsilon) * weight
//   add_rms_norm:  residual += x, then out = rms_norm(residual)
//
// `x` of rms_norm, `residual` [rows, width] and `weight` [width] are f32, all else bf16 [rows, width].
//
// Layout: any width; up to 16,384 and a multiple of 4, a row is read once. All buffers start at multiples of 16 bytes.
// Launch: grid rows; block a multiple of 32 threads, 1,024 at most, best about width / 8 and no less than width / 16;
// shared memory 4 bytes a warp. The block decides the order of the sum, so it must depend on nothing but the width.
// Numerics: squares are summed in f32 in a fixed order: a thread's own, then by halving over the lanes of a warp, then
// likewise over the warps. (x * 1/rms) * weight in f32, rounded to bf16 once.
// Tested against kernels/src/cpu/norm.rs.
#include "device.cuh"

namespace rms {

// A chunk is four neighbouring elements; chunks are dealt out to threads in turn and stay in registers.
constexpr u32 CHUNKS_OF_A_THREAD = 4;

// 1/rms of a row, in every thread, from the sum of squares of each thread's share of it.
__device__ __forceinline__ float inverse_rms(float squares, u32 width, float epsilon) {
    SHARED_MEMORY(float, warp_squares);
    const u32 lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    squares = warp_sum(squares);
    if (lane == 0) warp_squares[threadIdx.x / WARP] = squares;
    __syncthreads();
    // Every warp adds the same numbers in the same order, which saves a second barrier.
    squares = warp_sum(lane < warps ? warp_squares[lane] : 0.0f);
    return rsqrtf(squares / static_cast<float>(width) + epsilon);
}

// A row in registers. Where ADD, `added` is added to x first, and the sums are written to `sum`.
template <bool ADD>
__device__ __forceinline__ void norm_chunks(const float* x, const bf16* added, float* sum, const float* weight,
                                            float epsilon, u32 width, bf16* out) {
    auto start = [](u32 chunk) { return 4 * (chunk * blockDim.x + threadIdx.x); };
    // Weights are read here, not after the barrier, so that one latency covers all.
    float4 elements[CHUNKS_OF_A_THREAD], weights[CHUNKS_OF_A_THREAD];
    uint2 additions[CHUNKS_OF_A_THREAD];
#pragma unroll
    for (u32 c = 0; c < CHUNKS_OF_A_THREAD; ++c) {
        if (start(c) >= width) break;
        elements[c] = *reinterpret_cast<const float4*>(x + start(c));
        if (ADD) additions[c] = *reinterpret_cast<const uint2*>(added + start(c));
        weights[c] = *reinterpret_cast<const float4*>(weight + start(c));
    }
    float squares = 0.0f;
#pragma unroll
    for (u32 c = 0; c < CHUNKS_OF_A_THREAD; ++c) {
        if (start(c) >= width) break;
        float4& e = elements[c];
        if (ADD) {
            const uint2 a = additions[c];
            e = make_float4(e.x + low(a.x), e.y + high(a.x), e.z + low(a.y), e.w + high(a.y));
            *reinterpret_cast<float4*>(sum + start(c)) = e;
        }
        squares += e.x * e.x + e.y * e.y + e.z * e.z + e.w * e.w;
    }
    const float r = inverse_rms(squares, width, epsilon);
#pragma unroll
    for (u32 c = 0; c < CHUNKS_OF_A_THREAD; ++c) {
        if (start(c) >= width) break;
        const float4 e = elements[c], w = weights[c];
        *reinterpret_cast<uint2*>(out + start(c)) =
            make_uint2(pack(e.x * r * w.x, e.y * r * w.y), pack(e.z * r * w.z, e.w * r * w.w));
    }
}

// The same an element at a time, for all other widths.
template <bool ADD>
__device__ __forceinline__ void norm_elements(const float* x, const bf16* added, float* sum, const float* weight,
                                              float epsilon, u32 width, bf16* out) {
    float squares = 0.0f;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        float e = x[i];
        if (ADD) sum[i] = e += to_float(added[i]);
        squares += e * e;
    }
    const float r = inverse_rms(squares, width, epsilon);
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) out[i] = to_bf16((ADD ? sum : x)[i] * r * weight[i]);
}

template <bool ADD>
__device__ __forceinline__ void norm_row(const float* x, const bf16* added, float* sum, const float* weight,
                                         float epsilon, u32 width, bf16* out) {
    if (width % 4 == 0 && width <= 4 * CHUNKS_OF_A_THREAD * blockDim.x) {
        norm_chunks<ADD>(x, added, sum, weight, epsilon, width, out);
    } else {
        norm_elements<ADD>(x, added, sum, weight, epsilon, width, out);
    }
}

}  // namespace rms

extern "C" __global__ void __launch_bounds__(1024)
    rms_norm(const float* __restrict__ x, const float* __restrict__ weight, float epsilon, u32 width,
             bf16* __restrict__ out) {
    const u64 row = u64(blockIdx.x) * width;
    rms::norm_row<false>(x + row, nullptr, nullptr, weight, epsilon, width, out + row);
}
EXPORT(rms_norm, 64)

extern "C" __global__ void __launch_bounds__(1024)
    add_rms_norm(float* __restrict__ residual, const bf16* __restrict__ x, const float* __restrict__ weight,
                 float epsilon, u32 width, bf16* __restrict__ out) {
    const u64 row = u64(blockIdx.x) * width;
    rms::norm_row<true>(residual + row, x + row, residual + row, weight, epsilon, width, out + row);
}
EXPORT(add_rms_norm, 64)
