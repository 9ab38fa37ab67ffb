//! The model against Hugging Face transformers, and against itself.
//!
//! Golden values are in `golden/`, made by `golden/make.py` with transformers in f32 on the CPU. Three models are held
//! against them: the default model's GGUF file with f32 activations, the same with quantized activations (as it is
//! served), and the same weights as an F32 Hugging Face folder, which the tests dequantize on their own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod compare;
mod compute;
mod golden;
mod greedy;
mod identity;
mod logits;
mod model;
mod quantized;
mod select;
mod serving;
mod tiny;
mod tokenizer;
mod unquantized;
