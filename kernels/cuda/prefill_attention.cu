// Attention of chunks: some new tokens of each sequence, over its whole context, causal.
//
// A sequence s has c = sequence_starts[s + 1] - sequence_starts[s] new tokens, from row sequence_starts[s] of qkv on,
// and a context of n = context_starts[s + 1] - context_starts[s] positions, in context_slots from context_starts[s] on;
// the last c are its new tokens. Token j sees positions 0 to n - c + j; with a window other than 0 the last `window` of
// them.
//
// qkv bf16 [tokens, (heads + 2 kv_heads) * head_dim], of which only the queries are read; keys and values bf16
// [slots, kv_heads, head_dim], already written for the new tokens; out bf16 [tokens, heads * head_dim].
// Layout: head_dim a multiple of 8; all bf16 buffers start at multiples of 16 bytes. Every slot of a context exists.
//
// Tiles. The G = heads / kv_heads query heads of a KV head are rows of one matrix, since they need the same keys and
// values: row r of a chunk is head r % G of token r / G. That fills the tiles of short chunks, and a tile of a long one
// spans few tokens, hence few positions that only some of its rows see. tiles [tiles, 2] names a sequence and the first
// row of a tile of ROWS rows: for each sequence 0, ROWS, 2 ROWS, ... below c * G. Blocks start in the order of the
// tiles, for all KV heads of one before the next: list those with the longest context first, and short ones fill the
// end.
//
//     kernel                       head_dim <=  ROWS  shared bytes
//     prefill_attention_16                  16   128         10336
//     prefill_attention_32                  32   128         18528
//     prefill_attention_64                  64   128         51280
//     prefill_attention_96                  96   128         51296
//     prefill_attention_128                128   128        100432
//     prefill_attention_256                256    64         66656
//     prefill_attention_short_64            64    64         34144
//     prefill_attention_short_96            96    64         50528
//     prefill_attention_short_128          128    64         66912
//
// Launch: grid (tiles, kv_heads), block 128, shared memory as above. The short kernels give the same bits as those with
// tiles of 128 rows and take longer for each row: they are for a batch whose large tiles, times kv_heads, are fewer
// than the device's multiprocessors.
//
// Numerics: scores and sums in f32. Weights (attention.cuh) and the result are rounded to bf16, the sum of weights is
// not. So |error| <= 2^-8 (sum of weights |values| / sum of weights + |result|), but for the rounding of f32.
//
// The bits of a row depend on its query, its context and the window alone: not on the other rows, nor on the tile or
// the chunk it comes in. For the context is taken in order in blocks that start at multiples of BLOCK positions, and a
// block of which a row sees nothing changes nothing for it. As in gemm.cu, it is taken for granted that a row has the
// same result in each of the 16 places of mma.m16n8k16. Tested against kernels/src/cpu/attention.rs and
// host/device/src/cpu/attention.rs.
#include "attention.cuh"

namespace prefill_attention {

constexpr u32 WARPS = 4;
constexpr u32 THREADS = WARPS * WARP;
// The token of rows past the chunk's last.
constexpr u32 NONE = 0xffffffffu;

// Which token's which head a row is, and the last position that it sees, which is its own.
struct Row {
    u32 token, head, position;
};

// What a block of threads works on. It is in shared memory because the loop leaves no registers for it.
struct Work {
    // Where the sequence's slots begin in context_slots.
    u32 context;
    // The position after the last one that a row of the tile sees.
    u32 end;
    u32 kv_head;
    // Times log2(e).
    float scale;
};

// What a warp's rows see: none of them positions before `seen_from` or from `seen_to` on, all of them those from
// `all_from` up to `all_to`.
struct alignas(16) Span {
    u32 seen_from, seen_to, all_from, all_to;
};

// Heads of D. A warp has M times 16 rows, so that what it reads of keys and values serves M products: two where its
// sums fit into registers. Keys and values come to shared memory a BLOCK of positions at a time, one block ahead, and
// the softmax goes on by a block. A warp's queries stay in registers (KEEP) or are read again for each block: with D =
// 128 they leave room for 32 positions only, and more of the time goes to the softmax than reading them takes.
template <u32 D_, u32 M_, u32 BLOCK_, bool KEEP_>
struct Shape {
    static constexpr u32 D = D_, M = M_, BLOCK = BLOCK_;
    static constexpr bool KEEP = KEEP_;
    static constexpr u32 WARP_ROWS = 16 * M, ROWS = WARPS * WARP_ROWS;
    using Layout = attention::Rows<D>;
    // How many rows all threads together copy at a time.
    static constexpr u32 COPIED_ROWS = THREADS / Layout::LANES;
    static_assert(ROWS <= THREADS && ROWS <= 2 * BLOCK && BLOCK <= THREADS);
    static_assert(BLOCK % COPIED_ROWS == 0 && ROWS % COPIED_ROWS == 0 && COPIED_ROWS % 8 == 0);

