// Norms of heads, rotation of queries and keys, and the writing of keys and values to their slots.
//
// qkv is bf16 [tokens, (heads + 2 kv_heads) * head_dim]: a token's heads of Q, then of K, then of V. Q is rotated where
// it is; K, rotated, and V go to keys[slots[t]] and values[slots[t]], bf16 [slots, kv_heads, head_dim]; K and V in qkv
// stay as they were. Where `query_norm` and `key_norm`, f32 [head_dim], are not null, a head of Q and K first becomes
// head / sqrt(mean(head^2) + epsilon) * weight.
//
// Elements i and i + head_dim / 2 turn by inverse_frequencies[i] radians times a position. positions is
// [planes, tokens]: pair i takes plane 0 if i < section_0, plane 1 if i < section_0 + section_1, else plane 2 (M-RoPE).
// With section_0 = head_dim / 2 there is one plane.
//
// Layout: head_dim a multiple of 8, up to 256; all buffers start at multiples of 16 bytes.
// Launch: block (L, H) with L = head_dim / 8 rounded up to a power of two and L H a multiple of 32 up to 256: L threads
// turn a head, four pairs each, and H heads are worked on at once. Grid (tokens, Y), 1 <= Y and at most
// ceil((heads + 2 kv_heads) / H): the heads of a token are dealt out to Y blocks. Many are for few tokens; few save
// angles, which a thread computes once for all its heads. Neither changes a bit of the result.
// Numerics: f32, rounded to bf16 once. The angle is the f32 product of position and frequency, as Hugging Face computes
// it; its sine and cosine are within 1e-7 up to 2^20 radians. Squares are summed in a thread, then by halving over
// threads.
// Tested against kernels/src/cpu/rope.rs, norm.rs and host/device/src/cpu/rope.rs.
#include "device.cuh"

namespace rope {

// What a thread turns of a head: neighbouring pairs, 8 bytes in either half.
constexpr u32 PAIRS = 4;

// Their elements, of a head's first half and of its second.
struct Pairs {
    uint2 first, second;
};

// Sine and cosine of 0 <= x <= 2^20, both within 1e-7. CUDA's own keep the digits of large angles in local memory.
//
// r = x - n pi/2 in two steps (Cody and Waite), n < 2^20 and within 0.56 of x / (pi/2), so |r| < 0.9. HALF_PI has 24
// bits: what the first step gives is below 1 and a multiple of 2^-24, so an f32 holds it exactly. The second rounds by
// 2^-25 at most. pi/2 differs from the sum of both constants by 1.8e-15, that is r by less than 2e-9. Then Taylor's
// series; the first terms left out are below 0.9^11 / 11! = 8e-9.
__device__ __forceinline__ void sine_cosine(float x, float& sine, float& cosine) {
    constexpr float HALF_PI = 1.57079637f, HALF_PI_REST = -4.37113883e-8f, TWO_OVER_PI = 0.636619772f;
    const float n = rintf(x * TWO_OVER_PI);
    const float r = fmaf(-n, HALF_PI_REST, fmaf(-n, HALF_PI, x)), square = r * r;
    float s = 1.0f / 362880.0f, c = -1.0f / 3628800.0f;
    s = fmaf(s, square, -1.0f / 5040.0f);
    s = fmaf(s, square, 1.0f / 120.0f);
    s = fmaf(s, square, -1.0f / 6.0f);
    s = fmaf(s * square, r, r);
    c = fmaf(c, square, 1.0f / 40320.0f);
    c = fmaf(c, square, -1.0f / 720.0f);
    c = fmaf(c, square, 1.0f / 24.0f);
    c = fmaf(c, square, -0.5f);
    c = fmaf(c, square, 1.0f);
    // A quarter turn makes (sine, cosine) of (cosine, -sine); two turn both signs.
    const u32 quarter = static_cast<u32>(n);
    sine = quarter & 1 ? c : s;
    cosine = quarter & 1 ? s : c;
    if (quarter & 2) sine = -sine;
    if ((quarter + 1) & 2) cosine = -cosine;
}

__device__ __forceinline__ void widen(uint2 x, float (&out)[4]) {
    out[0] = low(x.x), out[1] = high(x.x), out[2] = low(x.y), out[3] = high(x.y);
}
__device__ __forceinline__ uint2 narrow(const float (&x)[4]) {
    return make_uint2(pack(x[0], x[1]), pack(x[2], x[3]));
}

}  // namespace rope

