// Rows of the embedding table: the start of the residual stream.
//
// out[t] = table[token of t], f32 [T, columns] from bf16 [vocabulary, columns]. A row whose token the last sampling
// drew (`sampled_rows[t]` >= 0) takes it from `sampled`, so that the host need not know it yet. A row that is no token
// but, say, a piece of an image (`given_rows[t]` >= 0) is a row of `given`, f32 [G, columns]. `sampled_rows` and
// `given_rows` are [T], or null where the batch has no such rows.
//
// Layout: columns a multiple of 4; `table`, `given` and `out` start at multiples of 16 bytes.
// Launch: grid (T, Y), block 256, any Y; with ceil(columns / 1024) a thread waits for memory once.
// Numerics: exact.
// Tested against `embed` of host/device/src/cpu/mod.rs.
#include "device.cuh"

extern "C" __global__ void __launch_bounds__(256)
    embed(const bf16* __restrict__ table, const u32* __restrict__ tokens, const i32* __restrict__ sampled_rows,
          const u32* __restrict__ sampled, const i32* __restrict__ given_rows, const float* __restrict__ given,
          float* __restrict__ out, u32 columns) {
    const u32 t = blockIdx.x;
    const u32 first = blockIdx.y * blockDim.x + threadIdx.x, stride = gridDim.y * blockDim.x;
    const i32 given_row = given_rows ? given_rows[t] : -1;
    const i32 sampled_row = sampled_rows ? sampled_rows[t] : -1;
    float4* to = reinterpret_cast<float4*>(out + u64(t) * columns);
    if (given_row >= 0) {
        const float4* from = reinterpret_cast<const float4*>(given + u64(given_row) * columns);
        for (u32 i = first; i < columns / 4; i += stride) to[i] = from[i];
        return;
    }
    const u32 token = sampled_row >= 0 ? sampled[sampled_row] : tokens[t];
    const uint2* from = reinterpret_cast<const uint2*>(table + u64(token) * columns);
    for (u32 i = first; i < columns / 4; i += stride) {
        const uint2 x = from[i];
        to[i] = make_float4(low(x.x), high(x.x), low(x.y), high(x.y));
    }
}
EXPORT(embed, 32)
