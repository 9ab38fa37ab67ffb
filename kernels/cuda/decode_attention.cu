// Attention of single tokens: one new token of each of some sequences, over its whole context.
//
// Sequence s = sequences[i], i < S', has its new token in row sequence_starts[s] of qkv, and its context of
// n = context_starts[s + 1] - context_starts[s] >= 1 positions in context_slots from context_starts[s] on, the last of
// them the new token. With a window other than 0 it sees the last `window` of them.
//
// qkv bf16 [tokens, (heads + 2 kv_heads) * head_dim], of which only the queries are read; keys and values bf16 [slots,
// kv_heads, head_dim], already written for the new tokens; out bf16 [tokens, heads * head_dim], of which only the rows
// of these sequences are written. Layout: head_dim a multiple of 8; all buffers of floats start at multiples of 16
// bytes. Every slot of a context exists.
//
// The G = heads / kv_heads query heads of a KV head are the rows of multiply_add, which has 16: so keys and values are
// read once for up to 16 heads. Each warp of a block has its own tiles of the context, and its own pipeline of copies,
// and waits for the others at the end alone.
//
//     kernel                  head_dim <=  threads  shared bytes
//     decode_attention_16              16      128         24576
//     decode_attention_32              32      128         49152
//     decode_attention_64              64      128         98304
//     decode_attention_96              96      128         73728
//     decode_attention_128            128      128         98304
//     decode_attention_256            256       64         65536
//
// Launch: grid (kv_heads * ceil(G / 16), S', splits), block and shared memory as above. With splits = 1 the result goes
// to `out`, and partial and partial_stats may be null. Else blocks share a context, and leave partial f32
// [S', heads, splits, head_dim], values weighted relative to a reference of the split's, and partial_stats f32
// [S', heads, splits, 2], that reference (-infinity for a split without positions, whose values are not written) and
// the sum of weights; then combine_attention, grid (heads, S'), block 128, shared memory 16 (head_dim + 1) bytes.
//
// Splits. A split has ceil(seen / splits) positions, but 256 at least, rounded up to whole turns of the block's warps;
// splits past the end of a context have none and end at once. A good number, also for a CUDA graph that is replayed
// with contexts of up to `longest` positions (or the window, if it is smaller), with blocks = grid.x * S' and all
// divisions rounded down unless marked:
//
//     fill = 2 * multiprocessors / blocks             as many blocks as run at a time
//     even = min(ceil(longest / 2048), 16 * multiprocessors / blocks)
//                                                     so that a long context among short ones does not end last
//     splits = max(1, min(max(fill, even), ceil(longest / 256)))
//
// Partial results then have at most max(16 * multiprocessors, blocks) * min(G, 16) rows. A multiprocessor has two
// blocks of decode_attention_128 at a time, and 128 KiB under way.
//
// Numerics: as in prefill_attention.cu, with a tile in the place of a block; warps, then splits, are added in order.
// The bits of a row depend on its query, its context, the window and `splits` alone, and are not those of
// prefill_attention. Tested against kernels/src/cpu/attention.rs and host/device/src/cpu/attention.rs.
#include "attention.cuh"

namespace decode_attention {

// Query heads of a KV head that a block takes: the rows of multiply_add.
constexpr u32 ROWS = 16;
// A split has at least so many positions, so that it is worth its start.
constexpr u32 SPLIT_POSITIONS = 256;

// Heads of D. Each of WARPS warps has STAGES tiles of TILE positions: it computes one while the others arrive.
template <u32 D_, u32 WARPS_, u32 TILE_, u32 STAGES_>
struct Shape {
    static constexpr u32 D = D_, WARPS = WARPS_, TILE = TILE_, STAGES = STAGES_;
    static constexpr u32 THREADS = WARPS * WARP;
    using Layout = attention::Rows<D>;
    // Rows that a warp copies at a time.
    static constexpr u32 COPIED_ROWS = WARP / Layout::LANES;
    static_assert(TILE == ROWS || TILE == 2 * ROWS, "a lane for each slot, and room for the queries");
    static_assert(STAGES >= 2 && TILE % COPIED_ROWS == 0);

