//! What the entries of a GGUF file mean: a decoder's configuration, its tensors, its vocabulary.

use std::path::Path;

use sglhost_device::WeightFormat;
use sglhost_text::GgufVocabulary;

use super::{GgufError, GgufFile, metadata::Metadata};
use crate::{
    DecoderConfig, Family, ModelError, RopeConfig, RopeScaling, WindowLayers,
    checkpoint::{Checkpoint, Naming, StoredTensor, bad_file, vector_values},
    config::RawConfig,
    rope::yarn_attention_factor,
};

/// Divisors of the rotation's frequencies: how Llama 3's scaling comes.
const ROPE_DIVISORS: &str = "rope_freqs.weight";

/// Configuration and tensors of the model in `file`.
pub(crate) fn checkpoint(path: &Path, file: &mut GgufFile) -> Result<Checkpoint, ModelError> {
    let config = config(path, file)?;
    Ok(Checkpoint {
        path: path.to_path_buf(),
        config,
        naming: Naming::Gguf,
        // llama.cpp writes no head where it is tied.
        tied: !file.tensors.contains_key("output.weight"),
        tensors: std::mem::take(&mut file.tensors),
    })
}

fn config(path: &Path, file: &GgufFile) -> Result<DecoderConfig, ModelError> {
    let fail = |error: GgufError| bad_file(path, error);
    let architecture = file.metadata.string("general.architecture").map_err(fail)?.unwrap_or_default();
    let family = Family::of_gguf(architecture).map_err(|reason| unsupported(path, reason))?;
    let embedding_rows = file
        .tensors
        .get("token_embd.weight")
        .and_then(|tensor| tensor.shape.first().copied())
        .ok_or_else(|| bad_file(path, "tensor token_embd.weight is missing"))?;
    let keys = Keys { metadata: &file.metadata, architecture };
    let mut raw = keys.raw_config(family, embedding_rows as u64).map_err(fail)?;
    raw.rope.scaling = keys.rope_scaling(raw.context_length).map_err(fail)?.map_err(|kind| {
        unsupported(path, format!("rope scaling {kind}; linear, yarn and {ROPE_DIVISORS} are supported"))
    })?;
    if let Some(tensor) = file.tensors.get(ROPE_DIVISORS) {
        raw.rope.divisors = divisors(tensor).map_err(|reason| bad_file(path, reason))?;
    }
    let config = raw.check().map_err(|reason| bad_file(path, reason))?;
    keys.refuse_features(&config).map_err(fail)?.map_err(|reason| unsupported(path, reason))?;
    Ok(config)
}

/// The values of [`ROPE_DIVISORS`].
fn divisors(tensor: &StoredTensor) -> Result<Vec<f32>, String> {
    let values = match tensor.format {
        WeightFormat::F32 if tensor.shape.len() == 1 => vector_values(tensor).unwrap_or_default(),
        other => return Err(format!("tensor {ROPE_DIVISORS} has shape {:?} of {other:?}", tensor.shape)),
    };
    match values.iter().find(|value| !(value.is_finite() && **value > 0.0)) {
        Some(value) => Err(format!("tensor {ROPE_DIVISORS} holds {value}; positive numbers are expected")),
        None => Ok(values),
    }
}

