//! Tensors as files hold them, by the names of what they are in a decoder.
//!
//! A checkpoint holds no values of its own: every tensor is a range of a mapped file.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use half::{bf16, f16};
use sglhost_device::{MappedBytes, RowOrder, WeightFormat, WeightPart};

use crate::{DecoderConfig, ModelError};

/// A file, or a part of it, is not what it should be.
pub(crate) fn bad_file(path: &Path, reason: impl ToString) -> ModelError {
    ModelError::File { path: path.display().to_string(), reason: reason.to_string() }
}

/// A tensor of a file. `data` holds exactly the bytes that `shape` and `format` ask for.
#[derive(Clone, Debug)]
pub(crate) struct StoredTensor {
    pub(crate) data: MappedBytes,
    pub(crate) format: WeightFormat,
    /// Outermost dimension first: `[rows, columns]` of a matrix.
    pub(crate) shape: Vec<usize>,
}

/// Bytes of a tensor of `shape`, or none if its rows are no whole blocks or the size overflows.
pub(crate) fn tensor_bytes(format: WeightFormat, shape: &[usize]) -> Option<usize> {
    let (columns, outer) = shape.split_last()?;
    if !columns.is_multiple_of(format.block_elements()) {
        return None;
    }
    let row_bytes = (columns / format.block_elements()).checked_mul(format.block_bytes())?;
    outer.iter().try_fold(row_bytes, |bytes, length| bytes.checked_mul(*length))
}

/// A tensor's place in a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TensorRole {
    /// Token embeddings `[vocabulary, hidden]`.
    Embedding,
    /// Norm before the head `[hidden]`.
    FinalNorm,
    /// The head `[vocabulary, hidden]`; absent where it is tied to the embedding.
    Head,
    /// A tensor of one layer.
    Layer(usize, LayerTensor),
}

/// A tensor's place in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LayerTensor {
    AttentionNorm,
    Query,
    Key,
    Value,
    /// Norm of each head of Q `[head_dim]`; Qwen3's.
    QueryNorm,
    /// Norm of each head of K `[head_dim]`.
    KeyNorm,
    Output,
    MlpNorm,
    Gate,
    Up,
    Down,
}

/// How a file format names tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// llama.cpp's names.
    Gguf,
    /// The names of transformers' modules.
    HuggingFace,
}

impl Naming {
    /// The name without its ending `.weight` or `.bias`.
    fn stem(self, role: TensorRole) -> String {
        match (self, role) {
            (Self::Gguf, TensorRole::Embedding) => "token_embd".into(),
            (Self::Gguf, TensorRole::FinalNorm) => "output_norm".into(),
            (Self::Gguf, TensorRole::Head) => "output".into(),
            (Self::HuggingFace, TensorRole::Embedding) => "model.embed_tokens".into(),
            (Self::HuggingFace, TensorRole::FinalNorm) => "model.norm".into(),
            (Self::HuggingFace, TensorRole::Head) => "lm_head".into(),
            (Self::Gguf, TensorRole::Layer(layer, tensor)) => {
                let name = match tensor {
                    LayerTensor::AttentionNorm => "attn_norm",
                    LayerTensor::Query => "attn_q",
                    LayerTensor::Key => "attn_k",
                    LayerTensor::Value => "attn_v",
                    LayerTensor::QueryNorm => "attn_q_norm",
                    LayerTensor::KeyNorm => "attn_k_norm",
                    LayerTensor::Output => "attn_output",
                    LayerTensor::MlpNorm => "ffn_norm",
                    LayerTensor::Gate => "ffn_gate",
                    LayerTensor::Up => "ffn_up",
                    LayerTensor::Down => "ffn_down",
                };
                format!("blk.{layer}.{name}")
            }
            (Self::HuggingFace, TensorRole::Layer(layer, tensor)) => {
                let name = match tensor {
                    LayerTensor::AttentionNorm => "input_layernorm",
                    LayerTensor::Query => "self_attn.q_proj",
                    LayerTensor::Key => "self_attn.k_proj",
                    LayerTensor::Value => "self_attn.v_proj",
                    LayerTensor::QueryNorm => "self_attn.q_norm",
                    LayerTensor::KeyNorm => "self_attn.k_norm",
                    LayerTensor::Output => "self_attn.o_proj",
                    LayerTensor::MlpNorm => "post_attention_layernorm",
                    LayerTensor::Gate => "mlp.gate_proj",
                    LayerTensor::Up => "mlp.up_proj",
                    LayerTensor::Down => "mlp.down_proj",
                };
                format!("model.layers.{layer}.{name}")
            }
        }
    }

    fn weight(self, role: TensorRole) -> String {
        format!("{}.weight", self.stem(role))
    }

    fn bias(self, role: TensorRole) -> String {
        format!("{}.bias", self.stem(role))
    }
}

/// A model's configuration and tensors.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    /// The file or folder, for errors.
    pub(crate) path: PathBuf,
    pub(crate) config: DecoderConfig,
    pub(crate) naming: Naming,
    /// Whether the embedding is the head too.
    pub(crate) tied: bool,
    pub(crate) tensors: HashMap<String, StoredTensor>,
}

