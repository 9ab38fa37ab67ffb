//! One model on one device: the engine's [`ModelRunner`].

use sglhost_device::{Batch, Device, KvLayout, RowRequest, RowResult};

use crate::{Decoder, ModelError, ModelInfo, ModelRunner, decoder::Activations};

/// A decoder with its device, KV memory and activations.
pub struct DeviceRunner<D: Device> {
    info: ModelInfo,
    device: D,
    model: Decoder<D>,
    kv: D::Kv,
    kv_slots: usize,
    activations: Activations<D>,
    /// Rows of logits that the last pass left.
    sampled_rows: usize,
}

impl<D: Device> DeviceRunner<D> {
    /// Gives `model` KV memory of `kv_slots` tokens in the layout that `info` names.
    pub(crate) fn new(info: ModelInfo, mut device: D, model: Decoder<D>, kv_slots: usize) -> Result<Self, ModelError> {
        let layout: KvLayout = info.kv;
        let kv = device.allocate_kv(layout, kv_slots)?;
        let activations = Activations::new(&mut device, model.config())?;
        Ok(Self { info, device, model, kv, kv_slots, activations, sampled_rows: 0 })
    }

    /// The device. For measurements.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// Waits for the last pass and reads its logits, `[R, vocabulary]`. For tests and measurements; sampling changes
    /// them in place.
    ///
    /// # Errors
    /// The device failed.
    pub fn read_logits(&mut self) -> Result<Vec<f32>, ModelError> {
        let mut logits = vec![0.0; self.sampled_rows * self.info.vocabulary];
        self.device.read_f32(&self.activations.logits, &mut logits)?;
        Ok(logits)
    }

    /// Refuses what this model cannot do.
    ///
    /// # Panics
    /// If the batch contradicts itself or the model: a bug of the caller, which would otherwise read or write another
    /// sequence's memory.
    fn check(&self, batch: &Batch) -> Result<(), ModelError> {
        if !batch.embedding_rows.is_empty() {
            return Err(ModelError::Unsupported(format!("{} takes no images", self.info.name)));
        }
        if batch.adapters.iter().any(|adapter| *adapter != 0) {
            return Err(ModelError::Unsupported(format!("{} has no adapters", self.info.name)));
        }
        let tokens = batch.tokens.len();
        assert_eq!(batch.positions.len(), tokens, "a position for each token");
        assert_eq!(batch.slots.len(), tokens, "a slot for each token");
        let below = |values: &[u32], limit: usize| values.iter().all(|value| (*value as usize) < limit);
        assert!(below(&batch.tokens, self.info.vocabulary), "a token outside the vocabulary");
        assert!(below(&batch.slots, self.kv_slots), "a slot outside the KV memory");
        // The slots of contexts are many: the device, which looks at each anyway, refuses one outside its memory.
        assert!(below(&batch.sample_rows, tokens), "a sample row outside the batch");
        assert!(batch.sample_rows.is_sorted_by(|a, b| a < b), "sample rows increase");
        assert_eq!(batch.sequence_starts.len(), batch.context_starts.len(), "a slot list for each sequence");
        let ends = |starts: &[u32]| starts.last().map_or(0, |end| *end as usize);
        assert_eq!(ends(&batch.sequence_starts), tokens, "sequences cover the tokens");
        assert_eq!(ends(&batch.context_starts), batch.context_slots.len(), "slot lists cover the context");
        for (new, context) in batch.sequence_starts.windows(2).zip(batch.context_starts.windows(2)) {
            assert!(
                new[0] <= new[1] && context[0] <= context[1] && new[1] - new[0] <= context[1] - context[0],
                "a sequence's new tokens are part of its context"
            );
        }
        Ok(())
    }
}

impl<D: Device> ModelRunner for DeviceRunner<D> {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn kv_slots(&self) -> usize {
        self.kv_slots
    }

    fn runs_ahead(&self) -> bool {
        self.device.runs_ahead()
    }

    fn forward(&mut self, batch: &Batch) -> Result<(), ModelError> {
        self.check(batch)?;
        let on_device = self.device.upload_batch(batch)?;
        self.model.forward(&mut self.device, &on_device, &mut self.kv, &mut self.activations)?;
        self.sampled_rows = batch.sample_rows.len();
        Ok(())
    }

    fn sample(&mut self, rows: &[RowRequest]) -> Result<(), ModelError> {
        assert_eq!(rows.len(), self.sampled_rows, "a request for each sample row of the last pass");
        Ok(self.device.sample(&mut self.activations.logits, self.info.vocabulary, rows)?)
    }

    fn wait_sampled(&mut self) -> Result<Vec<RowResult>, ModelError> {
        Ok(self.device.wait_sampled()?)
    }

    fn reset(&mut self) {
        self.device.reset();
    }
}
