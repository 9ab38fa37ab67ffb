// Log-probabilities of tokens under the softmax of each row of logits as they are: of the token that sample.cu drew, of
// given ones, and the likeliest with theirs.
//
// requests, logits: as for sample.cu, which comes before. answers: u32; words r and rows + r are sample.cu's, and of a
// row that is only scored this says there what became of it. What is answered of a row that asks for something begins
// at its answer_at, a word each:
//   the drawn token's log-probability, f32; of a row that draws none it means nothing
//   how many of the likeliest tokens follow: `top`, or fewer if the row has not so many numbers
//   [scores] log-probabilities of the given tokens, f32
//   [top] the likeliest tokens, best first, of equals the lower token
//   [top] their log-probabilities, f32
//
// Layout: all buffers at multiples of 16 bytes; any vocabulary up to 2^18; top up to 256.
// Launch: grid rows, block 512, shared memory 47,424 bytes. It need not be launched if no row has WANTS_LOGPROBS.
// Numerics: the sum of weights is exact but for the weights' own error, 3e-6 at most where they are small and less
// where they are large; its logarithm and the differences are f64. A log-probability is within 2e-6 and its rounding.
// Tested against host/device/src/cpu/sample.rs.
#include "sampling.cuh"

namespace sampling {

// As TOP_LOGPROBS_MAX in host/core/src/limits.rs, which is what a request may ask for.
constexpr u32 TOP_MAX = 256;

struct LogprobsMemory {
    Memory memory;
    // The likeliest tokens, in no order.
    u64 chosen[TOP_MAX];
    u32 chosen_count;
    double log_sum;
};
static_assert(sizeof(LogprobsMemory) <= 47424, "as the header says");

}  // namespace sampling

extern "C" __global__ void __launch_bounds__(512, 2)
    logprobs(const u32* requests, const float* logits, u32 vocabulary, u32* answers) {
    using namespace sampling;
    SHARED_MEMORY(LogprobsMemory, all);
    Memory& memory = all->memory;
    const Request& request = reinterpret_cast<const Request*>(requests)[blockIdx.x];
    u32* status = answers + gridDim.x + blockIdx.x;
    if (!(request.flags & WANTS_LOGPROBS) || *status != OK) return;
    const Row row = {logits + u64(blockIdx.x) * vocabulary, vocabulary, nullptr};
    const Likeliest likeliest = find_likeliest(memory, row);
    if (!likeliest.is_number) {
        // Every thread has read it before find_likeliest ended.
        if (threadIdx.x == 0) *status = NOT_NUMBERS;
        return;
    }
    const Scale scale = {logit_of(likeliest.key), LOG2_E};

    // Here negative infinity is a number like others.
    bool listed = true;
    float least = LOWEST;
    u64 mass = 0;
    Cut cut = {0, 0, 0};
    // Where to begin the list; then what is on it; and if it was too short, what is in the row.
#pragma unroll 1
    for (bool seeding = true;; seeding = false) {
        Selection wanted = {};
        wanted.listed = listed;
        wanted.lowest = -INFINITE;
        wanted.low = least_key_of(listed ? least : -INFINITE);
        wanted.high = least_key_of(scale.largest) | LAST_TOKEN;
        wanted.goal = request.top;
        const bool reached = request.top > 0 && select(memory, row, scale, wanted, cut);
        if (!seeding) break;
        least = reached ? logit_of(cut.key) : request.top > 0 ? -INFINITE : scale.largest;
        mass = collect(memory, row, scale, least, true);
        listed = memory.length <= LIST;
    }

    if (threadIdx.x == 0) {
        all->log_sum = double(scale.largest) + log(double(mass) / double(ONE));
        all->chosen_count = 0;
    }
    __syncthreads();
    auto logprob = [&](float logit) { return __float_as_uint(static_cast<float>(double(logit) - all->log_sum)); };
    u32* answer = answers + request.answer_at;
    u32* scores = answer + 2;
    u32* top_tokens = scores + request.scores;
    u32* top_logprobs = top_tokens + request.top;
    if (request.top > 0) {
        each_key(memory, row, listed, -INFINITE, [&](u64 key) {
            if (key >= cut.key) all->chosen[atomicAdd(&all->chosen_count, 1u)] = key;
        });
        __syncthreads();
        for (u32 i = threadIdx.x; i < all->chosen_count; i += THREADS) {
            const u64 key = all->chosen[i];
            u32 better = 0;
            for (u32 other = 0; other < all->chosen_count; ++other) better += all->chosen[other] > key;
            top_tokens[better] = token_of(key);
            top_logprobs[better] = logprob(logit_of(key));
        }
    }
    for (u32 i = threadIdx.x; i < request.scores; i += THREADS) {
        scores[i] = logprob(row.logits[requests[request.scores_at + i]]);
    }
    if (threadIdx.x == 0) {
        if (request.flags & DRAWS) answer[0] = logprob(row.logits[answers[blockIdx.x]]);
        answer[1] = all->chosen_count;
    }
}
EXPORT(logprobs, 64)
