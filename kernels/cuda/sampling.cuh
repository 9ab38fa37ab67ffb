// What the kernels that sample and score rows of logits share: what is asked of a row, how a row is read, exact sums of
// weights, and a selection that sorts nothing.
//
// A token's weight is its probability over that of the likeliest. Weights are added as multiples of 2^-40, so that no
// sum depends on the order in which it was taken.
//
// A key says where a token stands among the others: larger is likelier, of equals the lower token. `select` finds the
// shortest beginning of the tokens by decreasing key that has so many tokens, or so much mass. It counts keys by their
// leading bits, finds the one bin in which the limit falls, and looks into that bin alone. It goes through a list in
// shared memory, or through the row where what is wanted is not on the list.
//
// The list is of all tokens from some logit on. The k-th largest of the threads' own largest logits is a good one: k
// tokens are at or above it, and hardly more, since a thread has every 512th token. Expected are
// THREADS (H(THREADS) - H(THREADS - k)) of them, with H(n) = 1 + 1/2 + ... + 1/n, as in the coupon collector's problem.
#pragma once
#include "device.cuh"

namespace sampling {

constexpr u32 THREADS = 512, WARPS = THREADS / WARP;
// A vocabulary has 2^18 tokens at most, since a token takes so many bits of a key.
constexpr u32 TOKEN_BITS = 18, LAST_TOKEN = (1u << TOKEN_BITS) - 1;
constexpr u32 BIN_BITS = 10, BINS = 1u << BIN_BITS;
// Neighbouring tokens that a warp goes through before its next ones: a bin for each, and no more runs than bins.
constexpr u32 RUN = BINS;
// Keys in shared memory.
constexpr u32 LIST = 4096;
// A list begins at the logit that so many threads reach: some 2,400 tokens, give or take 250.
constexpr u32 SEEDS = THREADS - 4;
// Tokens that a thread looks at together, and that the block does.
constexpr u32 BATCH = 16, SPREAD = BATCH * THREADS;
constexpr float NOT_A_NUMBER = __builtin_bit_cast(float, 0x7fc00000u);
constexpr float LOG2_E = 1.44269504f, LOWEST = -3.40282347e38f;
// The mass of weight 1. A weight of 2^-DEEPEST has none.
constexpr float ONE = 0x1p40f, DEEPEST = 41.0f;
static_assert(LAST_TOKEN / RUN < BINS, "a bin for each run");

// Requests ----------------------------------------------------------------------------------------------------------

// What is asked of a row: host/device/src/cuda/sampling.rs writes these words. "At" is counted in words from the start
// of the requests.
struct alignas(16) Request {
    u32 flags;
    // log2(e) / temperature.
    float scale;
    // 0 keeps all.
    u32 top_k;
    // 1 keeps all.
    float top_p;
    float min_p;
    float repetition_penalty, frequency_penalty, presence_penalty;
    // The random number in [0, 1), times 2^64.
    u64 random;
    // A bit for each token, up to a multiple of SPREAD tokens; 0 for no mask.
    u32 mask_at;
    // Pairs of token and count, sorted by token.
    u32 counts_at, counts;
    // Pairs of token and bias, sorted by token; those of one token are added in this order.
    u32 biases_at, biases;
    // Where in `saved` the logits of these tokens are kept: first those counted, then those biased.
    u32 saved_at;
    // Tokens to score.
    u32 scores_at, scores;
    // How many of the likeliest tokens are wanted.
    u32 top;
    // Where in the answers those of logprobs.cu begin.
    u32 answer_at;
};
static_assert(sizeof(Request) == 80, "as in sampling.rs");

// A token is to be drawn; else the row is only scored.
constexpr u32 DRAWS = 1;
// The likeliest is to be drawn.
constexpr u32 GREEDY = 2;
// logprobs.cu has something to answer.
constexpr u32 WANTS_LOGPROBS = 4;

// What became of a row.
constexpr u32 OK = 0, NOT_NUMBERS = 1, MASK_ALLOWS_NONE = 2;

// Rows --------------------------------------------------------------------------------------------------------------

struct Row {
    const float* logits;
    u32 vocabulary;
    // A bit for each token, up to a multiple of SPREAD tokens; null allows all.
    const u32* mask;
};

// Loads logits of BATCH tokens, STRIDE from each other, and gives the largest. Then makes what the mask forbids not a
// number; what lies behind the row is none either.
template <u32 STRIDE>
__device__ __forceinline__ float load(const Row& row, u32 token, float (&x)[BATCH]) {
    const float* from = row.logits + token;
    // Words, not vectors of them: rows start anywhere.
    if (token + (BATCH - 1) * STRIDE < row.vocabulary) {
#pragma unroll
        for (u32 e = 0; e < BATCH; ++e) x[e] = from[e * STRIDE];
    } else {
#pragma unroll
        for (u32 e = 0; e < BATCH; ++e) x[e] = token + e * STRIDE < row.vocabulary ? from[e * STRIDE] : NOT_A_NUMBER;
    }
    float largest = -INFINITE;
#pragma unroll
    for (u32 e = 0; e < BATCH; ++e) largest = fmaxf(largest, x[e]);
    if (row.mask) {
        const u32* words = row.mask + token / 32;
        const u32 bit = 1u << token % 32;
#pragma unroll
        for (u32 e = 0; e < BATCH; ++e) x[e] = words[e * STRIDE / 32] & bit ? x[e] : NOT_A_NUMBER;
    }
    return largest;
}
__device__ __forceinline__ bool allows(const Row& row, u32 token) {
    return token < row.vocabulary && (!row.mask || row.mask[token / 32] >> token % 32 & 1);
}

// Keys and weights --------------------------------------------------------------------------------------------------

// A number that orders floats as they are; both zeros are one.
__device__ __forceinline__ u32 ordered(float x) {
    const u32 bits = __float_as_uint(x + 0.0f);
    return bits ^ (bits >> 31 ? ~0u : 1u << 31);
}
// The least key with this logit, or more.
__device__ __forceinline__ u64 least_key_of(float logit) { return u64(ordered(logit)) << TOKEN_BITS; }
__device__ __forceinline__ u64 key_of(float logit, u32 token) { return least_key_of(logit) | (LAST_TOKEN - token); }
__device__ __forceinline__ u32 token_of(u64 key) { return LAST_TOKEN - (static_cast<u32>(key) & LAST_TOKEN); }
__device__ __forceinline__ float logit_of(u64 key) {
    const u32 bits = static_cast<u32>(key >> TOKEN_BITS);
    return __uint_as_float(bits ^ (bits >> 31 ? 1u << 31 : ~0u));
}

// What turns logits into weights: the row's largest, and log2(e) / temperature.
struct Scale {
    float largest, scale;
};
// 0 to 1, or not a number if the logit is none.
__device__ __forceinline__ float weight_of(const Scale& scale, float logit) {
    return exp2_fast((logit - scale.largest) * scale.scale);
}
// floor(weight 2^40); 0 for what is not a number, whose exponent is too large to be one. Shifts, because many devices
// convert floats to 8 bytes at a small part of their pace.
__device__ __forceinline__ u64 mass_of(float weight) {
    const u32 bits = __float_as_uint(weight), significand = (bits & 0x7fffffu) | 0x800000u;
    // Of weight 1 the exponent is 127 and the significand 2^23.
    return u64(significand) << 32 >> min(127 + 15 - (bits >> 23), 63u);
}

// A block's memory --------------------------------------------------------------------------------------------------

// What was counted. Masses are in halves, because shared memory adds 4 bytes at once, and 8 only in a loop.
struct Bins {
    u32 counts[BINS];
    u32 masses_low[BINS];
    u32 masses_high[BINS];
};

// The bin in which a limit falls, and what lies before it.
struct Crossing {
    u64 mass_before, mass;
    u32 count_before, count;
    u32 bin;
};

struct Memory {
    u64 list[LIST];
    Bins bins;
    u64 warp_masses[WARPS];
    u32 warp_counts[WARPS];
    Crossing crossing;
    // Of the list, which was too short if this is more than LIST.
    u32 length;
};

// The largest of the block's values, in every thread.
__device__ __forceinline__ u64 block_max(Memory& memory, u64 x) {
    auto over_warp = [&] {
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2) x = max(x, __shfl_xor_sync(ALL_LANES, x, distance));
    };
    over_warp();
    if (threadIdx.x % WARP == 0) memory.warp_masses[threadIdx.x / WARP] = x;
    __syncthreads();
    x = memory.warp_masses[threadIdx.x % WARPS];
    over_warp();
    __syncthreads();
    return x;
}
// Their sum.
__device__ __forceinline__ u64 block_sum(Memory& memory, u64 x) {
    x = warp_sum(x);
    if (threadIdx.x % WARP == 0) memory.warp_masses[threadIdx.x / WARP] = x;
    __syncthreads();
    x = warp_sum(threadIdx.x % WARP < WARPS ? memory.warp_masses[threadIdx.x % WARP] : 0);
    __syncthreads();
    return x;
}