    struct Stage {
        unsigned char keys[TILE * Layout::BYTES];
        unsigned char values[TILE * Layout::BYTES];
    };
    // What a warp leaves for the others. Eight floats more, so that no two of eight rows meet in a bank.
    struct Result {
        float values[ROWS][D + 8];
        float reference[ROWS];
        float sum[ROWS];
    };
    union Shared {
        Stage stages[WARPS][STAGES];
        Result results[WARPS];
    };
};

template <class S>
__device__ __forceinline__ void run(const bf16* __restrict__ qkv, const u32* __restrict__ sequences,
                                    const u32* __restrict__ sequence_starts, const u32* __restrict__ context_starts,
                                    const u32* __restrict__ context_slots, const bf16* __restrict__ keys,
                                    const bf16* __restrict__ values, bf16* __restrict__ out,
                                    float* __restrict__ partial, float* __restrict__ partial_stats, u32 heads,
                                    u32 kv_heads, u32 head_dim, float scale, u32 window) {
    using namespace attention;
    using Layout = typename S::Layout;
    constexpr u32 D = S::D, WARPS = S::WARPS, TILE = S::TILE, STAGES = S::STAGES;
    // Positions from one tile of a warp to its next.
    constexpr u32 TURN = WARPS * TILE;
    SHARED_MEMORY(typename S::Shared, memory);
    const u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;

    const u32 sequence = sequences[blockIdx.y], split = blockIdx.z, splits = gridDim.z;
    const u32 context_start = context_starts[sequence], context = context_starts[sequence + 1] - context_start;
    const u32 token = sequence_starts[sequence];
    const u32* const slots = context_slots + context_start;
    const u32 group = heads / kv_heads, parts = gridDim.x / kv_heads;
    const u32 kv_head = blockIdx.x / parts, first_in_group = blockIdx.x % parts * ROWS;
    const u32 first_head = kv_head * group + first_in_group, rows = min(group - first_in_group, ROWS);

    // Tiles and splits are counted from the tile with the first position seen.
    const u32 first_seen = window != 0 && context > window ? context - window : 0;
    const u32 first = first_seen / TILE * TILE;
    const u32 share = max((context - first + splits - 1) / splits, SPLIT_POSITIONS);
    const u32 span = (share + TURN - 1) / TURN * TURN;
    const u32 from = first + split * span, to = min(from + span, context);
    // Where a row's partial result is.
    auto partial_at = [&](u32 row) { return (u64(blockIdx.y) * heads + first_head + row) * splits + split; };
    if (from >= to) {
        if (threadIdx.x < rows) {
            float* stats = partial_stats + 2 * partial_at(threadIdx.x);
            stats[0] = -INFINITE;
            stats[1] = 0.0f;
        }
        return;
    }

    const u32 warp_from = from + warp * TILE;
    auto& stages = memory->stages[warp];
    const u32 copied_row = lane / Layout::LANES, piece = lane % Layout::LANES;
    // The slot of position `lane` of the tile at a position; any that exists for positions past the end.
    auto slot_of = [&](u32 tile) { return tile + lane % TILE < to ? slots[tile + lane % TILE] : 0; };
    // Starts to copy the keys and values of a tile whose slots the lanes hold, zeros past the end.
    const u32 slot_width = kv_heads * head_dim, column = kv_head * head_dim + 8 * piece;
    auto fetch = [&](u32 tile, u32 slot, typename S::Stage& stage) {
        const u32 left = to - tile;
#pragma unroll
        for (u32 i = 0; i < TILE; i += S::COPIED_ROWS) {
            const u64 at = u64(__shfl_sync(ALL_LANES, slot, i + copied_row)) * slot_width + column;
            const u32 place = Layout::at(i + copied_row, piece);
#pragma unroll
            for (u32 p = 0; p < Layout::PIECES; p += Layout::LANES) {
                const bool valid = i + copied_row < left && 8 * (piece + p) < head_dim;
                copy_async_16(stage.keys + place + 16 * p, keys + at + 8 * p, valid);
                copy_async_16(stage.values + place + 16 * p, values + at + 8 * p, valid);
            }
        }
    };

    // The queries go through the stage that is filled last; zeros for heads that do not exist.
    unsigned char* const queries = stages[STAGES - 1].keys;
    u32 slot = slot_of(warp_from);
#pragma unroll
    for (u32 i = 0; i < ROWS; i += S::COPIED_ROWS) {
        const u32 row = i + copied_row;
        const bf16* at = qkv + (u64(token) * (heads + 2 * kv_heads) + first_head + row) * head_dim + 8 * piece;
#pragma unroll
        for (u32 p = 0; p < Layout::PIECES; p += Layout::LANES) {
            const bool valid = row < rows && 8 * (piece + p) < head_dim;
            copy_async_16(queries + Layout::at(row, piece) + 16 * p, at + 8 * p, valid);
        }
    }
    copy_async_commit();
    for (u32 i = 0; i < STAGES - 1; ++i) {
        const u32 tile = warp_from + i * TURN, next = slot_of(tile + TURN);
        if (tile < to) fetch(tile, slot, stages[i]);
        copy_async_commit();
        slot = next;
    }
    const u32 key_at = along_first<D>(lane), value_at = down_first<D>(lane);
    u32 q[D / 16][4];
    copy_async_wait<STAGES - 1>();
    __syncwarp();
#pragma unroll
    for (u32 k = 0; k < D / 16; ++k) load_matrices(q[k], Layout::along(queries, value_at, 2 * k, 0));

    const float scale_2 = scale * LOG2_E;
    Softmax softmax;
    float o[D / 8][4] = {};
    u32 stage = 0;
    for (u32 tile = warp_from; tile < to; tile += TURN) {
        const u32 next = slot_of(tile + STAGES * TURN), ahead = tile + (STAGES - 1) * TURN;
        copy_async_wait<STAGES - 2>();
        // The tile has arrived from all lanes, and all are done with the one before, whose place the next one takes.
        __syncwarp();
        if (ahead < to) fetch(ahead, slot, stages[stage == 0 ? STAGES - 1 : stage - 1]);
        copy_async_commit();
        slot = next;

        const u32 stage_at = stage * sizeof(typename S::Stage);
        stage = stage == STAGES - 1 ? 0 : stage + 1;
        float s[TILE / 8][4] = {};
#pragma unroll
        for (u32 k = 0; k < D / 16; ++k) {
#pragma unroll
            for (u32 n = 0; n < TILE / 16; ++n) {
                u32 b[4];
                load_matrices(b, Layout::along(stages, stage_at + key_at, 2 * k, 16 * n * Layout::BYTES));
                multiply_add_two(s[2 * n], s[2 * n + 1], q[k], b);
            }
        }
        if (tile < first_seen || tile + TILE > to) {
#pragma unroll
            for (u32 n = 0; n < TILE / 8; ++n) {
#pragma unroll
                for (u32 i = 0; i < 4; ++i) {
                    const u32 position = tile + 8 * n + lane % 4 * 2 + i % 2;
                    if (position < first_seen || position >= to) s[n][i] = -INFINITE;
                }
            }
        }
        float largest[2];
        Softmax::find_largest(s, scale_2, largest);
        if (__any_sync(ALL_LANES, softmax.exceeded_by(largest))) softmax.raise(largest, o);
#pragma unroll
        for (u32 k = 0; k < TILE / 16; ++k) {
            u32 a[4];
            softmax.weigh(s[2 * k], s[2 * k + 1], scale_2, a);
#pragma unroll
            for (u32 n = 0; n < D / 16; ++n) {
                u32 b[4];
                const u32 further = 16 * k * Layout::BYTES;
                load_matrices_transposed(b, Layout::along(stages[0].values, stage_at + value_at, 2 * n, further));
                multiply_add_two(o[2 * n], o[2 * n + 1], a, b);
            }
        }
    }

    // Results take the place of the tiles.
    __syncthreads();
    auto& own = memory->results[warp];
#pragma unroll
    for (u32 half = 0; half < 2; ++half) {
        const u32 row = lane / 4 + 8 * half;
        const float sum = softmax.whole_sum(half);
        if (lane % 4 == 0) {
            own.reference[row] = softmax.reference[half];
            own.sum[row] = sum;
        }
#pragma unroll
        for (u32 n = 0; n < D / 8; ++n) {
            *reinterpret_cast<float2*>(&own.values[row][8 * n + lane % 4 * 2]) =
                make_float2(o[n][2 * half], o[n][2 * half + 1]);
        }
    }
    __syncthreads();
    // Four columns of a row a thread.
    const u32 quads = head_dim / 4;
    for (u32 i = threadIdx.x; i < rows * quads; i += S::THREADS) {
        const u32 row = i / quads, column = i % quads * 4;
        float reference = BELOW_ALL, sum = 0.0f;
#pragma unroll
        for (u32 w = 0; w < WARPS; ++w) reference = fmaxf(reference, memory->results[w].reference[row]);
        float4 joined = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
        for (u32 w = 0; w < WARPS; ++w) {
            const auto& result = memory->results[w];
            const float weight = exp2_fast(result.reference[row] - reference);
            const float4 x = *reinterpret_cast<const float4*>(&result.values[row][column]);
            sum += weight * result.sum[row];
            joined.x += weight * x.x, joined.y += weight * x.y, joined.z += weight * x.z, joined.w += weight * x.w;
        }
        if (splits == 1) {
            const float inverse = 1.0f / sum;
            bf16* to_row = out + (u64(token) * heads + first_head + row) * head_dim + column;
            *reinterpret_cast<uint2*>(to_row) = make_uint2(pack(joined.x * inverse, joined.y * inverse),
                                                           pack(joined.z * inverse, joined.w * inverse));
        } else {
            const u64 at = partial_at(row);
            *reinterpret_cast<float4*>(partial + at * head_dim + column) = joined;
            if (column == 0) {
                partial_stats[2 * at] = reference;
                partial_stats[2 * at + 1] = sum;
            }
        }
    }
}

// Of combine_attention; they share the splits.
constexpr u32 COMBINE_WARPS = 4;

}  // namespace decode_attention

