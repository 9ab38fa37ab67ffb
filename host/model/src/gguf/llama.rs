//! What the entries of a GGUF file mean: a Llama's configuration, its tensors, its vocabulary.

use std::path::Path;

use sglhost_text::GgufVocabulary;

use super::{GgufError, GgufFile, metadata::Metadata};
use crate::{
    LlamaConfig, ModelError,
    checkpoint::{Checkpoint, Naming, bad_file},
    config::RawLlamaConfig,
};

/// Configuration and tensors of the Llama in `file`.
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

fn config(path: &Path, file: &GgufFile) -> Result<LlamaConfig, ModelError> {
    let fail = |error: GgufError| bad_file(path, error);
    let metadata = &file.metadata;
    let architecture = metadata.string("general.architecture").map_err(fail)?.unwrap_or_default();
    if architecture != "llama" {
        return Err(unsupported(path, format!("architecture {architecture:?}; \"llama\" is supported")));
    }
    let embedding_rows = file
        .tensors
        .get("token_embd.weight")
        .and_then(|tensor| tensor.shape.first().copied())
        .ok_or_else(|| bad_file(path, "tensor token_embd.weight is missing"))?;
    let raw = raw_config(metadata, embedding_rows as u64).map_err(fail)?;
    let rotated = metadata.unsigned("llama.rope.dimension_count").map_err(fail)?;
    let config = raw.check().map_err(|reason| bad_file(path, reason))?;
    if let Some(rotated) = rotated.filter(|rotated| *rotated != config.head_dim as u64) {
        let reason =
            format!("rotation of {rotated} of {} head elements; only that of all is supported", config.head_dim);
        return Err(unsupported(path, reason));
    }
    refuse_features(path, file)?;
    Ok(config)
}

fn raw_config(metadata: &Metadata, vocabulary: u64) -> Result<RawLlamaConfig, GgufError> {
    let missing = |key: &str| GgufError::Missing { key: key.into() };
    let epsilon_key = "llama.attention.layer_norm_rms_epsilon";
    Ok(RawLlamaConfig {
        layers: metadata.require_unsigned("llama.block_count")?,
        hidden: metadata.require_unsigned("llama.embedding_length")?,
        intermediate: metadata.require_unsigned("llama.feed_forward_length")?,
        heads: metadata.require_unsigned("llama.attention.head_count")?,
        kv_heads: metadata.unsigned("llama.attention.head_count_kv")?,
        head_dim: metadata.unsigned("llama.attention.key_length")?,
        vocabulary,
        context_length: metadata.require_unsigned("llama.context_length")?,
        rms_epsilon: metadata.float(epsilon_key)?.ok_or_else(|| missing(epsilon_key))?,
        // Files older than the key all have it.
        rope_theta: metadata.float("llama.rope.freq_base")?.unwrap_or(10_000.0),
    })
}

/// Features that would silently change the numbers.
fn refuse_features(path: &Path, file: &GgufFile) -> Result<(), ModelError> {
    let fail = |error: GgufError| bad_file(path, error);
    let metadata = &file.metadata;
    let scaling = metadata.string("llama.rope.scaling.type").map_err(fail)?.unwrap_or("none");
    if scaling != "none" || file.tensors.contains_key("rope_freqs.weight") {
        let name = if scaling == "none" { "of frequencies (rope_freqs.weight)" } else { scaling };
        return Err(unsupported(path, format!("rope scaling {name} is not supported yet")));
    }
    let experts = metadata.unsigned("llama.expert_count").map_err(fail)?.unwrap_or(0);
    if experts > 0 {
        return Err(unsupported(path, format!("a mixture of {experts} experts is not supported yet")));
    }
    Ok(())
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
        assert_eq!((config.rope_theta, config.rms_epsilon), (10_000.0, 1e-5));
    }

    #[test]
    fn says_what_is_not_supported() {
        let llama = || small_llama().string("general.architecture", "llama");
        let embedded = || llama().tensor("token_embd.weight", &[64, 10], 0, 2560);
        for (file, expect) in [
            (TestFile::new(), "architecture \"\""),
            (small_llama().string("general.architecture", "gemma3"), "architecture \"gemma3\"; \"llama\" is supported"),
            (small_llama().u32("general.architecture", 1), "is a whole number; a string is expected"),
            (llama(), "token_embd.weight is missing"),
            (
                TestFile::new().string("general.architecture", "llama").tensor("token_embd.weight", &[1], 0, 4),
                "llama.block_count is missing",
            ),
            (embedded().string("llama.rope.scaling.type", "yarn"), "rope scaling yarn"),
            (embedded().tensor("rope_freqs.weight", &[16], 0, 64), "rope_freqs.weight"),
            (embedded().u32("llama.rope.dimension_count", 16), "rotation of 16 of 32"),
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
