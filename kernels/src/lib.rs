//! Device code: SIMD routines for the CPU, CUDA sources and their compiled images.
