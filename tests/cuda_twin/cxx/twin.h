// The CPU twin of a CUDA device: what kernels/cuda/device.cuh includes instead of CUDA's headers, so that a C++
// compiler builds the same kernels and launch.h runs them.
//
// It is a careful reading of CUDA's rules rather than a fast one: what CUDA leaves undefined is fatal where that is
// cheap to see, and what is not yet written is NaN. What lies where:
//
//   types, builtins, instructions    what kernels see
//   thread, multiprocessor, fiber    how the threads of a block run and meet
//   registry, launch                 kernels by name; running their blocks
//   fault, undefined                 the message and the end when a kernel does what it must not
//   memory, pages                    memory that notices who goes past it
//   stream, trial, status, cuda_*    libcuda.so: streams, events and graphs; what tests plant and count; the functions
//   cublaslt                         libcublasLt.so
//
// tests/cuda_twin/twin.rs builds the two libraries and loads them.
#pragma once

#include "instructions.h"
#include "launch.h"

#define EXPORT(kernel, registers) \
    static const ::twin::Registration registration_of_##kernel(#kernel, registers, &kernel);
#define SHARED_MEMORY(T, name) T* name = reinterpret_cast<T*>(::twin::block->shared)
