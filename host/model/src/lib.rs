//! Model files, configurations and forward passes, written once over [`sglhost_device::Device`].
//!
//! *Boundary*: knows no sequence, scheduler or cache; a batch comes in, results of its sample rows go out.

mod runner;

pub use runner::{ModelError, ModelInfo, ModelRunner};
pub use sglhost_device::{Batch, RowRequest, RowResult, SampleRow};
