//! Hugging Face folders: `config.json` and safetensors, whole or sharded.
//!
//! *Not here*: the tokenizer's files, which `text` reads.

mod config;
mod rope;
mod shards;

use std::{fs::File, io::Read, path::Path};

use serde::de::DeserializeOwned;
use sglhost_core::limits::MODEL_JSON_BYTES_MAX;

use crate::{
    ModelError,
    checkpoint::{Checkpoint, Naming, bad_file},
};

/// What a folder holds besides weights and tokenizer.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) checkpoint: Checkpoint,
    /// Tokens that end a text, from `generation_config.json` and `config.json`.
    pub(crate) end_of_text: Vec<u32>,
}

/// Reads the model in `folder`.
pub(crate) fn open(folder: &Path) -> Result<Folder, ModelError> {
    let read = config::read(folder)?;
    let mut end_of_text = read.end_of_text;
    let tensors = shards::open(folder)?;
    // A folder whose generation_config.json is missing or says nothing has the tokens of config.json alone.
    end_of_text.extend(config::generation_end_of_text(folder)?);
    end_of_text.sort_unstable();
    end_of_text.dedup();
    let checkpoint = Checkpoint {
        path: folder.to_path_buf(),
        config: read.config,
        naming: Naming::HuggingFace,
        tied: read.tied,
        tensors,
    };
    Ok(Folder { checkpoint, end_of_text })
}

/// Parses a small JSON file.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    let file = File::open(path).map_err(|error| bad_file(path, error))?;
    let mut text = Vec::new();
    let read = file.take(MODEL_JSON_BYTES_MAX as u64 + 1).read_to_end(&mut text);
    read.map_err(|error| bad_file(path, error))?;
    if text.len() > MODEL_JSON_BYTES_MAX {
        return Err(bad_file(path, format!("is larger than {MODEL_JSON_BYTES_MAX} bytes")));
    }
    serde_json::from_slice(&text).map_err(|error| bad_file(path, error))
}