    struct Stage {
        unsigned char keys[BLOCK * Layout::BYTES];
        unsigned char values[BLOCK * Layout::BYTES];
    };
    struct Shared {
        // Of even blocks and of odd ones. In the end the result takes the place of the first.
        Stage stages[2];
        // Queries that are kept take the place of the stage that is filled later; an array cannot be empty.
        unsigned char queries[KEEP ? 16 : ROWS * Layout::BYTES];
        // Of even blocks and of odd ones.
        u32 slots[2][BLOCK];
        Row rows[ROWS];
        Span spans[WARPS];
        Work work;
    };
};

// The first position that the row at a position sees.
__device__ __forceinline__ u32 first_seen(u32 position, u32 window) {
    return window != 0 && position >= window ? position + 1 - window : 0;
}

// The slot of a position; any that exists for those past the end.
__device__ __forceinline__ u32 slot_of(const Work& work, const u32* __restrict__ context_slots, u32 position) {
    return position < work.end ? context_slots[work.context + position] : 0;
}

// Fills in what the block of threads works on, and gives the first position of its first block. Seen after a barrier.
template <class S>
__device__ __forceinline__ u32 prepare(typename S::Shared& shared, const u32* __restrict__ tiles,
                                       const u32* __restrict__ sequence_starts,
                                       const u32* __restrict__ context_starts, u32 group, float scale, u32 window) {
    const u32 order = blockIdx.y * gridDim.x + blockIdx.x, tile = order / gridDim.y, kv_head = order % gridDim.y;
    const u32 sequence = tiles[2 * tile], first_row = tiles[2 * tile + 1];
    const u32 start = sequence_starts[sequence], tokens = sequence_starts[sequence + 1] - start;
    const u32 context = context_starts[sequence], cached = context_starts[sequence + 1] - context - tokens;
    const u32 last_row = min(first_row + S::ROWS, tokens * group) - 1;
    if (threadIdx.x == 0) shared.work = {context, cached + last_row / group + 1, kv_head, scale * attention::LOG2_E};
    if (threadIdx.x < S::ROWS) {
        // Rows past the last see what it sees, and are not stored.
        const u32 row = first_row + threadIdx.x, token = min(row, last_row) / group;
        shared.rows[threadIdx.x] = {row <= last_row ? start + token : NONE, kv_head * group + row % group,
                                    cached + token};
    }
    if (threadIdx.x < WARPS) {
        const u32 row = first_row + threadIdx.x * S::WARP_ROWS;
        const u32 lowest = cached + row / group, highest = cached + min(row + S::WARP_ROWS - 1, last_row) / group;
        shared.spans[threadIdx.x] = {first_seen(lowest, window), row <= last_row ? highest + 1 : 0,
                                     first_seen(highest, window), lowest + 1};
    }
    return first_seen(cached + first_row / group, window) / S::BLOCK * S::BLOCK;
}

// Starts to copy the keys and values of a block, zeros past the end.
template <class S>
__device__ __forceinline__ void fetch(typename S::Shared& shared, u32 block, const bf16* __restrict__ keys,
                                      const bf16* __restrict__ values, u32 kv_heads, u32 head_dim) {
    using Layout = typename S::Layout;
    const u32 row = threadIdx.x / Layout::LANES, piece = threadIdx.x % Layout::LANES;
    auto& stage = shared.stages[block % 2];
    const u32 at = Layout::at(row, piece), column = shared.work.kv_head * head_dim + 8 * piece;
    const u32 left = shared.work.end - block * S::BLOCK;
#pragma unroll
    for (u32 i = 0; i < S::BLOCK; i += S::COPIED_ROWS) {
        const u64 from = u64(shared.slots[block % 2][row + i]) * (kv_heads * head_dim) + column;
#pragma unroll
        for (u32 p = 0; p < Layout::PIECES; p += Layout::LANES) {
            const bool valid = row + i < left && 8 * (piece + p) < head_dim;
            copy_async_16(stage.keys + at + i * Layout::BYTES + 16 * p, keys + from + 8 * p, valid);
            copy_async_16(stage.values + at + i * Layout::BYTES + 16 * p, values + from + 8 * p, valid);
        }
    }
    copy_async_commit();
}

// Starts to copy the queries of all rows, zeros for rows that do not exist.
template <class S>
__device__ __forceinline__ void fetch_queries(const typename S::Shared& shared, unsigned char* queries,
                                              const bf16* __restrict__ qkv, u32 heads, u32 kv_heads, u32 head_dim) {
    using Layout = typename S::Layout;
    const u32 piece = threadIdx.x % Layout::LANES;
    for (u32 i = threadIdx.x / Layout::LANES; i < S::ROWS; i += S::COPIED_ROWS) {
        const Row row = shared.rows[i];
        const bf16* from = qkv + (u64(row.token) * (heads + 2 * kv_heads) + row.head) * head_dim + 8 * piece;
#pragma unroll
        for (u32 p = 0; p < Layout::PIECES; p += Layout::LANES) {
            const bool valid = row.token != NONE && 8 * (piece + p) < head_dim;
            copy_async_16(queries + Layout::at(i, piece) + 16 * p, from + 8 * p, valid);
        }
    }
    copy_async_commit();
}

// Stores the result of all rows.
template <class S>
__device__ __forceinline__ void store(const typename S::Shared& shared, const unsigned char* results,
                                      bf16* __restrict__ out, u32 heads, u32 head_dim) {
    using Layout = typename S::Layout;
    const u32 piece = threadIdx.x % Layout::LANES;
    for (u32 i = threadIdx.x / Layout::LANES; i < S::ROWS; i += S::COPIED_ROWS) {
        const Row row = shared.rows[i];
        if (row.token == NONE) break;
        bf16* to = out + (u64(row.token) * heads + row.head) * head_dim + 8 * piece;
#pragma unroll
        for (u32 p = 0; p < Layout::PIECES; p += Layout::LANES) {
            if (8 * (piece + p) < head_dim) {
                *reinterpret_cast<uint4*>(to + 8 * p) =
                    *reinterpret_cast<const uint4*>(results + Layout::at(i, piece) + 16 * p);
            }
        }
    }
}

// Hides what rows do not see of a block.
template <class S>
__device__ __forceinline__ void mask(float (&scores)[S::BLOCK / 8][4], const Row* rows, u32 first, u32 window) {
    const u32 lane = threadIdx.x % WARP;
#pragma unroll
    for (u32 half = 0; half < 2; ++half) {
        const u32 to = rows[8 * half + lane / 4].position, from = first_seen(to, window);
#pragma unroll
        for (u32 n = 0; n < S::BLOCK / 8; ++n) {
#pragma unroll
            for (u32 i = 0; i < 2; ++i) {
                const u32 position = first + 8 * n + 2 * (lane % 4) + i;
                if (position < from || position > to) scores[n][2 * half + i] = -INFINITE;
            }
        }
    }
}

template <class S>
__device__ __forceinline__ void run(const bf16* __restrict__ qkv, const u32* __restrict__ tiles,
                                    const u32* __restrict__ sequence_starts, const u32* __restrict__ context_starts,
                                    const u32* __restrict__ context_slots, const bf16* __restrict__ keys,
                                    const bf16* __restrict__ values, bf16* __restrict__ out, u32 heads, u32 kv_heads,
                                    u32 head_dim, float scale, u32 window) {
    using namespace attention;
    using Layout = typename S::Layout;
    constexpr u32 D = S::D, M = S::M, BLOCK = S::BLOCK;
    SHARED_MEMORY(typename S::Shared, memory);
    auto& shared = *memory;
    const u32 lane = threadIdx.x % WARP, warp_row = threadIdx.x / WARP * S::WARP_ROWS;

    // The first position of a block.
    u32 first = prepare<S>(shared, tiles, sequence_starts, context_starts, heads / kv_heads, scale, window);
    __syncthreads();
    for (u32 i = threadIdx.x; i < 2 * BLOCK; i += THREADS) {
        shared.slots[(first + i) / BLOCK % 2][i % BLOCK] = slot_of(shared.work, context_slots, first + i);
    }
    unsigned char* const queries = S::KEEP ? shared.stages[(first / BLOCK + 1) % 2].keys : shared.queries;
    fetch_queries<S>(shared, queries, qkv, heads, kv_heads, head_dim);
    __syncthreads();
    fetch<S>(shared, first / BLOCK, keys, values, kv_heads, head_dim);
    copy_async_wait<0>();
    __syncthreads();

    const u32 key_at = along_first<D>(lane), value_at = down_first<D>(lane);
    const u32 queries_at = warp_row * Layout::BYTES;
    auto load_query = [&](u32 m, u32 k, u32(&a)[4]) {
        load_matrices(a, Layout::along(queries, queries_at + value_at, 2 * k, 16 * m * Layout::BYTES));
    };
    u32 kept[S::KEEP ? M : 1][D / 16][4];
    if constexpr (S::KEEP) {
#pragma unroll
        for (u32 m = 0; m < M; ++m) {
#pragma unroll
            for (u32 k = 0; k < D / 16; ++k) load_query(m, k, kept[m][k]);
        }
    }
    Softmax softmax[M];
    float o[M][D / 8][4] = {};
    // Where the block's stage is. Were it computed from `first`, the compiler would know bits of it and make "or" of
    // additions; but only an addend is taken along with an address.
    u32 stage_at = first / BLOCK % 2 * sizeof(typename S::Stage);
#pragma unroll 1
    for (; first < shared.work.end; first += BLOCK, stage_at = sizeof(typename S::Stage) - stage_at) {
        copy_async_wait<0>();
        __syncthreads();
        if (first + BLOCK < shared.work.end) fetch<S>(shared, first / BLOCK + 1, keys, values, kv_heads, head_dim);
        // For the fetch after the next barrier; its place was last read before this one. It is stored when it has come.
        const u32 slot_ahead = slot_of(shared.work, context_slots, first + 2 * BLOCK + threadIdx.x);
        auto store_slot = [&] {
            if (threadIdx.x < BLOCK) shared.slots[first / BLOCK % 2][threadIdx.x] = slot_ahead;
        };

        const float scale_2 = shared.work.scale;
        const Span span = shared.spans[threadIdx.x / WARP];
        if (first + BLOCK <= span.seen_from || first >= span.seen_to) {
            store_slot();
            continue;
        }
        float s[M][BLOCK / 8][4] = {};
#pragma unroll
        for (u32 k = 0; k < D / 16; ++k) {
            if (k == D / 32) store_slot();
            u32 q[M][4];
#pragma unroll
            for (u32 m = 0; m < M; ++m) {
                if constexpr (S::KEEP) {
#pragma unroll
                    for (u32 i = 0; i < 4; ++i) q[m][i] = kept[m][k][i];
                } else {
                    load_query(m, k, q[m]);
                }
            }
#pragma unroll
            for (u32 n = 0; n < BLOCK / 16; ++n) {
                u32 b[4];
                const u32 further = 16 * n * Layout::BYTES;
                load_matrices(b, Layout::along(shared.stages[0].keys, stage_at + key_at, 2 * k, further));
#pragma unroll
                for (u32 m = 0; m < M; ++m) multiply_add_two(s[m][2 * n], s[m][2 * n + 1], q[m], b);
            }
        }
        if (first < span.all_from || first + BLOCK > span.all_to) {
#pragma unroll
            for (u32 m = 0; m < M; ++m) mask<S>(s[m], shared.rows + warp_row + 16 * m, first, window);
        }
        float largest[M][2];
        bool exceeded = false;
#pragma unroll
        for (u32 m = 0; m < M; ++m) {
            Softmax::find_largest(s[m], scale_2, largest[m]);
            exceeded = exceeded || softmax[m].exceeded_by(largest[m]);
        }
        if (__any_sync(ALL_LANES, exceeded)) {
#pragma unroll
            for (u32 m = 0; m < M; ++m) softmax[m].raise(largest[m], o[m]);
        }
#pragma unroll
        for (u32 k = 0; k < BLOCK / 16; ++k) {
            u32 a[M][4];
#pragma unroll
            for (u32 m = 0; m < M; ++m) softmax[m].weigh(s[m][2 * k], s[m][2 * k + 1], scale_2, a[m]);
#pragma unroll
            for (u32 n = 0; n < D / 16; ++n) {
                u32 b[4];
                const u32 further = 16 * k * Layout::BYTES, at = stage_at + value_at;
                load_matrices_transposed(b, Layout::along(shared.stages[0].values, at, 2 * n, further));
#pragma unroll
                for (u32 m = 0; m < M; ++m) multiply_add_two(o[m][2 * n], o[m][2 * n + 1], a[m], b);
            }
        }
    }

    // The result goes through shared memory, so that whole pieces are written.
    __syncthreads();
    unsigned char* const results = shared.stages[0].keys;
#pragma unroll
    for (u32 m = 0; m < M; ++m) {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            const float inverse = 1.0f / softmax[m].whole_sum(half);
            const u32 row = warp_row + 16 * m + 8 * half + lane / 4;
#pragma unroll
            for (u32 n = 0; n < D / 8; ++n) {
                *reinterpret_cast<u32*>(results + Layout::at(row, n) + lane % 4 * 4) =
                    pack(o[m][n][2 * half] * inverse, o[m][n][2 * half + 1] * inverse);
            }
        }
    }
    __syncthreads();
    store<S>(shared, results, out, heads, head_dim);
}

}  // namespace prefill_attention

