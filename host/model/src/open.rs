//! From a path to a model that runs.

use std::{path::Path, sync::Arc, time::Duration};

use sglhost_device::{DType, Device, DeviceError, KvLayout, MemoryInfo};
use sglhost_text::{Roles, Tokenizer};

use crate::{
    Decoder, DeviceRunner, ModelError, ModelInfo, ModelRunner,
    checkpoint::{Checkpoint, bad_file},
    gguf::{self, GgufFile},
    huggingface,
};

/// How a model is served.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The name it is served under; that of its file or folder if there is none.
    pub name: Option<String>,
    /// Tokens that its KV memory holds, at least 1. If there is none: what fits into `memory_fraction` of a device with
    /// memory of its own, [`KV_SLOTS`] on any other.
    pub kv_slots: Option<usize>,
    /// How much of a device's own memory everything may take but the activations: weights and KV memory of this model,
    /// and whatever else is there.
    pub memory_fraction: f64,
    /// Element type of the KV memory; the device's own choice if there is none.
    pub kv_dtype: Option<DType>,
    /// Tokens of a page of it, at least 1: see [`KvLayout::page_tokens`].
    pub kv_page_tokens: usize,
    /// A chat template (Jinja) in place of the one in the model's files.
    pub chat_template: Option<String>,
    /// Time since the Unix epoch, for a template that prints the date.
    pub now: Option<Duration>,
}

/// Tokens of KV memory on a device that shares the machine's: 188 MB for the default model.
pub const KV_SLOTS: usize = 8192;

/// As SGLang's for one GPU: what is left is for activations of the largest batch.
pub const MEMORY_FRACTION: f64 = 0.88;

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            name: None,
            kv_slots: None,
            memory_fraction: MEMORY_FRACTION,
            kv_dtype: None,
            kv_page_tokens: 1,
            chat_template: None,
            now: None,
        }
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
    if options.kv_slots == Some(0) {
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
    let memory = device.memory()?;
    let model = Decoder::load(&mut device, checkpoint).map_err(|error| no_room(memory, error))?;
    let info = info(path, &files, &device, options);
    let kv_slots = match options.kv_slots {
        Some(slots) => slots,
        None => fitting_slots(&device, &info.kv, options.memory_fraction)?,
    };
    let runner = DeviceRunner::new(info, device, model, kv_slots).map_err(|error| no_room(memory, error))?;
    Ok(Loaded { runner, tokenizer: Arc::new(files.tokenizer), roles })
}

/// How many slots fit, now that the weights are loaded.
fn fitting_slots(device: &impl Device, layout: &KvLayout, fraction: f64) -> Result<usize, ModelError> {
    let Some(MemoryInfo { total_bytes, free_bytes }) = device.memory()? else { return Ok(KV_SLOTS) };
    let taken = total_bytes - free_bytes;
    let slots = ((total_bytes as f64 * fraction) as usize).saturating_sub(taken) / layout.slot_bytes();
    if slots < layout.page_tokens {
        return Err(ModelError::NoRoom(format!(
            "the device has no room for KV memory: {} of its {} MB are taken with the weights, and a fraction of {fraction} \
             may be taken in all (memory_fraction)",
            megabytes(taken),
            megabytes(total_bytes)
        )));
    }
    Ok(slots)
}

/// An error of loading, with how much memory there was.
fn no_room(memory: Option<MemoryInfo>, error: ModelError) -> ModelError {
    match (memory, error) {
        (Some(MemoryInfo { total_bytes, free_bytes }), ModelError::Device(error @ DeviceError::OutOfMemory { .. })) => {
            let (free, total) = (megabytes(free_bytes), megabytes(total_bytes));
            ModelError::NoRoom(format!("{error}: {free} of its {total} MB were free before the model was loaded"))
        }
        (_, error) => error,
    }
}

