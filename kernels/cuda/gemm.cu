// Products with any number of rows: out[r, i] = bias[i] + sum over j of weight[i, j] x[r, j].
//
// The bits of a row depend on that row, the weights, n and k alone: not on how many rows there are, on which they are,
// or on which of the tiles below computes them. So these are the products of a run that must be repeatable, and of a
// machine without cuBLASLt.
//
// weight [n, k], bias [n] or null, x [rows, k], all bf16; out [rows, n], bf16 or f32.
// Layout: k a multiple of 8, any n and rows; all buffers but bias start at multiples of 16 bytes.
//
// gemm_T_AxB computes a tile of A outputs of B rows in each block:
//
//     tile      warps  shared bytes  cost
//     32 x 16       2         73728   3.0
//     64 x 16       4         71680   2.4
//     128 x 16      4         73728   2.0
//     64 x 64       4         98304   1.8
//     128 x 64      4         73728   1.4
//     128 x 128     4         98304   1.2
//     256 x 128     8        147456   1.0
//
// Launch: grid ceil(n / A) * ceil(rows / B), block 32 * warps, shared memory as above.
// Any tile is right. For up to 16 rows take one with B = 16, for up to 64 rows with B = 64, else with B = 64 or 128; of
// those that the device has the shared memory for, the one with the least A * B * cost * ceil(grid / multiprocessors),
// the larger of two equal ones. `cost` is an estimate: how often a tile reads its operands through the second-level
// cache.
//
// Numerics: f32 sums, the bias added in f32, rounded once. Every sum starts at zero and takes its k in increasing
// order, 16 at a time, by the same instruction: mma.m16n8k16, weights as its 16 rows, rows of x as its 8 columns; k is
// filled up with zeros to a multiple of 64, in every tile. Output i is always row i % 16 of the instruction. Only the
// column in which a row of x comes may change: that an element of the product depends on its row and its column of the
// operands, and not on where they are, PTX does not say, but a product that did otherwise would be of no use.
// Tested against `linear` of host/device/src/cpu/mod.rs.
#include "device.cuh"