// Passes over a row -------------------------------------------------------------------------------------------------

struct Likeliest {
    // The key of the likeliest allowed token; its logit is negative infinity if there is none.
    u64 key;
    // Whether the largest logit, allowed or not, is a number.
    bool is_number;
};
// Puts the likeliest token of each thread on the list as well.
__device__ __forceinline__ Likeliest find_likeliest(Memory& memory, const Row& row) {
    float largest = -INFINITE, best = -INFINITE;
    u32 best_token = 0;
#pragma unroll 1
    for (u32 token = threadIdx.x; token < row.vocabulary; token += SPREAD) {
        float x[BATCH];
        largest = fmaxf(largest, load<THREADS>(row, token, x));
#pragma unroll
        for (u32 e = 0; e < BATCH; ++e) {
            // Tokens come in increasing order, so this one is behind its equals.
            if (x[e] > best) best = x[e], best_token = token + e * THREADS;
        }
    }
    const u64 key = key_of(best, best_token);
    memory.list[threadIdx.x] = key;
    if (threadIdx.x == 0) memory.length = THREADS;
    const u64 of_all = block_max(memory, key_of(largest, 0));
    return {block_max(memory, key), fabsf(logit_of(of_all)) < INFINITE};
}

// Puts the allowed tokens from the logit `least` on, and no others, on the list. Gives the mass of all that are
// allowed, if it is wanted.
__device__ __forceinline__ u64 collect(Memory& memory, const Row& row, const Scale& scale, float least, bool weighs) {
    if (threadIdx.x == 0) memory.length = 0;
    __syncthreads();
    u64 mass = 0;
#pragma unroll 1
    for (u32 token = threadIdx.x; token < row.vocabulary; token += SPREAD) {
        float x[BATCH], highest = -INFINITE;
        load<THREADS>(row, token, x);
#pragma unroll
        for (u32 e = 0; e < BATCH; ++e) {
            highest = fmaxf(highest, x[e]);
            if (weighs) mass += mass_of(weight_of(scale, x[e]));
        }
        // A row that does not fit would otherwise add to this one word as often as it has tokens.
        if (!(highest >= least) || *static_cast<volatile u32*>(&memory.length) > LIST) continue;
        u32 found = 0;
#pragma unroll
        for (u32 e = 0; e < BATCH; ++e) found |= x[e] >= least ? 1u << e : 0;
        u32 place = atomicAdd(&memory.length, static_cast<u32>(__popc(found)));
        for (; found != 0 && place < LIST; found &= found - 1, ++place) {
            const u32 one = token + (__ffs(found) - 1) * THREADS;
            memory.list[place] = key_of(row.logits[one], one);
        }
    }
    return block_sum(memory, mass);
}