fn megabytes(bytes: usize) -> usize {
    bytes / 1_000_000
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
        architecture: config.family.name().into(),
        vocabulary: config.vocabulary,
        context_length: config.context_length,
        end_of_text,
        kv: KvLayout {
            layers: config.layers,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            dtype: options.kv_dtype.unwrap_or(device.kv_dtype()),
            page_tokens: options.kv_page_tokens,
        },
        description: format!("{}, {}", device.description(), files.checkpoint.weight_formats()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::path::PathBuf;

    use sglhost_device::{Batch, CpuConfig, CpuDevice};

    use super::*;
    use crate::gguf::test_file::TestFile;

    const F32: u32 = 0;

    /// Everything of a Llama of one layer but the tensor `without`: hidden and head 32, three tokens.
    fn tiny(tokens: &[&str], without: &str) -> TestFile {
        let mut file = TestFile::new()
            .string("general.architecture", "llama")
            .u32("llama.block_count", 1)
            .u32("llama.embedding_length", 32)
            .u32("llama.feed_forward_length", 64)
            .u32("llama.attention.head_count", 1)
            .u32("llama.context_length", 128)
            .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
            .string("tokenizer.ggml.model", "gpt2")
            .string("tokenizer.ggml.pre", "smollm")
            .string_array("tokenizer.ggml.tokens", tokens.len() as u64, tokens)
            .string_array("tokenizer.ggml.merges", 0, &[]);
        let matrices = [
            ("token_embd", [32, 3]),
            ("blk.0.attn_q", [32, 32]),
            ("blk.0.attn_k", [32, 32]),
            ("blk.0.attn_v", [32, 32]),
            ("blk.0.attn_output", [32, 32]),
            ("blk.0.ffn_gate", [32, 64]),
            ("blk.0.ffn_up", [32, 64]),
            ("blk.0.ffn_down", [64, 32]),
        ];
        for (name, [columns, rows]) in matrices.into_iter().filter(|(name, _)| *name != without) {
            file = file.tensor(&format!("{name}.weight"), &[columns, rows], F32, (columns * rows * 4) as usize);
        }
        for name in ["blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"] {
            file = file.tensor(&format!("{name}.weight"), &[32], F32, 128);
        }
        file
    }

    fn load_bytes(bytes: &[u8], options: &OpenOptions) -> Result<Loaded<CpuDevice>, ModelError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        std::fs::write(&path, bytes).unwrap();
        load_path(&path, options)
    }

    fn load_path(path: &Path, options: &OpenOptions) -> Result<Loaded<CpuDevice>, ModelError> {
        load(path, CpuDevice::new(CpuConfig { threads: 1, ..CpuConfig::default() }), options)
    }

    fn check(result: Result<Loaded<CpuDevice>, ModelError>, expect: &str) {
        let message = result.map(|_| ()).unwrap_err().to_string();
        assert!(message.contains(expect), "{message:?} does not say {expect:?}");
    }

    #[test]
    fn a_whole_file_runs() {
        let options = OpenOptions { kv_slots: Some(4), kv_page_tokens: 2, ..OpenOptions::default() };
        let mut loaded = load_bytes(&tiny(&["a", "b", "c"], "").bytes(), &options).unwrap();
        let info = loaded.runner.info();
        assert_eq!(info.kv.page_tokens, 2);
        assert_eq!((info.name.as_str(), info.vocabulary, info.context_length), ("tiny", 3, 128));
        assert_eq!(loaded.runner.kv_slots(), 4);
        let mut batch = Batch::default();
        batch.push_sequence(&[0, 2], 0..2, &[3, 1]);
        batch.sample_rows = vec![1];
        loaded.runner.forward(&batch).unwrap();
        assert_eq!(loaded.runner.read_logits().unwrap(), [0.0; 3]);
    }

    #[test]
    fn a_batch_without_sample_rows_or_tokens_is_fine() {
        let options = OpenOptions { kv_slots: Some(4), ..OpenOptions::default() };
        let mut loaded = load_bytes(&tiny(&["a", "b", "c"], "").bytes(), &options).unwrap();
        let mut batch = Batch::default();
        loaded.runner.forward(&batch).unwrap();
        batch.push_sequence(&[0, 2], 0..2, &[3, 1]);
        loaded.runner.forward(&batch).unwrap();
        assert!(loaded.runner.read_logits().unwrap().is_empty());
    }

    #[test]
    #[should_panic(expected = "a slot outside the KV memory")]
    fn a_slot_that_is_not_there_is_a_bug() {
        let options = OpenOptions { kv_slots: Some(4), ..OpenOptions::default() };
        let mut loaded = load_bytes(&tiny(&["a", "b", "c"], "").bytes(), &options).unwrap();
        let mut batch = Batch::default();
        batch.push_sequence(&[0], 0..1, &[4]);
        loaded.runner.forward(&batch).unwrap();
    }

    #[test]
    fn a_context_slot_that_is_not_there_is_refused_by_the_device() {
        let options = OpenOptions { kv_slots: Some(4), ..OpenOptions::default() };
        let mut loaded = load_bytes(&tiny(&["a", "b", "c"], "").bytes(), &options).unwrap();
        let mut batch = Batch::default();
        batch.push_sequence(&[0], 1..2, &[4, 3]);
        assert_eq!(loaded.runner.forward(&batch).unwrap_err().to_string(), "shape: slot 4 of 4");
    }

    #[test]
    fn says_what_is_wrong() {
        let options = OpenOptions::default();
        check(load_path(&PathBuf::from("/nowhere/model.gguf"), &options), "/nowhere/model.gguf: No such file");
        check(load_path(tempfile::tempdir().unwrap().path(), &options), "config.json: No such file");
        check(load_bytes(b"# A readme", &options), "tiny.gguf: is not a GGUF file");
        let file = || tiny(&["a", "b", "c"], "blk.0.ffn_up");
        check(load_bytes(&file().bytes(), &options), "tensor blk.0.ffn_up.weight is missing");
        let transposed = file().tensor("blk.0.ffn_up.weight", &[64, 32], F32, 8192).bytes();
        check(
            load_bytes(&transposed, &options),
            "ffn_up.weight has shape [32, 64], the configuration asks for [64, 32]",
        );
        let many = tiny(&["a", "b", "c", "d"], "").bytes();
        check(load_bytes(&many, &options), "its tokenizer has 4 tokens, its embedding only 3 rows");
        let whole = tiny(&["a", "b", "c"], "").bytes();
        check(load_bytes(&whole, &OpenOptions { kv_slots: Some(0), ..options.clone() }), "at least one token");
        let template = OpenOptions { chat_template: Some("{% if %}".into()), ..options };
        check(load_bytes(&whole, &template), "chat template");
    }
}
