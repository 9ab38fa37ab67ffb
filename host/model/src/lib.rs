//! Model files, configurations and forward passes, written once over [`sglhost_device::Device`].
//!
//! [`open`] turns a GGUF file or a Hugging Face folder into a [`ModelRunner`], a tokenizer and the roles of its chat
//! template. The way there: a file format becomes a `Checkpoint` (configuration and tensors by name, still in the
//! mapped file), a checkpoint becomes a [`Llama`] (weights on the device), and a [`DeviceRunner`] holds that with its
//! KV memory and activations.
//!
//! *Boundary*: knows no sequence, scheduler or cache; a batch comes in, results of its sample rows go out. Reads the
//! files it is pointed at and nothing else.

mod checkpoint;
mod config;
mod device_runner;
mod gguf;
mod huggingface;
mod llama;
mod open;
mod runner;

pub use config::LlamaConfig;
pub use device_runner::DeviceRunner;
pub use llama::Llama;
pub use open::{Loaded, OpenOptions, Opened, load, open, tokenizer};
pub use runner::{ModelError, ModelInfo, ModelRunner};
pub use sglhost_device::{Batch, RowRequest, RowResult, SampleRow};