// Selection ---------------------------------------------------------------------------------------------------------

// A thread's last additions, to one bin: neighbours are often alike, and a bin that all threads add to is slow.
struct Tally {
    u32 bin, count;
    u64 mass;
};
__device__ __forceinline__ void add(Bins& bins, const Tally& tally) {
    if (tally.count == 0) return;
    atomicAdd(&bins.counts[tally.bin], tally.count);
    if (tally.mass == 0) return;
    const u32 low = static_cast<u32>(tally.mass);
    u32 high = static_cast<u32>(tally.mass >> 32);
    if (atomicAdd(&bins.masses_low[tally.bin], low) > ~low) ++high;
    if (high != 0) atomicAdd(&bins.masses_high[tally.bin], high);
}

// A barrier must follow.
__device__ __forceinline__ void clear(Bins& bins) {
    for (u32 bin = threadIdx.x; bin < BINS; bin += THREADS) {
        bins.counts[bin] = 0;
        bins.masses_low[bin] = 0;
        bins.masses_high[bin] = 0;
    }
}

// The part of all mass that lies before the random number, and one more: what a sum reaches with the token to be drawn.
__device__ __forceinline__ u64 goal_of(u64 random, u64 mass) { return __umul64hi(random, mass) + 1; }

// Finds the bin in which the sum of masses, or of counts, reaches `goal`; where that is 0, it becomes goal_of(random,
// sum of all). False if no bin does: then all lies "before". A barrier must come before it, and it ends in one.
__device__ __forceinline__ bool find_crossing(Memory& memory, bool by_mass, u64& goal, u64 random, Crossing& crossing) {
    constexpr u32 OWN = BINS / THREADS;
    const u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, first = OWN * threadIdx.x;
    auto mass_in = [&](u32 bin) { return u64(memory.bins.masses_high[bin]) << 32 | memory.bins.masses_low[bin]; };
    u64 mass = 0;
    u32 count = 0;
#pragma unroll
    for (u32 i = 0; i < OWN; ++i) mass += mass_in(first + i), count += memory.bins.counts[first + i];
    // Sums over the lanes before, and over the warps before.
    auto scan = [&](u64& mass, u32& count) {
        const u64 own_mass = mass;
        const u32 own_count = count;
#pragma unroll
        for (u32 distance = 1; distance < WARP; distance *= 2) {
            const u64 lower_mass = __shfl_up_sync(ALL_LANES, mass, distance);
            const u32 lower_count = __shfl_up_sync(ALL_LANES, count, distance);
            if (lane >= distance) mass += lower_mass, count += lower_count;
        }
        if (lane == WARP - 1) memory.warp_masses[warp] = mass, memory.warp_counts[warp] = count;
        mass -= own_mass;
        count -= own_count;
    };
    scan(mass, count);
    __syncthreads();
    u64 all_mass = 0;
    u32 all_count = 0;
#pragma unroll 1
    for (u32 w = 0; w < WARPS; ++w) {
        if (w == warp) mass += all_mass, count += all_count;
        all_mass += memory.warp_masses[w];
        all_count += memory.warp_counts[w];
    }
    if (goal == 0) goal = goal_of(random, all_mass);
#pragma unroll
    for (u32 i = 0; i < OWN; ++i) {
        const u64 own_mass = mass_in(first + i);
        const u32 own_count = memory.bins.counts[first + i];
        const u64 before = by_mass ? mass : count, own = by_mass ? own_mass : own_count;
        if (before < goal && goal - before <= own) memory.crossing = {mass, own_mass, count, own_count, first + i};
        mass += own_mass;
        count += own_count;
    }
    __syncthreads();
    crossing = memory.crossing;
    if (goal <= (by_mass ? all_mass : all_count)) return true;
    crossing = {all_mass, 0, all_count, 0, 0};
    return false;
}