/// The entries of one architecture, whose name begins their keys.
struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn unsigned(&self, name: &str) -> Result<Option<u64>, GgufError> {
        self.metadata.unsigned(&self.key(name))
    }

    fn require_unsigned(&self, name: &str) -> Result<u64, GgufError> {
        self.metadata.require_unsigned(&self.key(name))
    }

    fn float(&self, name: &str) -> Result<Option<f64>, GgufError> {
        self.metadata.float(&self.key(name))
    }

    fn raw_config(&self, family: Family, vocabulary: u64) -> Result<RawConfig, GgufError> {
        let epsilon = "attention.layer_norm_rms_epsilon";
        let missing = || GgufError::Missing { key: self.key(epsilon) };
        Ok(RawConfig {
            family,
            layers: self.require_unsigned("block_count")?,
            hidden: self.require_unsigned("embedding_length")?,
            intermediate: self.require_unsigned("feed_forward_length")?,
            heads: self.require_unsigned("attention.head_count")?,
            kv_heads: self.unsigned("attention.head_count_kv")?,
            head_dim: self.unsigned("attention.key_length")?,
            vocabulary,
            context_length: self.require_unsigned("context_length")?,
            rms_epsilon: self.float(epsilon)?.ok_or_else(missing)?,
            rope: RopeConfig {
                // Files older than the key all have it.
                theta: self.float("rope.freq_base")?.unwrap_or(10_000.0),
                scaling: RopeScaling::None,
                divisors: Vec::new(),
            },
            // 0 stands for none.
            window: self.unsigned("attention.sliding_window")?.filter(|w| *w > 0).map(|w| (w, WindowLayers::All)),
        })
    }

    /// The scaling, or the name of one that is not known. As in llama.cpp, a factor without a type is a linear one.
    fn rope_scaling(&self, context_length: u64) -> Result<Result<RopeScaling, String>, GgufError> {
        let kind = self.metadata.string(&self.key("rope.scaling.type"))?;
        let factor = match self.float("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            None => self.float("rope.scale_linear")?,
        }
        // llama.cpp reads 0 as none.
        .filter(|factor| *factor != 0.0);
        Ok(Ok(match (kind.unwrap_or("linear"), factor) {
            ("none", _) | ("linear", None) => RopeScaling::None,
            ("linear", Some(factor)) => RopeScaling::Linear { factor },
            ("yarn", Some(factor)) => RopeScaling::Yarn {
                factor,
                original_context: self.float("rope.scaling.original_context_length")?.unwrap_or(context_length as f64),
                beta_fast: self.float("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: self.float("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                // llama.cpp's is a factor on top of the formula's.
                attention_factor: self
                    .float("rope.scaling.attn_factor")?
                    .map(|more| more * yarn_attention_factor(factor, 1.0)),
                truncate: true,
            },
            ("yarn", None) => return Err(GgufError::Missing { key: self.key("rope.scaling.factor") }),
            (other, _) => return Ok(Err(other.to_owned())),
        }))
    }

    /// Features that would silently change the numbers; the inner error names one.
    fn refuse_features(&self, config: &DecoderConfig) -> Result<Result<(), String>, GgufError> {
        let head_dim = config.head_dim as u64;
        for (name, what) in [("rope.dimension_count", "rotation"), ("attention.value_length", "values")] {
            if let Some(other) = self.unsigned(name)?.filter(|other| *other != head_dim) {
                return Ok(Err(format!("{what} of {other} of {head_dim} head elements; only all are supported")));
            }
        }
        for (name, usual) in [("ext_factor", 1.0), ("attn_factor", 1.0), ("log_multiplier", 0.0)] {
            let name = format!("rope.scaling.yarn_{name}");
            if let Some(other) = self.float(&name)?.filter(|value| *value != usual) {
                return Ok(Err(format!("{name} of {other}; only {usual} is supported")));
            }
        }
        let experts = self.unsigned("expert_count")?.unwrap_or(0);
        if experts > 0 {
            return Ok(Err(format!("a mixture of {experts} experts is not supported yet")));
        }
        if config.window.is_some() && self.metadata.contains(&self.key("attention.sliding_window_pattern")) {
            return Ok(Err("a sliding window in some layers only is not supported in GGUF files".into()));
        }
        Ok(Ok(()))
    }
}

/// What the tokenizer is made of.
pub(crate) fn vocabulary(path: &Path, metadata: &Metadata) -> Result<GgufVocabulary, ModelError> {
    raw_vocabulary(metadata).map_err(|error| bad_file(path, error))
}

fn raw_vocabulary(metadata: &Metadata) -> Result<GgufVocabulary, GgufError> {
    let token = |name: &str| -> Result<Option<u32>, GgufError> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let Some(id) = metadata.unsigned(&key)? else { return Ok(None) };
        let wrong = GgufError::Type { key, found: "a number of more than 32 bits", expected: "a token" };
        u32::try_from(id).map(Some).map_err(|_| wrong)
    };
    let text = |key: &str| Ok::<_, GgufError>(metadata.string(key)?.map(str::to_owned));
    let texts = |key: &str| Ok::<_, GgufError>(metadata.strings(key)?.unwrap_or_default().to_vec());
    let types = metadata.integers("tokenizer.ggml.token_type")?.unwrap_or_default();
    Ok(GgufVocabulary {
        model: text("tokenizer.ggml.model")?
            .ok_or_else(|| GgufError::Missing { key: "tokenizer.ggml.model".into() })?,
        pre: text("tokenizer.ggml.pre")?,
        tokens: texts("tokenizer.ggml.tokens")?,
        // A type that fits no i32 is as unknown as any other number.
        token_types: types.iter().map(|kind| i32::try_from(*kind).unwrap_or(0)).collect(),
        merges: texts("tokenizer.ggml.merges")?,
        scores: metadata.floats("tokenizer.ggml.scores")?.unwrap_or_default().to_vec(),
        bos: token("bos")?,
        eos: token("eos")?,
        eot: token("eot")?,
        eom: token("eom")?,
        unknown: token("unknown")?,
        padding: token("padding")?,
        add_bos: metadata.boolean("tokenizer.ggml.add_bos_token")?,
        add_space_prefix: metadata.boolean("tokenizer.ggml.add_space_prefix")?,
        chat_template: text("tokenizer.chat_template")?,
    })
}

