// What C's library and QuickJS want of a system, from WASI 0.2.
//
// The library of wasm32-wasi asks for WASI 0.1, which a component would need an adapter for, and with it files,
// environment and much else. So its imports are defined here: the clock works, all else is as on a machine without it.
#include <string.h>
#include <wasi/api.h>

#include "runtime.h"

IMPORT("wasi:cli/stdout@0.2.0", "get-stdout") extern int32_t get_stdout(void);
IMPORT("wasi:cli/stderr@0.2.0", "get-stderr") extern int32_t get_stderr(void);
IMPORT("wasi:io/streams@0.2.0", "[method]output-stream.blocking-write-and-flush")
extern void stream_write(int32_t stream, const char *bytes, size_t length, void *result);
IMPORT("wasi:clocks/wall-clock@0.2.0", "now") extern void wall_clock_now(void *now);
IMPORT("wasi:clocks/monotonic-clock@0.2.0", "now") extern int64_t monotonic_clock_now(void);
IMPORT("wasi:random/random@0.2.0", "get-random-u64") extern int64_t get_random_u64(void);

// WASI takes no more in one blocking write.
enum { WRITE_BYTES_MAX = 4096 };

void write_output(int stream, const char *bytes, size_t length) {
    static int32_t streams[3];
    if (!streams[stream]) streams[stream] = stream == 1 ? get_stdout() : get_stderr();
    while (length) {
        size_t part = length < WRITE_BYTES_MAX ? length : WRITE_BYTES_MAX;
        uint32_t result[3];
        stream_write(streams[stream], bytes, part, result);
        if ((uint8_t)result[0]) return;
        bytes += part;
        length -= part;
    }
}

int32_t __imported_wasi_snapshot_preview1_clock_time_get(int32_t clock, int64_t precision, int32_t into) {
    uint64_t nanoseconds;
    if (clock == __WASI_CLOCKID_REALTIME) {
        struct { uint64_t seconds; uint32_t nanoseconds; } now;
        wall_clock_now(&now);
        nanoseconds = now.seconds * 1000000000 + now.nanoseconds;
    } else {
        nanoseconds = (uint64_t)monotonic_clock_now();
    }
    *(uint64_t *)into = nanoseconds;
    return __WASI_ERRNO_SUCCESS;
}

// A number from 0 up to 1. From the run's own random numbers: a run that is given a seed can be repeated.
double random_number(void) { return (double)((uint64_t)get_random_u64() >> 11) * 0x1p-53; }

// C's standard error, on which an assertion of QuickJS would speak.
int32_t __imported_wasi_snapshot_preview1_fd_write(int32_t file, int32_t parts, int32_t count, int32_t into) {
    if (file != 1 && file != 2) return __WASI_ERRNO_BADF;
    const __wasi_ciovec_t *part = (const __wasi_ciovec_t *)parts;
    uint32_t written = 0;
    for (int32_t i = 0; i < count; i++) {
        write_output(file, (const char *)part[i].buf, part[i].buf_len);
        written += part[i].buf_len;
    }
    *(uint32_t *)into = written;
    return __WASI_ERRNO_SUCCESS;
}

// Zig brings a `close` of its own, whose import cannot be defined here.
int close(int file) { return -1; }

int32_t __imported_wasi_snapshot_preview1_fd_fdstat_get(int32_t file, int32_t into) { return __WASI_ERRNO_BADF; }

int32_t __imported_wasi_snapshot_preview1_fd_seek(int32_t file, int64_t offset, int32_t whence, int32_t into) {
    return __WASI_ERRNO_SPIPE;
}