extern "C" __global__ void __launch_bounds__(256)
    rope_and_write_kv(bf16* __restrict__ qkv, const u32* __restrict__ positions, const u32* __restrict__ slots,
                      const float* __restrict__ inverse_frequencies, const float* __restrict__ query_norm,
                      const float* __restrict__ key_norm, float epsilon, bf16* __restrict__ keys,
                      bf16* __restrict__ values, u32 tokens, u32 heads, u32 kv_heads, u32 head_dim, u32 section_0,
                      u32 section_1) {
    using namespace rope;
    const u32 t = blockIdx.x, half = head_dim / 2, all_heads = heads + 2 * kv_heads;
    const u32 first_head = blockIdx.y * blockDim.y, stride = gridDim.y * blockDim.y;
    // Threads past the head's end work on its last pairs, and neither add to a sum nor write.
    const bool idle = PAIRS * threadIdx.x >= half;
    const u32 pair = idle ? half - PAIRS : PAIRS * threadIdx.x;
    bf16* row = qkv + u64(t) * all_heads * head_dim + pair;
    auto load = [&](u32 head) {
        Pairs x = {};
        if (head < all_heads) {
            x.first = *reinterpret_cast<const uint2*>(row + head * head_dim);
            x.second = *reinterpret_cast<const uint2*>(row + head * head_dim + half);
        }
        return x;
    };

    Pairs next = load(first_head + threadIdx.y);
    const u64 kv_row = u64(slots[t]) * kv_heads;
    float sines[PAIRS], cosines[PAIRS];
#pragma unroll
    for (u32 i = 0; i < PAIRS; ++i) {
        const u32 plane = (pair + i >= section_0) + (pair + i >= section_0 + section_1);
        const float position = static_cast<float>(positions[plane * tokens + t]);
        sine_cosine(position * inverse_frequencies[pair + i], sines[i], cosines[i]);
    }
    for (u32 first = first_head; first < all_heads; first += stride) {
        const u32 head = first + threadIdx.y;
        const Pairs x = next;
        next = load(head + stride);
        float a[PAIRS], b[PAIRS];
        widen(x.first, a);
        widen(x.second, b);
        if (query_norm) {
            const float* weight = (head < heads ? query_norm : key_norm) + pair;
            const float4 wa = *reinterpret_cast<const float4*>(weight);
            const float4 wb = *reinterpret_cast<const float4*>(weight + half);
            float squares = 0.0f;
#pragma unroll
            for (u32 i = 0; i < PAIRS; ++i) squares += a[i] * a[i] + b[i] * b[i];
            if (idle) squares = 0.0f;
            for (u32 distance = blockDim.x / 2; distance > 0; distance /= 2) {
                squares += __shfl_xor_sync(ALL_LANES, squares, distance);
            }
            const float r = rsqrtf(squares / static_cast<float>(head_dim) + epsilon);
            a[0] = a[0] * r * wa.x, a[1] = a[1] * r * wa.y, a[2] = a[2] * r * wa.z, a[3] = a[3] * r * wa.w;
            b[0] = b[0] * r * wb.x, b[1] = b[1] * r * wb.y, b[2] = b[2] * r * wb.z, b[3] = b[3] * r * wb.w;
        }
        if (idle || head >= all_heads) continue;
        float turned_a[PAIRS], turned_b[PAIRS];
#pragma unroll
        for (u32 i = 0; i < PAIRS; ++i) {
            turned_a[i] = a[i] * cosines[i] - b[i] * sines[i];
            turned_b[i] = b[i] * cosines[i] + a[i] * sines[i];
        }
        Pairs y = {narrow(turned_a), narrow(turned_b)};
        bf16* to = row + head * head_dim;
        if (head >= heads + kv_heads) {
            y = x;
            to = values + (kv_row + head - heads - kv_heads) * head_dim + pair;
        } else if (head >= heads) {
            to = keys + (kv_row + head - heads) * head_dim + pair;
        }
        *reinterpret_cast<uint2*>(to) = y.first;
        *reinterpret_cast<uint2*>(to + half) = y.second;
    }
}
EXPORT(rope_and_write_kv, 64)
