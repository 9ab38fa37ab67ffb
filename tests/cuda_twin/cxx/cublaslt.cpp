// libcublasLt.so to a program that loads it: products of bf16 matrices, behind the functions that the host uses.
//
// D = alpha op(A) op(B) + beta C (+ a bias for each row of D): matrices in columns, A and B bf16, C and D bf16 or f32,
// sums and alpha f32. It is stream-ordered and can be captured. What the library's documentation does not list as
// supported is refused: so a bias has D's type, and matrices are aligned as the preference said.
//
// It has four algorithms that differ in the order of their sums, and so in the last bits of what they give, and in the
// workspace that they need. None depends on how many columns D has, but nothing promises that of the real library.
#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

#include "types.h"

#define API extern "C" __attribute__((visibility("default")))

// Of the driver's library.
extern "C" int twin_enter(const char* function);
extern "C" u32 twin_alignment(const void* pointer);
extern "C" int twin_issue(void* stream, const char* name, void (*work)(const void*), const void* data, size_t bytes);

namespace {

#define STATUSES(X)                                                                                  \
    X(0, CUBLAS_STATUS_SUCCESS, "success")                                                           \
    X(1, CUBLAS_STATUS_NOT_INITIALIZED, "the library was not initialized")                           \
    X(3, CUBLAS_STATUS_ALLOC_FAILED, "the resource allocation failed")                               \
    X(7, CUBLAS_STATUS_INVALID_VALUE, "an unsupported value was passed to the function")             \
    X(8, CUBLAS_STATUS_ARCH_MISMATCH, "the device lacks what the function needs")                    \
    X(13, CUBLAS_STATUS_EXECUTION_FAILED, "the GPU program failed to execute")                       \
    X(14, CUBLAS_STATUS_INTERNAL_ERROR, "an internal operation failed")                              \
    X(15, CUBLAS_STATUS_NOT_SUPPORTED, "the functionality requested is not supported")

enum Status {
#define X(number, name, text) name = number,
    STATUSES(X)
#undef X
};

#define REQUIRE(condition, status) \
    if (!(condition)) return status

constexpr size_t VERSION = 120900;

// cudaDataType, cublasComputeType_t, cublasLtEpilogue_t.
constexpr int F32 = 0, BF16 = 14;
constexpr int COMPUTE_F32 = 68;
constexpr u32 EPILOGUE_NONE = 1, EPILOGUE_BIAS = 4;

struct Layout {
    int type;
    u64 rows, columns;
    // Elements from a column to the next.
    i64 stride;
};

struct Product {
    int compute_type, scale_type;
    int pointer_mode = 0;
    int transpose_a = 0, transpose_b = 0;
    u32 epilogue = EPILOGUE_NONE;
    const void* bias = nullptr;
    int bias_type = -1;
};

struct Preference {
    u64 workspace_bytes = 0;
    // Ways to join the parts of a sum that was split; 0 forbids splitting.
    u32 reductions = 7;
    // Bytes that A, B, C and D will be aligned to.
    u32 alignments[4] = {256, 256, 256, 256};
};

// cublasLtMatmulAlgo_t. MARK tells a real one from garbage. It may need what the preference promised.
struct Algorithm {
    u64 mark;
    u64 number;
    u32 alignments[4];
    u64 rest[4];
};
constexpr u64 MARK = 0x6e697774;

struct Heuristic {
    Algorithm algorithm;
    size_t workspace_bytes;
    int status;
    float waves;
    int rest[4];
};
static_assert(sizeof(Heuristic) == 96);

// How an algorithm adds: sums of every `lanes`-th product, which are then added up; and that of each of `splits` parts.
struct Order {
    u32 lanes;
    u32 splits;
};
constexpr Order ORDERS[] = {{16, 1}, {8, 1}, {16, 2}, {16, 4}};

bool real(const Algorithm& algorithm) { return algorithm.mark == MARK && algorithm.number < std::size(ORDERS); }

// Bytes for the parts' sums.
size_t workspace_of(Order order, u64 rows, u64 columns) {
    return order.splits == 1 ? 0 : order.splits * rows * columns * sizeof(float);
}

// All that one product needs; copied when it is issued.
struct Job {
    const u16 *a, *b;
    const void* c;
    void* d;
    const void* bias;
    float* workspace;
    u64 m, n, k;
    // Elements from one row of op(A) to the next and along it, and the same of columns of op(B).
    u64 a_row, a_step, b_column, b_step;
    u64 c_stride, d_stride;
    int type;
    float alpha, beta;
    Order order;
};

float widen(u16 bits) { return std::bit_cast<float>(static_cast<u32>(bits) << 16); }

float load(const void* from, int type, u64 i) {
    return type == F32 ? static_cast<const float*>(from)[i] : widen(static_cast<const u16*>(from)[i]);
}

void store(void* to, int type, u64 i, float x) {
    if (type == F32) {
        static_cast<float*>(to)[i] = x;
        return;
    }
    u32 bits = std::bit_cast<u32>(x);
    bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    static_cast<u16*>(to)[i] = nan ? 0x7fff : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}

// Compiled for several processors; without contraction all give the same bits.
template <u32 LANES>
__attribute__((always_inline)) inline float dot_in_lanes(const float* a, const float* b, u64 count) {
    float sums[LANES] = {};
    u64 i = 0;
    for (; i + LANES <= count; i += LANES)
        for (u32 lane = 0; lane < LANES; lane++) sums[lane] += a[i + lane] * b[i + lane];
    for (u32 lane = 0; i < count; i++, lane++) sums[lane] += a[i] * b[i];
    for (u32 half = LANES / 2; half > 0; half /= 2)
        for (u32 lane = 0; lane < half; lane++) sums[lane] += sums[lane + half];
    return sums[0];
}
__attribute__((target_clones("avx512f", "avx2", "default")))
float dot(const float* a, const float* b, u64 count, u32 lanes) {
    return lanes == 16 ? dot_in_lanes<16>(a, b, count) : dot_in_lanes<8>(a, b, count);
}

void perform(const void* data) {
    Job job;
    memcpy(&job, data, sizeof job);
    auto [lanes, splits] = job.order;
    std::vector<float> row(job.k), columns(job.n * job.k);
    for (u64 n = 0; n < job.n; n++)
        for (u64 k = 0; k < job.k; k++) columns[n * job.k + k] = widen(job.b[n * job.b_column + k * job.b_step]);
    for (u64 m = 0; m < job.m; m++) {
        for (u64 k = 0; k < job.k; k++) row[k] = widen(job.a[m * job.a_row + k * job.a_step]);
        for (u64 n = 0; n < job.n; n++) {
            float sum = 0;
            for (u32 split = 0; split < splits; split++) {
                u64 begin = job.k * split / splits, end = job.k * (split + 1) / splits;
                float part = dot(&row[begin], &columns[n * job.k + begin], end - begin, lanes);
                // Parts pass through the workspace, so that whoever else uses it is noticed.
                if (splits > 1) {
                    float* kept = job.workspace + (split * job.n + n) * job.m + m;
                    *kept = part, part = *kept;
                }
                sum += part;
            }
            sum *= job.alpha;
            if (job.beta != 0) sum += job.beta * load(job.c, job.type, n * job.c_stride + m);
            if (job.bias) sum += load(job.bias, job.type, m);
            store(job.d, job.type, n * job.d_stride + m, sum);
        }
    }
}

// Whether the shapes and types fit together, as far as the documentation supports them.
Status check(const Product& product, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
    REQUIRE(product.compute_type == COMPUTE_F32 && product.scale_type == F32, CUBLAS_STATUS_NOT_SUPPORTED);
    REQUIRE(product.pointer_mode == 0, CUBLAS_STATUS_NOT_SUPPORTED);
    REQUIRE(a.type == BF16 && b.type == BF16 && c.type == d.type, CUBLAS_STATUS_NOT_SUPPORTED);
    REQUIRE(d.type == BF16 || d.type == F32, CUBLAS_STATUS_NOT_SUPPORTED);
    REQUIRE(product.epilogue == EPILOGUE_NONE || product.epilogue == EPILOGUE_BIAS, CUBLAS_STATUS_NOT_SUPPORTED);
    REQUIRE(product.bias_type == -1 || product.bias_type == d.type, CUBLAS_STATUS_NOT_SUPPORTED);
    u64 m = product.transpose_a ? a.columns : a.rows, k = product.transpose_a ? a.rows : a.columns;
    u64 n = product.transpose_b ? b.rows : b.columns, b_k = product.transpose_b ? b.columns : b.rows;
    REQUIRE(k == b_k && d.rows == m && d.columns == n && c.rows == m && c.columns == n, CUBLAS_STATUS_INVALID_VALUE);
    REQUIRE(m && n && k, CUBLAS_STATUS_INVALID_VALUE);
    for (auto* layout : {&a, &b, &c, &d})
        REQUIRE(layout->stride >= static_cast<i64>(layout->rows), CUBLAS_STATUS_INVALID_VALUE);
    return CUBLAS_STATUS_SUCCESS;
}

template <class T>
bool set(T& to, const void* from, size_t bytes) {
    if (!from || bytes != sizeof(T)) return false;
    memcpy(&to, from, bytes);
    return true;
}

}  // namespace