// What is looked for, and among which tokens.
struct Selection {
    // On the list; else in the row, among the allowed tokens from the logit `lowest` on.
    bool listed;
    float lowest;
    // In the order of tokens; else by decreasing key, from `high` down to `low`.
    bool by_token;
    u64 low, high;
    // Only tokens with this key and this weight.
    u64 least_key;
    float least_weight;
    // How much, or how many, is wanted; 0 for so much of the mass as `random` says.
    bool by_mass;
    u64 goal, random;
};
// A beginning of the tokens: the keys from `key` on. By token, a key is without its logit.
struct Cut {
    u64 key;
    u32 count;
    u64 mass;
};

// Calls f(key) for the thread's share of the list, or of what is allowed in the row from the logit `lowest` on.
template <class F>
__device__ __forceinline__ void each_key(const Memory& memory, const Row& row, bool listed, float lowest, F f) {
    const u32 length = listed ? memory.length : row.vocabulary;
    // AHEAD logits are on their way while one is looked at.
    constexpr u32 AHEAD = 4;
    float ahead[AHEAD] = {};
    if (!listed) {
#pragma unroll
        for (u32 e = 0; e < AHEAD; ++e) {
            const u32 token = threadIdx.x + e * THREADS;
            if (token < length) ahead[e] = row.logits[token];
        }
    }
#pragma unroll 1
    for (u32 i = threadIdx.x; i < length; i += THREADS) {
        u64 key;
        if (listed) {
            key = memory.list[i];
        } else {
            const float x = ahead[0];
#pragma unroll
            for (u32 e = 1; e < AHEAD; ++e) ahead[e - 1] = ahead[e];
            if (i + AHEAD * THREADS < length) ahead[AHEAD - 1] = row.logits[i + AHEAD * THREADS];
            if (!(x >= lowest && allows(row, i))) continue;
            key = key_of(x, i);
        }
        f(key);
    }
}

