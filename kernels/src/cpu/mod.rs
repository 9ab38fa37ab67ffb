//! Routines for the CPU, written once over sixteen logical lanes and compiled for each instruction set.
//!
//! Every routine takes an [`Isa`], a proof that the machine has those instructions, and does the same operations in the
//! same order on each of them. What differs: the portable set rounds twice where the others fuse multiply and add.
//!
//! *Invariant*: a row's result depends on that row alone. The kernels for one row and for many differ in how many rows
//! share a loaded weight, never in the order in which a row's terms are added.
//!
//! | module | operation |
//! | --- | --- |
//! | [`pack`] | quantized weights repacked into 16-row panels; rows read back |
//! | [`quantize`] | activations to int8, blocks of 32 |
//! | [`dot_panel`] | panels × int8 activations |
//! | [`exact_panel`] | panels × f32 activations |
//! | [`dot_rows`] | float weights, row-major × f32 activations |
//! | [`attention`] | scores, softmax and weighted values of one block of context |
//! | [`norm`], [`rope`], [`activation`] | the small operations between |
//! | [`reduce`] | maxima and log-sum-exp of a row of logits |

#![allow(unsafe_code, reason = "SIMD intrinsics and disjoint writes by several threads; each use states why it holds")]
#![allow(clippy::needless_range_loop, reason = "loops over constant counts of registers read best by index")]
#![allow(clippy::too_many_arguments, reason = "the token that names the instruction set is one of them")]

#[macro_use]
mod dispatch;

pub mod activation;
pub mod aligned;
pub mod attention;
pub mod dot_panel;
pub mod dot_rows;
pub mod exact_panel;
pub mod exp;
mod isa;
mod lanes;
#[cfg(target_arch = "x86_64")]
mod lanes_avx2;
#[cfg(target_arch = "x86_64")]
mod lanes_avx512;
pub mod norm;
pub mod pack;
pub mod quantize;
pub mod reduce;
pub mod rope;
mod shared;
#[cfg(test)]
mod testing;

pub use aligned::AlignedVec;
pub use isa::Isa;
pub use shared::SharedMut;
