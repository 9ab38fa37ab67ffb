// What calls of the driver answer, with the driver's numbers and names.
#pragma once

#define TWIN_STATUSES(X)                                                                             \
    X(0, CUDA_SUCCESS, "no error")                                                                   \
    X(1, CUDA_ERROR_INVALID_VALUE, "invalid argument")                                               \
    X(2, CUDA_ERROR_OUT_OF_MEMORY, "out of memory")                                                  \
    X(3, CUDA_ERROR_NOT_INITIALIZED, "initialization error")                                         \
    X(4, CUDA_ERROR_DEINITIALIZED, "driver shutting down")                                           \
    X(46, CUDA_ERROR_DEVICE_UNAVAILABLE, "CUDA-capable device(s) is/are busy or unavailable")        \
    X(100, CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected")                               \
    X(101, CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal")                                      \
    X(200, CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid")                               \
    X(201, CUDA_ERROR_INVALID_CONTEXT, "invalid device context")                                     \
    X(209, CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for the device")              \
    X(214, CUDA_ERROR_ECC_UNCORRECTABLE, "uncorrectable ECC error encountered")                      \
    X(218, CUDA_ERROR_INVALID_PTX, "a PTX JIT compilation failed")                                   \
    X(222, CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "the PTX is of an unsupported toolchain")             \
    X(400, CUDA_ERROR_INVALID_HANDLE, "invalid resource handle")                                     \
    X(500, CUDA_ERROR_NOT_FOUND, "named symbol not found")                                           \
    X(600, CUDA_ERROR_NOT_READY, "device not ready")                                                 \
    X(700, CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered")                   \
    X(701, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch")            \
    X(702, CUDA_ERROR_LAUNCH_TIMEOUT, "the launch timed out and was terminated")                     \
    X(715, CUDA_ERROR_ILLEGAL_INSTRUCTION, "an illegal instruction was encountered")                 \
    X(716, CUDA_ERROR_MISALIGNED_ADDRESS, "misaligned address")                                      \
    X(719, CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure")                                   \
    X(800, CUDA_ERROR_NOT_PERMITTED, "operation not permitted")                                      \
    X(801, CUDA_ERROR_NOT_SUPPORTED, "operation not supported")                                      \
    X(900, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "not permitted when stream is capturing")          \
    X(901, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "a previous error during capture")                 \
    X(902, CUDA_ERROR_STREAM_CAPTURE_MERGE, "would merge separate capture sequences")                \
    X(903, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "not ended in the stream in which it began")         \
    X(904, CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "capturing stream has unjoined work")                 \
    X(905, CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "dependency on uncaptured work in another stream")   \
    X(906, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "would make the legacy stream depend on a capture")   \
    X(907, CUDA_ERROR_CAPTURED_EVENT, "not permitted on an event last recorded in a capture")        \
    X(908, CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "not ended in the thread in which it began")      \
    X(999, CUDA_ERROR_UNKNOWN, "unknown error")

enum CUresult {
#define X(number, name, text) name = number,
    TWIN_STATUSES(X)
#undef X
};