// Finds the shortest beginning that reaches the goal; false if all together do not: then the cut is all. In the order
// of tokens, the cut's key is that of its last token; else it may be less, though more than that of the next.
__device__ __forceinline__ bool select(Memory& memory, const Row& row, const Scale& scale, const Selection& wanted,
                                       Cut& cut) {
    u64 low = wanted.low, high = wanted.high, goal = wanted.goal;
    cut = {low, 0, 0};
#pragma unroll 1
    for (;;) {
        const u32 bits = 64 - __clzll((high - low) | 1), shift = bits > BIN_BITS ? bits - BIN_BITS : 0;
        clear(memory.bins);
        __syncthreads();
        Tally tally = {};
        each_key(memory, row, wanted.listed, wanted.lowest, [&](u64 key) {
            const float weight = weight_of(scale, logit_of(key));
            if (key < wanted.least_key || weight < wanted.least_weight) return;
            const u64 place = wanted.by_token ? key & LAST_TOKEN : key;
            if (place < low || place > high) return;
            const u32 bin = static_cast<u32>((high - place) >> shift);
            if (bin != tally.bin) {
                add(memory.bins, tally);
                tally = {bin, 0, 0};
            }
            ++tally.count;
            tally.mass += mass_of(weight);
        });
        add(memory.bins, tally);
        __syncthreads();
        Crossing crossing;
        const bool reached = find_crossing(memory, wanted.by_mass, goal, wanted.random, crossing);
        cut.count += crossing.count_before;
        cut.mass += crossing.mass_before;
        if (!reached) return false;
        goal -= wanted.by_mass ? crossing.mass_before : crossing.count_before;
        high -= u64(crossing.bin) << shift;
        low = max(low, high - ((u64(1) << shift) - 1));
        if (shift == 0 || (crossing.count == 1 && !wanted.by_token)) {
            cut = {low, cut.count + crossing.count, cut.mass + crossing.mass};
            return true;
        }
    }
}

}  // namespace sampling