impl Checkpoint {
    /// The formats that its matrices are stored in, the one with the most bytes first: "Q4_1 and Q8_0 weights".
    pub(crate) fn weight_formats(&self) -> String {
        let mut bytes: HashMap<WeightFormat, usize> = HashMap::new();
        for tensor in self.tensors.values().filter(|tensor| tensor.shape.len() > 1) {
            *bytes.entry(tensor.format).or_default() += tensor.data.bytes().len();
        }
        let mut formats: Vec<(usize, String)> =
            bytes.into_iter().map(|(format, bytes)| (bytes, format!("{format:?}"))).collect();
        formats.sort_by(|a, b| b.cmp(a));
        let names: Vec<String> = formats.into_iter().map(|(_, name)| name).collect();
        format!("{} weights", names.join(" and "))
    }

    /// In which order the file keeps the rows of a matrix.
    fn row_order(&self, role: TensorRole) -> RowOrder {
        match (self.naming, role) {
            (Naming::Gguf, TensorRole::Layer(_, LayerTensor::Query | LayerTensor::Key))
                if self.config.family.is_interleaved_in_gguf() =>
            {
                RowOrder::RopeInterleaved { head_dim: self.config.head_dim }
            }
            _ => RowOrder::Natural,
        }
    }

    /// The matrix of `role`, which must be `[rows, columns]`.
    pub(crate) fn matrix(&self, role: TensorRole, rows: usize, columns: usize) -> Result<WeightPart, ModelError> {
        let tensor = self.tensor(&self.naming.weight(role), &[rows, columns])?;
        Ok(WeightPart { data: tensor.data.clone(), format: tensor.format, rows, columns, order: self.row_order(role) })
    }

    /// The values of a norm's weight, `[length]`.
    pub(crate) fn vector(&self, role: TensorRole, length: usize) -> Result<Vec<f32>, ModelError> {
        let name = self.naming.weight(role);
        self.floats(&name, self.tensor(&name, &[length])?)
    }

    /// The values of a bias in natural order, `[length]`; none if the file has none and the family need not have one.
    pub(crate) fn bias(&self, role: TensorRole, length: usize) -> Result<Option<Vec<f32>>, ModelError> {
        let name = self.naming.bias(role);
        let needed = matches!(role, TensorRole::Layer(_, tensor) if self.config.family.must_have_bias(tensor));
        if !needed && !self.tensors.contains_key(&name) {
            return Ok(None);
        }
        let stored = self.floats(&name, self.tensor(&name, &[length])?)?;
        let order = self.row_order(role);
        Ok(Some((0..length).map(|row| stored[order.stored_row(row)]).collect()))
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<&StoredTensor, ModelError> {
        let tensor = self.tensors.get(name).ok_or_else(|| bad_file(&self.path, format!("tensor {name} is missing")))?;
        if tensor.shape != shape {
            return Err(bad_file(
                &self.path,
                format!("tensor {name} has shape {:?}, the configuration asks for {shape:?}", tensor.shape),
            ));
        }
        Ok(tensor)
    }

    fn floats(&self, name: &str, tensor: &StoredTensor) -> Result<Vec<f32>, ModelError> {
        vector_values(tensor).ok_or_else(|| {
            bad_file(&self.path, format!("tensor {name}: a vector stored as {:?} is not supported", tensor.format))
        })
    }
}

/// The values of a tensor that is not quantized.
pub(crate) fn vector_values(tensor: &StoredTensor) -> Option<Vec<f32>> {
    let bytes = tensor.data.bytes();
    let pairs = || bytes.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
    match tensor.format {
        WeightFormat::F32 => {
            Some(bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect())
        }
        WeightFormat::F16 => Some(pairs().map(|pair| f16::from_le_bytes(pair).to_f32()).collect()),
        WeightFormat::BF16 => Some(pairs().map(|pair| bf16::from_le_bytes(pair).to_f32()).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact_or_none() {
        for (format, shape, expect) in [
            (WeightFormat::F32, &[2, 3][..], Some(24)),
            (WeightFormat::BF16, &[5], Some(10)),
            (WeightFormat::Q4_1, &[2, 64], Some(80)),
            (WeightFormat::Q8_0, &[64, 33], None),
            (WeightFormat::F32, &[], None),
            (WeightFormat::F32, &[usize::MAX, usize::MAX / 8, 4], None),
            (WeightFormat::F32, &[1 << 62], None),
        ] {
            assert_eq!(tensor_bytes(format, shape), expect, "{format:?} {shape:?}");
        }
    }

    #[test]
    fn names_of_both_worlds() {
        let query = TensorRole::Layer(7, LayerTensor::Query);
        assert_eq!(Naming::Gguf.weight(query), "blk.7.attn_q.weight");
        assert_eq!(Naming::HuggingFace.bias(query), "model.layers.7.self_attn.q_proj.bias");
    }
}
