// The functions below "Instructions" in kernels/cuda/device.cuh, each a reading of what the PTX ISA says in its section
// 9.7, "Instructions", of the instruction that is named.
#pragma once

#include "builtins.h"

// cvt.f32.bf16: exact.
inline float to_float(bf16 x) { return std::bit_cast<float>(static_cast<u32>(x.bits) << 16); }

// cvt.rn.bf16.f32: to the nearest, of two equally near ones to the even; a NaN becomes the canonical one, 0x7fff.
inline bf16 to_bf16(float x) {
    u32 bits = std::bit_cast<u32>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
    // Adding just under half of what is cut off, and one more if what is kept is odd, carries exactly when rounding up.
    return {static_cast<u16>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}

// ex2.approx.ftz.f32: subnormal results are zero, and -infinity gives zero.
inline float exp2_fast(float x) {
    float y = exp2f(x);
    return y < 0x1p-126f ? 0.0f : y;
}

// A shared address is an offset into a window of the block's shared memory.
inline u32 shared_address(const void* pointer) {
    twin::check_shared(pointer, 0, "shared address");
    return static_cast<u32>(static_cast<const char*>(pointer) - twin::block->shared);
}

// cp.async: non-blocking, and nothing says when it is performed but for the wait. So the bytes arrive as late as they
// may, in copy_async_wait, and until then their place holds NaN: that shows a missing wait, and a copy that overwrites
// what others still read.
inline void copy_async_16(void* to, const void* from, bool valid = true) {
    twin::check_shared(to, 16, "copy_async_16");
    twin::check_aligned(to, 16, "copy_async_16 to shared memory");
    if (valid) twin::check_aligned(from, 16, "copy_async_16 from global memory");
    memset(to, 0xff, 16);
    twin::thread->copies.push_back({to, valid ? from : nullptr});
}
// cp.async.commit_group: a group of all copies that this thread has started since its last one, perhaps of none.
inline void copy_async_commit() {
    auto& thread = *twin::thread;
    thread.group_ends.push_back(static_cast<u32>(thread.copies.size()));
}
// cp.async.wait_group: until N or fewer of this thread's most recent groups are pending. Others see what has arrived
// after a barrier.
template <int N>
void copy_async_wait() {
    auto& copies = twin::thread->copies;
    auto& ends = twin::thread->group_ends;
    if (ends.size() <= N) return;
    u32 groups = static_cast<u32>(ends.size()) - N, arrived = ends[groups - 1];
    for (u32 i = 0; i < arrived; i++) {
        if (copies[i].from)
            memcpy(copies[i].to, copies[i].from, 16);
        else
            memset(copies[i].to, 0, 16);
    }
    copies.erase(copies.begin(), copies.begin() + arrived);
    ends.erase(ends.begin(), ends.begin() + groups);
    for (u32& end : ends) end -= arrived;
}

// ld.global.nc: from memory that nothing writes while the kernel runs.
inline uint4 load_once(const uint4* from) {
    twin::check_aligned(from, 16, "load_once");
    return *from;
}

namespace twin {

// ldmatrix. A lane's row is read when the lane comes, not when all have come: ldmatrix does not order memory, so a row
// that another lane has yet to write is a mistake that shall be seen.
struct MatrixLoad {
    u16 row[8];
    u32* result;

    template <bool TRANSPOSED>
    static void perform(void* const (&lanes)[LANES], u32) {
        auto element = [&](u32 matrix, u32 row, u32 column) {
            return static_cast<u32>(static_cast<MatrixLoad*>(lanes[8 * matrix + row])->row[column]);
        };
        for (u32 lane = 0; lane < LANES; lane++) {
            u32 row = lane / 4, column = 2 * (lane % 4);
            for (u32 j = 0; j < 4; j++)
                static_cast<MatrixLoad*>(lanes[lane])->result[j] =
                    TRANSPOSED ? element(j, column, row) | element(j, column + 1, row) << 16
                               : element(j, row, column) | element(j, row, column + 1) << 16;
        }
    }

    MatrixLoad(const void* from, u32* result) : result(result) {
        check_shared(from, 16, "load_matrices");
        check_aligned(from, 16, "load_matrices");
        memcpy(row, from, 16);
    }
};

struct MultiplyAdd {
    float* d;
    const u32* a;
    const u32* b;

    static void perform(void* const (&lanes)[LANES], u32) {
        float a[16][16], b[16][8], d[16][8];
        for (u32 lane = 0; lane < LANES; lane++) {
            auto* own = static_cast<MultiplyAdd*>(lanes[lane]);
            u32 g = lane / 4, c = 2 * (lane % 4);
            for (u32 half = 0; half < 2; half++) {
                auto value = [half](u32 pair) { return std::bit_cast<float>(half ? pair & 0xffff0000u : pair << 16); };
                a[g][c + half] = value(own->a[0]);
                a[g + 8][c + half] = value(own->a[1]);
                a[g][c + 8 + half] = value(own->a[2]);
                a[g + 8][c + 8 + half] = value(own->a[3]);
                b[c + half][g] = value(own->b[0]);
                b[c + 8 + half][g] = value(own->b[1]);
                d[g][c + half] = own->d[half];
                d[g + 8][c + half] = own->d[2 + half];
            }
        }
        for (u32 row = 0; row < 16; row++)
            for (u32 k = 0; k < 16; k++)
                for (u32 column = 0; column < 8; column++) d[row][column] += a[row][k] * b[k][column];
        for (u32 lane = 0; lane < LANES; lane++) {
            auto* own = static_cast<MultiplyAdd*>(lanes[lane]);
            u32 g = lane / 4, c = 2 * (lane % 4);
            own->d[0] = d[g][c], own->d[1] = d[g][c + 1];
            own->d[2] = d[g + 8][c], own->d[3] = d[g + 8][c + 1];
        }
    }
};

}  // namespace twin

// ldmatrix.sync.aligned.m8n8.x4.shared.b16
inline void load_matrices(u32 (&r)[4], const void* row, twin::Location where = twin::Location::current()) {
    twin::MatrixLoad load(row, r);
    twin::together(&twin::MatrixLoad::perform<false>, 0xffffffffu, &load, "load_matrices", where);
}
// ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16
inline void load_matrices_transposed(u32 (&r)[4], const void* row, twin::Location where = twin::Location::current()) {
    twin::MatrixLoad load(row, r);
    twin::together(&twin::MatrixLoad::perform<true>, 0xffffffffu, &load, "load_matrices_transposed", where);
}

// mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32. The products are exact in f32; PTX leaves open in which order
// and how precisely they are added.
inline void multiply_add(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2],
                         twin::Location where = twin::Location::current()) {
    twin::MultiplyAdd operands{d, a, b};
    twin::together(&twin::MultiplyAdd::perform, 0xffffffffu, &operands, "multiply_add", where);
}
