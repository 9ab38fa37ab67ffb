// The gate of a feed-forward layer.
//
// out[r, i] = silu(gate_up[r, i]) * gate_up[r, width + i], silu(x) = x / (1 + e^-x): bf16 [rows, width] from
// [rows, 2 width].
//
// Layout: width a multiple of 8; both buffers start at multiples of 16 bytes.
// Launch: grid (rows, ceil(width / (8 block))), block 128. A thread takes 8 neighbouring elements.
// Numerics: f32, silu within 1e-6 (1 + |gate|) relative or 2e-36 absolute, the product rounded to bf16 once.
// Tested against kernels/src/cpu/activation.rs.
#include "device.cuh"

namespace gate {

__device__ __forceinline__ float gated(float gate, float up) {
    constexpr float LOG2_E = 1.44269504f;
    // Where e^-x is infinite the quotient is 0, as it should be.
    return __fdividef(gate, 1.0f + exp2_fast(-LOG2_E * gate)) * up;
}
__device__ __forceinline__ u32 gated(u32 gates, u32 ups) {
    return pack(gated(low(gates), low(ups)), gated(high(gates), high(ups)));
}

}  // namespace gate

extern "C" __global__ void __launch_bounds__(128)
    silu_mul(const bf16* __restrict__ gate_up, u32 width, bf16* __restrict__ out) {
    const u32 i = 8 * (blockIdx.y * blockDim.x + threadIdx.x);
    if (i >= width) return;
    const bf16* row = gate_up + u64(blockIdx.x) * 2 * width;
    const uint4 g = *reinterpret_cast<const uint4*>(row + i);
    const uint4 u = *reinterpret_cast<const uint4*>(row + width + i);
    *reinterpret_cast<uint4*>(out + u64(blockIdx.x) * width + i) =
        make_uint4(gate::gated(g.x, u.x), gate::gated(g.y, u.y), gate::gated(g.z, u.z), gate::gated(g.w, u.w));
}
EXPORT(silu_mul, 40)
