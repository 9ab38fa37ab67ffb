//! From a checkpoint to weights on a device.

use sglhost_device::{Device, DeviceError, Precision, WeightPart};

use super::{Decoder, HeadNorms, Layer, Linear};
use crate::{
    ModelError,
    checkpoint::{Checkpoint, LayerTensor, TensorRole, bad_file},
};

impl<D: Device> Decoder<D> {
    /// Loads all weights of `checkpoint`.
    pub(crate) fn load(device: &mut D, checkpoint: &Checkpoint) -> Result<Self, ModelError> {
        let config = checkpoint.config.clone();
        let mut loader = Loader { device, checkpoint };
        let embedding = loader.matrix(TensorRole::Embedding, config.vocabulary, config.hidden)?;
        let head = match checkpoint.tied {
            true => None,
            false => Some(loader.matrix(TensorRole::Head, config.vocabulary, config.hidden)?),
        };
        let layers = (0..config.layers).map(|layer| loader.layer(layer)).collect::<Result<_, _>>()?;
        Ok(Self {
            embedding,
            layers,
            norm: loader.vector(TensorRole::FinalNorm, config.hidden)?,
            head,
            inverse_frequencies: loader.upload(&config.rope.inverse_frequencies(config.head_dim), Precision::Full)?,
            config,
        })
    }
}

struct Loader<'a, D: Device> {
    device: &'a mut D,
    checkpoint: &'a Checkpoint,
}

impl<D: Device> Loader<'_, D> {
    fn layer(&mut self, layer: usize) -> Result<Layer<D>, ModelError> {
        use LayerTensor::{AttentionNorm, Down, Gate, Key, KeyNorm, MlpNorm, Output, Query, QueryNorm, Up, Value};
        let config = &self.checkpoint.config;
        let (hidden, query, kv) = (config.hidden, config.query_width(), config.kv_width());
        let role = |tensor| TensorRole::Layer(layer, tensor);
        let head_norms = match config.family.has_head_norms() {
            true => Some(HeadNorms {
                query: self.vector(role(QueryNorm), config.head_dim)?,
                key: self.vector(role(KeyNorm), config.head_dim)?,
            }),
            false => None,
        };
        Ok(Layer {
            attention_norm: self.vector(role(AttentionNorm), hidden)?,
            qkv: self.linear(&[(role(Query), query), (role(Key), kv), (role(Value), kv)], hidden)?,
            head_norms,
            output: self.linear(&[(role(Output), hidden)], query)?,
            mlp_norm: self.vector(role(MlpNorm), hidden)?,
            gate_up: self.linear(&[(role(Gate), config.intermediate), (role(Up), config.intermediate)], hidden)?,
            down: self.linear(&[(role(Down), hidden)], config.intermediate)?,
        })
    }

    fn matrix(&mut self, role: TensorRole, rows: usize, columns: usize) -> Result<D::Weight, ModelError> {
        let part = self.checkpoint.matrix(role, rows, columns)?;
        self.weight(&[part], role)
    }

    /// Several matrices of `columns` columns, each with its rows, as one; with their biases if they have any.
    fn linear(&mut self, parts: &[(TensorRole, usize)], columns: usize) -> Result<Linear<D>, ModelError> {
        let matrices = parts
            .iter()
            .map(|(role, rows)| self.checkpoint.matrix(*role, *rows, columns))
            .collect::<Result<Vec<_>, _>>()?;
        let weight = self.weight(&matrices, parts[0].0)?;
        let biases =
            parts.iter().map(|(role, rows)| self.checkpoint.bias(*role, *rows)).collect::<Result<Vec<_>, _>>()?;
        if biases.iter().all(Option::is_none) {
            return Ok(Linear { weight, bias: None });
        }
        // Some checkpoints give a bias to a part of the fused rows only; the others add nothing.
        let whole: Vec<f32> = biases
            .into_iter()
            .zip(parts)
            .flat_map(|(bias, (_, rows))| bias.unwrap_or_else(|| vec![0.0; *rows]))
            .collect();
        Ok(Linear { weight, bias: Some(self.upload(&whole, Precision::Activation)?) })
    }

    fn weight(&mut self, parts: &[WeightPart], role: TensorRole) -> Result<D::Weight, ModelError> {
        let fail = |error| match error {
            // The file has no part in these.
            DeviceError::OutOfMemory { .. } | DeviceError::Driver { .. } | DeviceError::Lost { .. } => error.into(),
            _ => bad_file(&self.checkpoint.path, format!("cannot load {role:?}: {error}")),
        };
        self.device.load_weight(parts).map_err(fail)
    }

    fn vector(&mut self, role: TensorRole, length: usize) -> Result<D::Buffer, ModelError> {
        let values = self.checkpoint.vector(role, length)?;
        self.upload(&values, Precision::Full)
    }

    fn upload(&mut self, values: &[f32], precision: Precision) -> Result<D::Buffer, ModelError> {
        let mut buffer = self.device.allocate(values.len(), precision)?;
        self.device.write_f32(&mut buffer, values)?;
        Ok(buffer)
    }
}