// A kernel with a budget of `registers` so that `blocks` run on a multiprocessor at a time.
#define PREFILL_ATTENTION(name, registers, blocks, shared_bytes, ...)                                                 \
    static_assert(sizeof(prefill_attention::Shape<__VA_ARGS__>::Shared) == shared_bytes, "as the table says");        \
    extern "C" __global__ void __launch_bounds__(prefill_attention::THREADS, blocks)                                  \
        name(const bf16* __restrict__ qkv, const u32* __restrict__ tiles, const u32* __restrict__ sequence_starts,    \
             const u32* __restrict__ context_starts, const u32* __restrict__ context_slots,                           \
             const bf16* __restrict__ keys, const bf16* __restrict__ values, bf16* __restrict__ out, u32 heads,       \
             u32 kv_heads, u32 head_dim, float scale, u32 window) {                                                   \
        prefill_attention::run<prefill_attention::Shape<__VA_ARGS__>>(qkv, tiles, sequence_starts, context_starts,    \
                                                                      context_slots, keys, values, out, heads,        \
                                                                      kv_heads, head_dim, scale, window);             \
    }                                                                                                                 \
    EXPORT(name, registers)

PREFILL_ATTENTION(prefill_attention_16, 128, 4, 10336, 16, 2, 64, true)
PREFILL_ATTENTION(prefill_attention_32, 168, 3, 18528, 32, 2, 64, true)
PREFILL_ATTENTION(prefill_attention_64, 168, 3, 51280, 64, 2, 64, false)
PREFILL_ATTENTION(prefill_attention_96, 255, 2, 51296, 96, 2, 64, true)
PREFILL_ATTENTION(prefill_attention_128, 255, 2, 100432, 128, 2, 64, false)
PREFILL_ATTENTION(prefill_attention_256, 255, 2, 66656, 256, 1, 32, true)
PREFILL_ATTENTION(prefill_attention_short_64, 168, 3, 34144, 64, 1, 64, true)
PREFILL_ATTENTION(prefill_attention_short_96, 168, 3, 50528, 96, 1, 64, true)
PREFILL_ATTENTION(prefill_attention_short_128, 168, 3, 66912, 128, 1, 64, true)
#undef PREFILL_ATTENTION