extern "C" __global__ void __launch_bounds__(decode_attention::COMBINE_WARPS* WARP)
    combine_attention(const float* __restrict__ partial, const float* __restrict__ partial_stats,
                      const u32* __restrict__ sequences, const u32* __restrict__ sequence_starts,
                      bf16* __restrict__ out, u32 heads, u32 head_dim, u32 splits) {
    using namespace decode_attention;
    SHARED_MEMORY(float, shared);
    const u32 head = blockIdx.x, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const u32 token = sequence_starts[sequences[blockIdx.y]];
    const u64 row = (u64(blockIdx.y) * heads + head) * splits;
    const float2* const stats = reinterpret_cast<const float2*>(partial_stats) + row;
    float reference = -INFINITE;
    for (u32 split = lane; split < splits; split += WARP) reference = fmaxf(reference, stats[split].x);
    reference = warp_max(reference);

    // A warp has every fourth split, its lanes four columns each, and four of the next 128 if there are more.
    float* const sums = shared + COMBINE_WARPS * head_dim;
    float sum = 0.0f;
    for (u32 split = warp; split < splits; split += COMBINE_WARPS) {
        sum += exp2_fast(stats[split].x - reference) * stats[split].y;
    }
    if (lane == 0) sums[warp] = sum;
    for (u32 column = 4 * lane; column < head_dim; column += 4 * WARP) {
        float4 joined = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 4
        for (u32 split = warp; split < splits; split += COMBINE_WARPS) {
            const float weight = exp2_fast(stats[split].x - reference);
            float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            // A split without positions has written no values.
            if (weight != 0.0f) x = *reinterpret_cast<const float4*>(partial + (row + split) * head_dim + column);
            joined.x += weight * x.x, joined.y += weight * x.y, joined.z += weight * x.z, joined.w += weight * x.w;
        }
        *reinterpret_cast<float4*>(shared + warp * head_dim + column) = joined;
    }
    __syncthreads();
    for (u32 column = 2 * threadIdx.x; column < head_dim; column += 2 * COMBINE_WARPS * WARP) {
        float x = 0.0f, y = 0.0f, all = 0.0f;
        for (u32 w = 0; w < COMBINE_WARPS; ++w) {
            x += shared[w * head_dim + column];
            y += shared[w * head_dim + column + 1];
            all += sums[w];
        }
        *reinterpret_cast<u32*>(out + (u64(token) * heads + head) * head_dim + column) = pack(x / all, y / all);
    }
}
EXPORT(combine_attention, 64)