namespace tiles {

// Elements of k in a stage, and of what is copied at once.
constexpr u32 STEP = 64, PIECE = 8;
constexpr u32 ROW_BYTES = 2 * STEP, PIECE_BYTES = 2 * PIECE, PIECES = STEP / PIECE;
// What the instruction multiplies: 16 outputs, 8 rows, 16 elements of k.
constexpr u32 MMA_OUTPUTS = 16, MMA_ROWS = 8, MMA_K = 16;
// Tiles of rows that are taken together, so that blocks that run at the same time share weights and rows.
constexpr u32 BAND = 8;

// Where a piece of a row lies in a stage, in bytes. Pieces change places within their row, so that the pieces of 8 rows
// at the same k, which load_matrices reads together, lie in different banks.
__device__ __forceinline__ u32 place(u32 row, u32 piece) {
    return row * ROW_BYTES + (piece ^ row % PIECES) * PIECE_BYTES;
}

__device__ __forceinline__ void convert(float x, float& to) { to = x; }
__device__ __forceinline__ void convert(float x, bf16& to) { to = to_bf16(x); }

// A block's tile of OUTPUTS x ROWS, of which its warps, OUTPUT_WARPS x ROW_WARPS of them, compute equal parts.
template <u32 OUTPUTS, u32 ROWS, u32 OUTPUT_WARPS, u32 ROW_WARPS, u32 STAGES, u32 GROUP, class T>
__device__ __forceinline__ void gemm(const bf16* weight, const bf16* bias, const bf16* x, T* out, u32 rows, u32 n,
                                     u32 k) {
    constexpr u32 THREADS = WARP * OUTPUT_WARPS * ROW_WARPS;
    constexpr u32 WARP_OUTPUTS = OUTPUTS / OUTPUT_WARPS, WARP_ROWS = ROWS / ROW_WARPS;
    constexpr u32 A_TILES = WARP_OUTPUTS / MMA_OUTPUTS, B_TILES = WARP_ROWS / MMA_ROWS;
    constexpr u32 STAGE_BYTES = (OUTPUTS + ROWS) * ROW_BYTES;
    SHARED_MEMORY(u8, shared);  // [STAGES, OUTPUTS + ROWS, STEP] bf16, later [ROWS, PITCH] T

    // Bands of rows, in each column after column of up to BAND tiles.
    const u32 output_tiles = (n + OUTPUTS - 1) / OUTPUTS, row_tiles = (rows + ROWS - 1) / ROWS;
    const u32 band = blockIdx.x / (BAND * output_tiles), in_band = blockIdx.x % (BAND * output_tiles);
    const u32 height = min(BAND, row_tiles - band * BAND);
    const u32 first_output = in_band / height * OUTPUTS, first_row = (band * BAND + in_band % height) * ROWS;

    const u32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const u32 warp_output = warp % OUTPUT_WARPS * WARP_OUTPUTS, warp_row = warp / OUTPUT_WARPS * WARP_ROWS;

    // Copies: a thread has the same piece of every COPY_ROWS'th row.
    constexpr u32 COPY_ROWS = THREADS / PIECES;
    static_assert(COPY_ROWS % PIECES == 0 && OUTPUTS % COPY_ROWS == 0 && ROWS % COPY_ROWS == 0, "equal shares");
    const u32 copy_piece = threadIdx.x % PIECES, copy_row = threadIdx.x / PIECES;
    const bf16* weight_from = weight + (u64(first_output + copy_row) * k + copy_piece * PIECE);
    const bf16* x_from = x + (u64(first_row + copy_row) * k + copy_piece * PIECE);
    // How many outputs and rows there are from the thread's first on, and elements of k from the next step's on.
    const i32 outputs_left = static_cast<i32>(n - first_output - copy_row);
    const i32 rows_left = static_cast<i32>(rows - first_row - copy_row);
    i32 k_left = static_cast<i32>(k - copy_piece * PIECE);
    u32 copy_stage = 0;
    auto copy_next = [&] {
        u8* to = shared + (copy_stage * STAGE_BYTES + place(copy_row, copy_piece));
#pragma unroll
        for (u32 i = 0; i < OUTPUTS; i += COPY_ROWS) {
            const bool there = k_left > 0 && static_cast<i32>(i) < outputs_left;
            copy_async_16(to + i * ROW_BYTES, weight_from + u64(i) * k, there);
        }
#pragma unroll
        for (u32 i = 0; i < ROWS; i += COPY_ROWS) {
            const bool there = k_left > 0 && static_cast<i32>(i) < rows_left;
            copy_async_16(to + (OUTPUTS + i) * ROW_BYTES, x_from + u64(i) * k, there);
        }
        weight_from += STEP;
        x_from += STEP;
        k_left -= STEP;
        copy_async_commit();
        copy_stage = copy_stage + 1 < STAGES ? copy_stage + 1 : 0;
    };

    // Operands of GROUP instructions along k, twice: one is loaded while the other is multiplied. The fewer sums a warp
    // has, the longer a sum waits for its own last addition, and the more must be loaded ahead.
    constexpr u32 GROUPS = STEP / MMA_K / GROUP;
    static_assert(GROUPS % 2 == 0, "the two take turns");
    u32 a[2][GROUP][A_TILES][4], b[2][GROUP][B_TILES / 2][4];
    const u32 a_row = warp_output + lane % 16, a_piece = lane / 16;
    const u32 b_row = OUTPUTS + warp_row + lane / 16 * 8 + lane % 8, b_piece = lane / 8 % 2;
    auto load = [&](u32 group, const u8* stage) {
#pragma unroll
        for (u32 g = 0; g < GROUP; ++g) {
            const u32 piece = (group * GROUP + g) * (MMA_K / PIECE);
            const u8* a_from = stage + place(a_row, piece + a_piece);
            const u8* b_from = stage + place(b_row, piece + b_piece);
#pragma unroll
            for (u32 o = 0; o < A_TILES; ++o) {
                load_matrices(a[group % 2][g][o], a_from + o * MMA_OUTPUTS * ROW_BYTES);
            }
#pragma unroll
            for (u32 r = 0; r < B_TILES / 2; ++r) {
                load_matrices(b[group % 2][g][r], b_from + r * 2 * MMA_ROWS * ROW_BYTES);
            }
        }
    };

    // A step's barrier says that the next stage is there, and frees one to copy to: at the step's end its own. Where
    // stages are plenty it comes at the step's start and frees the one before, so that nobody waits for both barrier
    // and loads.
    constexpr bool EARLY = STAGES > 4;
    constexpr u32 AHEAD = EARLY ? STAGES - 1 : STAGES;
    auto barrier = [] {
        copy_async_wait<AHEAD - 2>();
        __syncthreads();
    };
    float sums[A_TILES][B_TILES][4] = {};
#pragma unroll
    for (u32 i = 0; i < AHEAD; ++i) copy_next();
    copy_async_wait<AHEAD - 1>();
    __syncthreads();
    load(0, shared);
    u32 stage = 0;
    for (u32 done = 0; done < k; done += STEP) {
#pragma unroll
        for (u32 group = 0; group < GROUPS; ++group) {
            const bool last = group + 1 == GROUPS;
            if (last && !EARLY) barrier();
            if (last) stage = stage + 1 < STAGES ? stage + 1 : 0;
            load((group + 1) % GROUPS, shared + stage * STAGE_BYTES);
            if (group == 0 && EARLY) barrier();
            if (last) copy_next();
#pragma unroll
            for (u32 g = 0; g < GROUP; ++g) {
#pragma unroll
                for (u32 o = 0; o < A_TILES; ++o) {
#pragma unroll
                    for (u32 r = 0; r < B_TILES; ++r) {
                        const u32* pair = &b[group % 2][g][r / 2][r % 2 * 2];
                        const u32 columns[2] = {pair[0], pair[1]};
                        multiply_add(sums[o][r], a[group % 2][g][o], columns);
                    }
                }
            }
        }
    }

    // The sums lie across: through shared memory they become rows of outputs, which are written 16 bytes at a time.
    constexpr u32 VECTOR = 16 / sizeof(T), PITCH = OUTPUTS + VECTOR;
    static_assert(ROWS * PITCH * sizeof(T) <= STAGES * STAGE_BYTES, "the tile fits");
    T* tile = reinterpret_cast<T*>(shared);
    copy_async_wait<0>();
    __syncthreads();
#pragma unroll
    for (u32 o = 0; o < A_TILES; ++o) {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            const u32 output = warp_output + o * MMA_OUTPUTS + half * 8 + lane / 4;
            const bool biased = bias && first_output + output < n;
            const float added = biased ? to_float(bias[first_output + output]) : 0.0f;
#pragma unroll
            for (u32 r = 0; r < B_TILES; ++r) {
                const u32 row = warp_row + r * MMA_ROWS + lane % 4 * 2;
                convert(sums[o][r][half * 2] + added, tile[row * PITCH + output]);
                convert(sums[o][r][half * 2 + 1] + added, tile[(row + 1) * PITCH + output]);
            }
        }
    }
    __syncthreads();
    const u32 tile_rows = min(ROWS, rows - first_row), tile_outputs = min(OUTPUTS, n - first_output);
    T* to = out + (u64(first_row) * n + first_output);
    if (n % VECTOR == 0) {
        for (u32 i = threadIdx.x; i < tile_rows * (OUTPUTS / VECTOR); i += THREADS) {
            const u32 row = i / (OUTPUTS / VECTOR), output = i % (OUTPUTS / VECTOR) * VECTOR;
            if (output >= tile_outputs) continue;
            *reinterpret_cast<uint4*>(to + u64(row) * n + output) =
                *reinterpret_cast<const uint4*>(tile + row * PITCH + output);
        }
    } else {
        for (u32 i = threadIdx.x; i < tile_rows * OUTPUTS; i += THREADS) {
            const u32 row = i / OUTPUTS, output = i % OUTPUTS;
            if (output < tile_outputs) to[u64(row) * n + output] = tile[row * PITCH + output];
        }
    }
}

}  // namespace tiles

