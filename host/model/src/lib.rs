//! Model files, configurations and forward passes, written once over [`sglhost_device::Device`].
//!
//! [`open`] turns a GGUF file or a Hugging Face folder into a [`ModelRunner`], a tokenizer and the roles of its chat
//! template. The way there: a file format becomes a `Checkpoint` (configuration and tensors by name, still in the
//! mapped file), a checkpoint becomes a [`Decoder`] (weights on the device), and a [`DeviceRunner`] holds that with its
//! KV memory and activations. One decoder serves all families; see [`Family`].
//!
//! *Boundary*: knows no sequence, scheduler or cache; a batch comes in, results of its sample rows go out. Reads the
//! files it is pointed at and nothing else.

mod checkpoint;
mod config;
mod decoder;
mod device_runner;
mod family;
mod gguf;
mod huggingface;
mod open;
mod rope;
mod runner;

pub use config::{DecoderConfig, SlidingWindow, WindowLayers};
pub use decoder::Decoder;
pub use device_runner::DeviceRunner;
pub use family::Family;
pub use open::{KV_SLOTS, Loaded, MEMORY_FRACTION, OpenOptions, Opened, load, open, tokenizer};
pub use rope::{RopeConfig, RopeScaling};
pub use runner::{ModelError, ModelInfo, ModelRunner};
pub use sglhost_device::{Batch, DeviceError, RowRequest, RowResult, SampleRow};