// The driver's own errors have no number here.
#define ENTER()                           \
    if (int status = twin_enter(__func__)) \
    return status <= CUBLAS_STATUS_NOT_SUPPORTED ? status : CUBLAS_STATUS_EXECUTION_FAILED

API size_t cublasLtGetVersion() { return VERSION; }
API size_t cublasLtGetCudartVersion() { return 12090; }

API const char* cublasLtGetStatusName(int status) {
    switch (status) {
#define X(number, name, text) \
    case number: return #name;
        STATUSES(X)
#undef X
    }
    return "unknown";
}
API const char* cublasLtGetStatusString(int status) {
    switch (status) {
#define X(number, name, text) \
    case number: return text;
        STATUSES(X)
#undef X
    }
    return "unknown";
}

API int cublasLtCreate(int** handle) {
    ENTER();
    *handle = new int;
    return CUBLAS_STATUS_SUCCESS;
}
API int cublasLtDestroy(int* handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

// Descriptions ------------------------------------------------------------------------------------------------------

API int cublasLtMatrixLayoutCreate(Layout** layout, int type, u64 rows, u64 columns, i64 stride) {
    ENTER();
    *layout = new Layout{type, rows, columns, stride};
    return CUBLAS_STATUS_SUCCESS;
}
API int cublasLtMatrixLayoutDestroy(Layout* layout) {
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}
API int cublasLtMatrixLayoutSetAttribute(Layout* layout, int attribute, const void* value, size_t bytes) {
    ENTER();
    i32 one;
    switch (attribute) {
        case 0: return set(layout->type, value, bytes) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
        case 2: return set(layout->rows, value, bytes) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
        case 3: return set(layout->columns, value, bytes) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
        case 4: return set(layout->stride, value, bytes) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
        case 5:  // batches
            return set(one, value, bytes) && one == 1 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
        default: return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

API int cublasLtMatmulDescCreate(Product** product, int compute_type, int scale_type) {
    ENTER();
    *product = new Product{compute_type, scale_type};
    return CUBLAS_STATUS_SUCCESS;
}
API int cublasLtMatmulDescDestroy(Product* product) {
    delete product;
    return CUBLAS_STATUS_SUCCESS;
}
API int cublasLtMatmulDescSetAttribute(Product* product, int attribute, const void* value, size_t bytes) {
    ENTER();
    bool done = false;
    switch (attribute) {
        case 2: done = set(product->pointer_mode, value, bytes); break;
        case 3: done = set(product->transpose_a, value, bytes); break;
        case 4: done = set(product->transpose_b, value, bytes); break;
        case 7: done = set(product->epilogue, value, bytes); break;
        case 8: done = set(product->bias, value, bytes); break;
        case 26: done = set(product->bias_type, value, bytes); break;
        default: return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    return done ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

API int cublasLtMatmulPreferenceCreate(Preference** preference) {
    ENTER();
    *preference = new Preference;
    return CUBLAS_STATUS_SUCCESS;
}
API int cublasLtMatmulPreferenceDestroy(Preference* preference) {
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}
API int cublasLtMatmulPreferenceSetAttribute(Preference* preference, int attribute, const void* value, size_t bytes) {
    ENTER();
    bool done = true;
    if (attribute == 1) done = set(preference->workspace_bytes, value, bytes);
    if (attribute == 3) done = set(preference->reductions, value, bytes);
    if (attribute >= 5 && attribute <= 8) done = set(preference->alignments[attribute - 5], value, bytes);
    return done ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

// Algorithms and products -------------------------------------------------------------------------------------------

API int cublasLtMatmulAlgoGetHeuristic(int* handle, Product* product, Layout* a, Layout* b, Layout* c, Layout* d,
                                       Preference* preference, int wanted, Heuristic* results, int* given) {
    ENTER();
    *given = 0;
    REQUIRE(handle && product && a && b && c && d && preference && wanted > 0, CUBLAS_STATUS_INVALID_VALUE);
    if (Status status = check(*product, *a, *b, *c, *d)) return status;
    for (u64 number = 0; number < std::size(ORDERS) && *given < wanted; number++) {
        auto order = ORDERS[number];
        size_t bytes = workspace_of(order, d->rows, d->columns);
        if (bytes > preference->workspace_bytes || (order.splits > 1 && !preference->reductions)) continue;
        auto& result = results[(*given)++] = {{MARK, number, {}, {}}, bytes, CUBLAS_STATUS_SUCCESS, 1.0f, {}};
        std::copy_n(preference->alignments, 4, result.algorithm.alignments);
    }
    return CUBLAS_STATUS_SUCCESS;
}

API int cublasLtMatmulAlgoCheck(int* handle, Product* product, Layout* a, Layout* b, Layout* c, Layout* d,
                                const Algorithm* algorithm, Heuristic* result) {
    ENTER();
    REQUIRE(handle && product && a && b && c && d && algorithm && result, CUBLAS_STATUS_INVALID_VALUE);
    REQUIRE(real(*algorithm), CUBLAS_STATUS_INVALID_VALUE);
    if (Status status = check(*product, *a, *b, *c, *d)) return status;
    size_t bytes = workspace_of(ORDERS[algorithm->number], d->rows, d->columns);
    *result = {*algorithm, bytes, CUBLAS_STATUS_SUCCESS, 1.0f, {}};
    return CUBLAS_STATUS_SUCCESS;
}

API int cublasLtMatmul(int* handle, Product* product, const float* alpha, const u16* a, Layout* a_layout, const u16* b,
                       Layout* b_layout, const float* beta, const void* c, Layout* c_layout, void* d, Layout* d_layout,
                       const Algorithm* algorithm, void* workspace, size_t workspace_bytes, void* stream) {
    ENTER();
    REQUIRE(handle && product && alpha && a && b && beta && d, CUBLAS_STATUS_INVALID_VALUE);
    REQUIRE(a_layout && b_layout && c_layout && d_layout, CUBLAS_STATUS_INVALID_VALUE);
    if (Status status = check(*product, *a_layout, *b_layout, *c_layout, *d_layout)) return status;
    Order order = ORDERS[0];
    if (algorithm) {
        REQUIRE(real(*algorithm), CUBLAS_STATUS_INVALID_VALUE);
        order = ORDERS[algorithm->number];
        const void* pointers[] = {a, b, c ? c : d, d};
        for (u32 i = 0; i < 4; i++)
            REQUIRE(twin_alignment(pointers[i]) >= algorithm->alignments[i], CUBLAS_STATUS_NOT_SUPPORTED);
    }
    size_t needed = workspace_of(order, d_layout->rows, d_layout->columns);
    REQUIRE(needed <= workspace_bytes && (!needed || twin_alignment(workspace) >= 16), CUBLAS_STATUS_INVALID_VALUE);
    bool with_bias = product->epilogue == EPILOGUE_BIAS;
    REQUIRE(*beta == 0 || c, CUBLAS_STATUS_INVALID_VALUE);
    REQUIRE(!with_bias || product->bias, CUBLAS_STATUS_INVALID_VALUE);

    u64 a_stride = a_layout->stride, b_stride = b_layout->stride;
    bool a_turned = product->transpose_a, b_turned = product->transpose_b;
    Job job = {
        .a = a,
        .b = b,
        .c = c,
        .d = d,
        .bias = with_bias ? product->bias : nullptr,
        .workspace = static_cast<float*>(workspace),
        .m = d_layout->rows,
        .n = d_layout->columns,
        .k = a_turned ? a_layout->rows : a_layout->columns,
        .a_row = a_turned ? a_stride : 1,
        .a_step = a_turned ? 1 : a_stride,
        .b_column = b_turned ? 1 : b_stride,
        .b_step = b_turned ? b_stride : 1,
        .c_stride = static_cast<u64>(c_layout->stride),
        .d_stride = static_cast<u64>(d_layout->stride),
        .type = d_layout->type,
        .alpha = *alpha,
        .beta = *beta,
        .order = order,
    };
    bool issued = twin_issue(stream, "cublasLtMatmul", perform, &job, sizeof job) == 0;
    return issued ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
