// Draws a token of each row of logits: penalties, bias, mask, temperature, top-k, top-p of what top-k kept, min-p, as
// host/device/src/cpu/sample.rs does.
//
// requests: [rows] Request, and what they point to. logits: f32 [rows, vocabulary]; while the kernel runs, those of
// penalised and biased tokens are changed, and afterwards they are as before. saved: f32, a word for each of those
// tokens. answers: u32; word r is the token drawn from row r, which the next pass may take as its input, and word
// rows + r is what became of the row (sampling.cuh). A row that draws nothing, or cannot, gets token 0. Answers of rows
// that want log-probabilities, and of those that are only scored, are completed by logprobs.cu.
//
// Layout: all buffers at multiples of 16 bytes; any vocabulary up to 2^18.
// Launch: grid rows, block 512, shared memory 45,376 bytes.
// Numerics: what is compared is exact: logits as they are, ties by token. Weights are 2^((x - max) log2(e) / T) within
// 3e-6, rounded to multiples of 2^-40; their sums are exact.
// Tested against host/device/src/cpu/sample.rs, which draws the same tokens but where two of them are within rounding.
//
// A row is gone through twice: for its largest logit, and for a list of its likeliest tokens and the mass of all. Where
// what is kept is not on that list, or nothing is cut but by min-p, the row is gone through again.
#include "sampling.cuh"