fn unsupported(path: &Path, what: impl std::fmt::Display) -> ModelError {
    ModelError::Unsupported(format!("{}: {what}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::{super::test_file::TestFile, *};

    fn small_llama() -> TestFile {
        TestFile::new()
            .u32("llama.block_count", 1)
            .u32("llama.embedding_length", 64)
            .u32("llama.feed_forward_length", 96)
            .u32("llama.attention.head_count", 2)
            .u32("llama.context_length", 128)
            .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    }

    fn open(file: TestFile) -> Result<Checkpoint, ModelError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.gguf");
        std::fs::write(&path, file.bytes()).unwrap();
        checkpoint(&path, &mut GgufFile::open(&path)?)
    }

    #[test]
    fn reads_a_configuration() {
        let file =
            small_llama().string("general.architecture", "llama").tensor("token_embd.weight", &[64, 10], 0, 2560);
        let config = open(file).unwrap().config;
        assert_eq!((config.vocabulary, config.hidden, config.kv_heads, config.head_dim), (10, 64, 2, 32));
        assert_eq!((config.rope.theta, config.rms_epsilon), (10_000.0, 1e-5));
        assert_eq!((config.rope.scaling, config.window), (RopeScaling::None, None));
    }

    #[test]
    fn reads_scaling_and_window() {
        let file =
            || small_llama().string("general.architecture", "llama").tensor("token_embd.weight", &[64, 10], 0, 2560);
        let linear = file().f32("llama.rope.scaling.factor", 4.0).u32("llama.attention.sliding_window", 9);
        let config = open(linear).unwrap().config;
        assert_eq!(config.rope.scaling, RopeScaling::Linear { factor: 4.0 });
        assert_eq!(config.attention_shape(0).window, Some(9));
        let yarn = file().string("llama.rope.scaling.type", "yarn").f32("llama.rope.scaling.factor", 4.0);
        let yarn = yarn.u32("llama.rope.scaling.original_context_length", 100);
        let config = open(yarn).unwrap().config;
        assert_eq!(config.context_length, 400);
        assert!(matches!(config.rope.scaling, RopeScaling::Yarn { original_context: 100.0, .. }));
    }

    #[test]
    fn says_what_is_not_supported() {
        let llama = || small_llama().string("general.architecture", "llama");
        let embedded = || llama().tensor("token_embd.weight", &[64, 10], 0, 2560);
        for (file, expect) in [
            (TestFile::new(), "architecture \"\""),
            (
                small_llama().string("general.architecture", "gemma3"),
                "\"gemma3\"; llama, qwen2 and qwen3 are supported",
            ),
            (small_llama().u32("general.architecture", 1), "is a whole number; a string is expected"),
            (llama(), "token_embd.weight is missing"),
            (
                TestFile::new().string("general.architecture", "llama").tensor("token_embd.weight", &[1], 0, 4),
                "llama.block_count is missing",
            ),
            (embedded().string("llama.rope.scaling.type", "longrope"), "rope scaling longrope; linear, yarn"),
            (embedded().string("llama.rope.scaling.type", "yarn"), "llama.rope.scaling.factor is missing"),
            (embedded().f32("llama.rope.scaling.factor", 0.5), "factor 0.5"),
            (embedded().tensor("rope_freqs.weight", &[16], 0, 64), "rope_freqs.weight holds 0;"),
            (embedded().tensor("rope_freqs.weight", &[16], 1, 32), "rope_freqs.weight has shape [16] of F16"),
            (embedded().f32("llama.rope.scaling.yarn_ext_factor", 0.5), "yarn_ext_factor of 0.5; only 1"),
            (embedded().u32("llama.rope.dimension_count", 16), "rotation of 16 of 32"),
            (embedded().u32("llama.attention.value_length", 16), "values of 16 of 32"),
            (
                embedded().u32("llama.attention.sliding_window", 8).value(
                    "llama.attention.sliding_window_pattern",
                    7,
                    &[1],
                ),
                "in some layers only",
            ),
            (embedded().u32("llama.expert_count", 8), "a mixture of 8 experts"),
            (embedded().u32("llama.attention.head_count_kv", 0), "KV heads: 0"),
        ] {
            let message = open(file).unwrap_err().to_string();
            assert!(message.contains(expect) && message.contains("test.gguf"), "{message}");
        }
    }

    #[test]
    fn reads_a_vocabulary() {
        let file = TestFile::new()
            .string("tokenizer.ggml.model", "gpt2")
            .string_array("tokenizer.ggml.tokens", 2, &["a", "b"])
            .u32("tokenizer.ggml.eos_token_id", 1);
        let (metadata, _) = super::super::parse(&file.bytes()).unwrap();
        let read = raw_vocabulary(&metadata).unwrap();
        assert_eq!((read.tokens, read.eos, read.bos), (vec!["a".into(), "b".into()], Some(1), None));
        let (empty, _) = super::super::parse(&TestFile::new().bytes()).unwrap();
        assert_eq!(raw_vocabulary(&empty).unwrap_err().to_string(), "metadata tokenizer.ggml.model is missing");
    }
}
