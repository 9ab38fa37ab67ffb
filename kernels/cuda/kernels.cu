// All kernels in one translation unit: an image for each architecture, and one library for the CPU twin.
//
// What a kernel file declares beside its kernels is seen by the files after it: it belongs in a namespace of the file's.
#include "device.cuh"

#include "decode_attention.cu"
#include "embed.cu"
#include "gather_rows.cu"
#include "gemm.cu"
#include "gemv.cu"
#include "logprobs.cu"
#include "norm.cu"
#include "prefill_attention.cu"
#include "probe.cu"
#include "rope.cu"
#include "sample.cu"
#include "silu_mul.cu"