namespace sampling {

// How far below the largest logit, in factors of two of the weight, tokens are put on the list if mass alone limits
// them: that is e^-16, of which 10^5 tokens are less than a hundredth of all.
constexpr float LIST_DEPTH = 23.0f;

static_assert(sizeof(Memory) <= 45376, "as the header says");

// The tokens whose logits are changed: {token, count} and {token, bias}.
struct Changes {
    const uint2* counts;
    const uint2* biases;
    // Their logits as they were: those counted, then those biased.
    float* saved;
};
__device__ __forceinline__ Changes changes_of(const u32* requests, const Request& request, float* saved) {
    return {reinterpret_cast<const uint2*>(requests + request.counts_at),
            reinterpret_cast<const uint2*>(requests + request.biases_at), saved + request.saved_at};
}

// Calls change(first, end) for each token of a sorted list, with its entries.
template <class Change>
__device__ __forceinline__ void each_token(const uint2* entries, u32 count, Change change) {
#pragma unroll 1
    for (u32 i = threadIdx.x; i < count; i += THREADS) {
        const u32 token = entries[i].x;
        if (i > 0 && entries[i - 1].x == token) continue;
        u32 end = i + 1;
#pragma unroll 1
        while (end < count && entries[end].x == token) ++end;
        change(i, end);
    }
}

// Keeps the logits that are to be changed, and changes them.
__device__ __forceinline__ void adjust(const Request& request, const Changes& changes, float* logits) {
#pragma unroll 1
    for (u32 i = threadIdx.x; i < request.counts; i += THREADS) changes.saved[i] = logits[changes.counts[i].x];
#pragma unroll 1
    for (u32 i = threadIdx.x; i < request.biases; i += THREADS) {
        changes.saved[request.counts + i] = logits[changes.biases[i].x];
    }
    __syncthreads();
    each_token(changes.counts, request.counts, [&](u32 first, u32 end) {
        const float penalty = request.repetition_penalty;
        float x = logits[changes.counts[first].x];
#pragma unroll 1
        for (u32 i = first; i < end; ++i) {
            const u32 count = changes.counts[i].y;
            if (penalty != 1.0f) x = x > 0.0f ? __fdiv_rn(x, penalty) : __fmul_rn(x, penalty);
            // Rounded twice, as on the CPU: not fused.
            x -= __fmul_rn(request.frequency_penalty, static_cast<float>(count));
            if (count > 0) x -= request.presence_penalty;
        }
        logits[changes.counts[first].x] = x;
    });
    __syncthreads();
    each_token(changes.biases, request.biases, [&](u32 first, u32 end) {
        float x = logits[changes.biases[first].x];
#pragma unroll 1
        for (u32 i = first; i < end; ++i) x += __uint_as_float(changes.biases[i].y);
        logits[changes.biases[first].x] = x;
    });
    __syncthreads();
}

__device__ __forceinline__ void restore(const Request& request, const Changes& changes, float* logits) {
    __syncthreads();
#pragma unroll 1
    for (u32 i = threadIdx.x; i < request.counts; i += THREADS) logits[changes.counts[i].x] = changes.saved[i];
#pragma unroll 1
    for (u32 i = threadIdx.x; i < request.biases; i += THREADS) {
        logits[changes.biases[i].x] = changes.saved[request.counts + i];
    }
}

// Draws in the order of tokens from those of the row with this key at least; `otherwise` if min-p leaves none.
__device__ __forceinline__ u32 draw_from_row(Memory& memory, const Row& row, const Scale& scale, u64 least_key,
                                             float min_p, u64 random, u32 otherwise) {
    // As a logit, and the last token that has just that. A key of -0 lies below those of all zeros.
    const float least = logit_of(least_key);
    const u32 last = least_key >> TOKEN_BITS == ordered(0.0f) - 1 ? LAST_TOKEN : token_of(least_key);
    auto mass = [&](float x, u32 token) -> u64 {
        const float weight = weight_of(scale, x);
        const u64 mass = mass_of(weight);
        // Without branches.
        const bool kept = ((x > least) | ((x == least) & (token <= last))) & (weight >= min_p);
        return kept ? mass : 0;
    };
    auto put = [&](u32 bin, u64 mass) {
        memory.bins.masses_low[bin] = static_cast<u32>(mass);
        memory.bins.masses_high[bin] = static_cast<u32>(mass >> 32);
    };
    clear(memory.bins);
    __syncthreads();
    for (u32 run = threadIdx.x / WARP; run * RUN < row.vocabulary; run += WARPS) {
        u64 sum = 0;
#pragma unroll 1
        for (u32 i = 0; i < RUN; i += BATCH * WARP) {
            const u32 token = run * RUN + i + threadIdx.x % WARP;
            float x[BATCH];
            load<WARP>(row, token, x);
#pragma unroll
            for (u32 e = 0; e < BATCH; ++e) sum += mass(x[e], token + e * WARP);
        }
        sum = warp_sum(sum);
        if (threadIdx.x % WARP == 0) put(run, sum);
    }
    u32 first = 0;
    u64 goal = 0;
    // The run, then its token.
#pragma unroll 1
    for (bool found_run = false;; found_run = true) {
        __syncthreads();
        Crossing crossing;
        if (!find_crossing(memory, true, goal, random, crossing)) return otherwise;
        if (found_run) return first + crossing.bin;
        goal -= crossing.mass_before;
        first = crossing.bin * RUN;
        for (u32 i = threadIdx.x; i < RUN; i += THREADS) {
            const u32 token = first + i;
            put(i, allows(row, token) ? mass(row.logits[token], token) : 0);
        }
    }
}

enum Stage { SEED, TOP_K, TOP_P, DRAW };

// The token drawn, after find_likeliest.
__device__ __forceinline__ u32 draw(Memory& memory, const Row& row, const Request& request, u64 likeliest) {
    const u32 greedy = token_of(likeliest);
    if (request.flags & GREEDY) return greedy;
    const Scale scale = {logit_of(likeliest), request.scale};
    const u32 top_k = request.top_k;
    const bool cuts_mass = request.top_p < 1.0f;
    // What is kept, and whether it is on the list, which is of all tokens from `least` on.
    Cut kept = {least_key_of(-INFINITE), 0, 0};
    bool listed = top_k > 0 || cuts_mass;
    float least = LOWEST;
    Stage stage = listed ? SEED : DRAW;
    // One loop, so that `select` is compiled once.
#pragma unroll 1
    for (;;) {
        if (stage == DRAW && !listed) {
            return draw_from_row(memory, row, scale, kept.key, request.min_p, request.random, greedy);
        }
        Selection wanted = {};
        wanted.listed = listed;
        wanted.lowest = LOWEST;
        wanted.low = least_key_of(listed ? least : LOWEST);
        wanted.high = least_key_of(scale.largest) | LAST_TOKEN;
        wanted.by_mass = stage == TOP_P || stage == DRAW;
        if (stage == SEED) {
            wanted.goal = top_k > 0 && top_k < SEEDS ? top_k : SEEDS;
        } else if (stage == TOP_K) {
            wanted.goal = top_k;
        } else if (stage == TOP_P) {
            if (!listed) wanted.low = least_key_of(fmaxf(scale.largest - DEEPEST / scale.scale, LOWEST));
            const u64 goal = static_cast<u64>(ceil(double(request.top_p) * double(kept.mass)));
            wanted.goal = max(min(goal, kept.mass), u64(1));
        } else {
            wanted.by_token = true;
            wanted.low = 0;
            wanted.high = LAST_TOKEN;
            wanted.least_key = kept.key;
            wanted.least_weight = request.min_p;
            wanted.random = request.random;
        }
        Cut cut;
        const bool reached = select(memory, row, scale, wanted, cut);
        if (stage == SEED) {
            least = reached ? logit_of(cut.key) : LOWEST;
            if (top_k == 0) least = fmaxf(least, scale.largest - LIST_DEPTH / scale.scale);
            kept.mass = collect(memory, row, scale, least, top_k == 0);
            listed = memory.length <= LIST;
            stage = top_k > 0 ? TOP_K : TOP_P;
        } else if (stage == DRAW) {
            return reached ? token_of(cut.key) : greedy;
        } else if (!reached && listed && least > LOWEST) {
            listed = false;
        } else {
            kept = cut;
            stage = stage == TOP_K && cuts_mass ? TOP_P : DRAW;
        }
    }
}

}  // namespace sampling

extern "C" __global__ void __launch_bounds__(512, 2)
    sample(const u32* requests, float* logits, u32 vocabulary, float* saved, u32* answers) {
    using namespace sampling;
    SHARED_MEMORY(Memory, memory);
    const Request& request = reinterpret_cast<const Request*>(requests)[blockIdx.x];
    u32 token = 0, status = OK;
    if (request.flags & DRAWS) {
        float* own = logits + u64(blockIdx.x) * vocabulary;
        const bool changed = request.counts + request.biases > 0;
        if (changed) adjust(request, changes_of(requests, request, saved), own);
        const Row row = {own, vocabulary, request.mask_at ? requests + request.mask_at : nullptr};
        const Likeliest likeliest = find_likeliest(*memory, row);
        if (!likeliest.is_number) {
            status = NOT_NUMBERS;
        } else if (logit_of(likeliest.key) == -INFINITE) {
            status = MASK_ALLOWS_NONE;
        } else {
            token = draw(*memory, row, request, likeliest.key);
        }
        if (changed) restore(request, changes_of(requests, request, saved), own);
    }
    if (threadIdx.x == 0) {
        answers[blockIdx.x] = token;
        answers[gridDim.x + blockIdx.x] = status;
    }
}
EXPORT(sample, 64)