// A kernel with a budget of `registers` so that `blocks` run on a multiprocessor at a time.
#define DECODE_ATTENTION(name, registers, blocks, shared_bytes, ...)                                                  \
    static_assert(sizeof(decode_attention::Shape<__VA_ARGS__>::Shared) == shared_bytes, "as the table says");         \
    extern "C" __global__ void __launch_bounds__(decode_attention::Shape<__VA_ARGS__>::THREADS, blocks)               \
        name(const bf16* __restrict__ qkv, const u32* __restrict__ sequences,                                         \
             const u32* __restrict__ sequence_starts, const u32* __restrict__ context_starts,                         \
             const u32* __restrict__ context_slots, const bf16* __restrict__ keys, const bf16* __restrict__ values,   \
             bf16* __restrict__ out, float* __restrict__ partial, float* __restrict__ partial_stats, u32 heads,       \
             u32 kv_heads, u32 head_dim, float scale, u32 window) {                                                   \
        decode_attention::run<decode_attention::Shape<__VA_ARGS__>>(                                                  \
            qkv, sequences, sequence_starts, context_starts, context_slots, keys, values, out, partial,               \
            partial_stats, heads, kv_heads, head_dim, scale, window);                                                 \
    }                                                                                                                 \
    EXPORT(name, registers)

DECODE_ATTENTION(decode_attention_16, 128, 4, 24576, 16, 4, 32, 3)
DECODE_ATTENTION(decode_attention_32, 128, 4, 49152, 32, 4, 32, 3)
DECODE_ATTENTION(decode_attention_64, 168, 2, 98304, 64, 4, 32, 3)
DECODE_ATTENTION(decode_attention_96, 168, 3, 73728, 96, 4, 16, 3)
DECODE_ATTENTION(decode_attention_128, 255, 2, 98304, 128, 4, 16, 3)
DECODE_ATTENTION(decode_attention_256, 255, 3, 65536, 256, 2, 16, 2)
#undef DECODE_ATTENTION
