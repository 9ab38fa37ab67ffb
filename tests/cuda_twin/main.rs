//! The GPU device, held to the CPU device: on the CPU twin of a GPU (`twin.rs`), or, with `SGLHOST_GPU=real`, on the
//! machine's own.
//!
//! The twin sees what is wrong with an access or with an order: memory past an allocation's end or given back, also by a
//! recorded graph; misaligned accesses; shared memory that was not written (it is NaN); a copy that was not waited for; a
//! barrier or a warp operation that not all threads come to; memory of the host that is written while it is still to be
//! copied. A missing barrier shows in some orders of threads only, so there are several (`orders.rs`).
//!
//! It does not see speed, races between blocks, bank conflicts, or limits of registers (`kernels/cuda/build.py` sees those);
//! and it takes each instruction to do what `kernels/cuda/device.cuh` says, which `instructions.rs` proves on a GPU only.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod attention;
mod both;
mod direct;
mod engine;
mod failures;
mod faults;
mod forward;
mod instructions;
mod linear;
mod orders;
mod passes;
mod random;
mod restart;
mod rows;
mod sample;
mod twin;
