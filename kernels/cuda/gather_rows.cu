// Copies of chosen rows: those of a batch whose logits are wanted.
//
// out[r] = x[rows[r]], rows of `row_words` words of 4 bytes, whatever they hold: [R, row_words] from [T, row_words].
//
// Layout: `x` and `out` start at multiples of 16 bytes.
// Launch: grid (R, Y), block 256, any Y; with ceil(row_words / 1024) a thread waits for memory once.
// Numerics: exact.
// Tested against `gather_sample_rows` of host/device/src/cpu/mod.rs.
#include "device.cuh"

namespace gather {

template <class Word>
__device__ __forceinline__ void copy_row(const u32* __restrict__ from, u32* __restrict__ to, u32 words) {
    const u32 count = words * 4 / sizeof(Word);
    const u32 stride = gridDim.y * blockDim.x;
    for (u32 i = blockIdx.y * blockDim.x + threadIdx.x; i < count; i += stride) {
        reinterpret_cast<Word*>(to)[i] = reinterpret_cast<const Word*>(from)[i];
    }
}

}  // namespace gather

extern "C" __global__ void __launch_bounds__(256)
    gather_rows(const u32* __restrict__ x, const u32* __restrict__ rows, u32* __restrict__ out, u32 row_words) {
    const u32* from = x + u64(rows[blockIdx.x]) * row_words;
    u32* to = out + u64(blockIdx.x) * row_words;
    if (row_words % 4 == 0) {
        gather::copy_row<uint4>(from, to, row_words);
    } else {
        gather::copy_row<u32>(from, to, row_words);
    }
}
EXPORT(gather_rows, 32)