#define GEMM(name, T, outputs, rows_of_tile, output_warps, row_warps, stages, group, blocks, registers)              \
    extern "C" __global__ void __launch_bounds__(WARP * output_warps * row_warps, blocks)                           \
        name##_##outputs##x##rows_of_tile(const bf16* __restrict__ weight, const bf16* __restrict__ bias,           \
                                          const bf16* __restrict__ x, T* __restrict__ out, u32 rows, u32 n, u32 k) { \
        tiles::gemm<outputs, rows_of_tile, output_warps, row_warps, stages, group>(weight, bias, x, out, rows, n, k); \
    }                                                                                                               \
    EXPORT(name##_##outputs##x##rows_of_tile, registers)

// `blocks` that a multiprocessor of 9.0 has room for.
#define GEMMS(name, T)                               \
    GEMM(name, T, 32, 16, 2, 1, 12, 2, 3, 96)        \
    GEMM(name, T, 64, 16, 4, 1, 7, 2, 3, 96)         \
    GEMM(name, T, 128, 16, 4, 1, 4, 2, 3, 128)       \
    GEMM(name, T, 64, 64, 2, 2, 6, 1, 2, 128)        \
    GEMM(name, T, 128, 64, 2, 2, 3, 1, 3, 168)       \
    GEMM(name, T, 128, 128, 2, 2, 3, 1, 2, 255)      \
    GEMM(name, T, 256, 128, 4, 2, 3, 1, 1, 255)
GEMMS(gemm_bf16, bf16)
GEMMS(gemm_f32, float)
#undef GEMMS
#undef GEMM
