//! From a path to a model that runs.

use std::{path::Path, sync::Arc, time::Duration};

use sglhost_device::{DType, Device, KvLayout};
use sglhost_text::{Roles, Tokenizer};

use crate::{
    DeviceRunner, Llama, ModelError, ModelInfo, ModelRunner,
    checkpoint::{Checkpoint, bad_file},
    gguf::{self, GgufFile},
    huggingface,
};

/// How a model is served.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The name it is served under; that of its file or folder if there is none.
    pub name: Option<String>,
    /// Tokens that its KV memory holds, at least 1.
    pub kv_slots: usize,
    /// Element type of the KV memory.
    pub kv_dtype: DType,
    /// A chat template (Jinja) in place of the one in the model's files.
    pub chat_template: Option<String>,
    /// Time since the Unix epoch, for a template that prints the date.
    pub now: Option<Duration>,
}

impl Default for OpenOptions {
    /// KV memory for 8,192 tokens in F16: 188 MB for the default model.
    fn default() -> Self {
        Self { name: None, kv_slots: 8192, kv_dtype: DType::F16, chat_template: None, now: None }
    }
}

/// A model ready for an engine.
pub struct Opened {
    /// The model on its device.
    pub runner: Box<dyn ModelRunner>,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// How its chat template writes roles; no roles if it has none.
    pub roles: Roles,
}

/// As [`Opened`], with the device's type known.
pub struct Loaded<D: Device> {
    /// The model on its device.
    pub runner: DeviceRunner<D>,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// How its chat template writes roles; no roles if it has none.
    pub roles: Roles,
}

/// Opens the GGUF file or Hugging Face folder at `path` on `device`.
///
/// # Errors
/// A path that is missing or neither of the two, a file that contradicts itself, an architecture or feature that is not
/// supported, a chat template that cannot be turned into roles, or a device without enough memory. The message names
/// the file and what is wrong.
pub fn open<D: Device>(path: &Path, device: D, options: &OpenOptions) -> Result<Opened, ModelError> {
    let Loaded { runner, tokenizer, roles } = load(path, device, options)?;
    Ok(Opened { runner: Box::new(runner), tokenizer, roles })
}

/// As [`open`], for callers who want the runner of their own device.
///
/// # Errors
/// As [`open`].
pub fn load<D: Device>(path: &Path, mut device: D, options: &OpenOptions) -> Result<Loaded<D>, ModelError> {
    if options.kv_slots == 0 {
        return Err(ModelError::Unsupported("a model needs KV memory for at least one token".into()));
    }
    let files = read(path)?;
    let checkpoint = &files.checkpoint;
    if files.tokenizer.vocabulary() > checkpoint.config.vocabulary {
        let (tokens, rows) = (files.tokenizer.vocabulary(), checkpoint.config.vocabulary);
        return Err(bad_file(path, format!("its tokenizer has {tokens} tokens, its embedding only {rows} rows")));
    }
    let roles = match (options.chat_template.as_deref().or(files.tokenizer.chat_template()), options.now) {
        (Some(template), Some(now)) => Roles::from_template_at(template, &files.tokenizer, now)?,
        (Some(template), None) => Roles::from_template(template, &files.tokenizer)?,
        (None, _) => Roles::plain(),
    };
    let model = Llama::load(&mut device, checkpoint)?;
    let info = info(path, &files, &device, options);
    let runner = DeviceRunner::new(info, device, model, options.kv_slots)?;
    Ok(Loaded { runner, tokenizer: Arc::new(files.tokenizer), roles })
}

/// The tokenizer of the model at `path`, without its weights.
///
/// # Errors
/// As [`open`], as far as the tokenizer's files go.
pub fn tokenizer(path: &Path) -> Result<Tokenizer, ModelError> {
    if is_folder(path)? {
        return Ok(Tokenizer::from_hugging_face(path)?);
    }
    gguf_tokenizer(path, &GgufFile::open(path)?)
}

/// What both kinds of model files come to.
struct ModelFiles {
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
    end_of_text: Vec<u32>,
}

fn read(path: &Path) -> Result<ModelFiles, ModelError> {
    if is_folder(path)? {
        let folder = huggingface::open(path)?;
        let tokenizer = Tokenizer::from_hugging_face(path)?;
        let mut end_of_text = folder.end_of_text;
        end_of_text.extend_from_slice(tokenizer.end_of_text());
        return Ok(ModelFiles { checkpoint: folder.checkpoint, tokenizer, end_of_text });
    }
    let mut file = GgufFile::open(path)?;
    let checkpoint = gguf::checkpoint(path, &mut file)?;
    let tokenizer = gguf_tokenizer(path, &file)?;
    let end_of_text = tokenizer.end_of_text().to_vec();
    Ok(ModelFiles { checkpoint, tokenizer, end_of_text })
}

fn is_folder(path: &Path) -> Result<bool, ModelError> {
    std::fs::metadata(path).map(|metadata| metadata.is_dir()).map_err(|error| bad_file(path, error))
}

fn gguf_tokenizer(path: &Path, file: &GgufFile) -> Result<Tokenizer, ModelError> {
    let vocabulary = gguf::vocabulary(path, &file.metadata)?;
    Tokenizer::from_gguf(vocabulary).map_err(|error| bad_file(path, error))
}

fn info(path: &Path, files: &ModelFiles, device: &impl Device, options: &OpenOptions) -> ModelInfo {
    let config = &files.checkpoint.config;
    let file_name =
        || path.file_stem().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into());
    let mut end_of_text = files.end_of_text.clone();
    end_of_text.retain(|token| (*token as usize) < config.vocabulary);
    end_of_text.sort_unstable();
    end_of_text.dedup();
    ModelInfo {
        name: options.name.clone().unwrap_or_else(file_name),
        architecture: "llama".into(),
        vocabulary: config.vocabulary,
        context_length: config.context_length,
        end_of_text,
        kv: KvLayout {
            layers: config.layers,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            dtype: options.kv_dtype,
            page_tokens: 1,
        },
        description: format!("{}, {}", device.description(), files.checkpoint.weight_formats()),
    }
}
