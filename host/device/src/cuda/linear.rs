//! Products: which kernel computes one.
//!
//! Up to four rows that fit shared memory: our own, which reads each weight once and does little else. Others: cuBLASLt
//! where there is one that can, or else our own. Deterministic: our own of any number of rows, whatever the number.

use std::{path::Path, sync::Arc};

use super::{
    context::Context,
    gemm::{TILES, Tile},
    gemv::FewRows,
    kernels::Kernels,
    launch::Argument,
    lt::{Found, Lt, Product},
    memory::Pointer,
    probe::GpuInfo,
};
use crate::DeviceError;

/// Products on this GPU.
#[derive(Debug)]
pub(super) struct Linear {
    lt: Option<Box<Lt>>,
    /// Who computes products, for people.
    by: String,
    deterministic: bool,
    multiprocessors: usize,
    shared_max_bytes: usize,
}

impl Linear {
    pub(super) fn new(
        context: &Arc<Context>,
        gpu: &GpuInfo,
        lt: bool,
        plans: Option<&Path>,
        deterministic: bool,
    ) -> Result<Self, DeviceError> {
        let found = if lt { Lt::find(context, gpu, plans)? } else { Found::Nothing };
        let (lt, by) = match found {
            Found::Lt(lt) => {
                let by = format!("cuBLASLt {}", lt.version());
                (Some(lt), by)
            }
            Found::Nothing if lt => (None, "own products (no cuBLASLt found)".to_owned()),
            Found::Nothing => (None, "own products".to_owned()),
            Found::Refused(reason) => (None, format!("own products (cuBLASLt does not start: {reason})")),
        };
        Ok(Self { lt, by, deterministic, multiprocessors: gpu.multiprocessors, shared_max_bytes: gpu.shared_max_bytes })
    }

    /// Who computes products, for people.
    pub(super) fn by(&self) -> &str {
        &self.by
    }

    /// Keeps what was measured for the next start.
    pub(super) fn save_plans(&mut self) {
        if let Some(lt) = &mut self.lt {
            lt.save();
        }
    }

    pub(super) fn launch(
        &mut self,
        context: &Context,
        kernels: &Kernels,
        product: &Product,
    ) -> Result<(), DeviceError> {
        if !self.deterministic
            && let Some(few) = FewRows::of(product, self.multiprocessors, self.shared_max_bytes)
        {
            return kernels.gemv(&few, product.full).launch(context, few.shape, &mut arguments(product));
        }
        if let Some(lt) = &mut self.lt
            // The library's f32 results take an f32 bias.
            && !(product.full && product.bias.is_some())
            && lt.launch(product)?
        {
            return Ok(());
        }
        let tile = Tile::best(product, self.multiprocessors, self.shared_max_bytes);
        kernels.gemm(tile, product.full).launch(context, TILES[tile].shape(product), &mut arguments(product))
    }
}

/// What all our products take.
fn arguments(product: &Product) -> [Argument; 7] {
    let bias = product.bias.unwrap_or(Pointer::NULL);
    [
        product.weight.into(),
        bias.into(),
        product.x.into(),
        product.out.into(),
        product.rows.into(),
        product.n.into(),
        product.k.into(),
    ]
}
