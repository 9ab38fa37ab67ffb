//! Device code: SIMD routines for the CPU, CUDA sources and their compiled images.
//!
//! *Boundary*: plain functions over slices. No threads, no files, no idea of a model; `host/device` brings those.

pub mod cpu;
pub mod cuda;
