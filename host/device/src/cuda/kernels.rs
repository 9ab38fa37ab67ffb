//! The kernels by name, looked up once, with what the sources' headers say of launching them.

use std::sync::Arc;

use sglhost_kernels::cuda::Image;

use super::{
    context::Context,
    gemm::TILES,
    gemv::{FEW_ROWS, FewRows},
    launch::{Kernel, Module},
    probe::GpuInfo,
};
use crate::DeviceError;

/// Shared memory of `sample` and of `logprobs`.
pub(super) const SAMPLE_SHARED: usize = 45_376;
pub(super) const LOGPROBS_SHARED: usize = 47_424;

/// Kernels of attention for heads of up to so many elements; smaller ones are padded with zeros on the way.
#[derive(Debug)]
pub(super) struct HeadKernels {
    pub(super) decode: Kernel,
    pub(super) decode_threads: usize,
    pub(super) decode_shared: usize,
    /// With large tiles and with short ones; the same where there are no short ones.
    pub(super) prefill: [PrefillKernel; 2],
}

/// A kernel of attention of prompts.
#[derive(Debug)]
pub(super) struct PrefillKernel {
    pub(super) kernel: Kernel,
    /// Rows of a tile.
    pub(super) rows: usize,
    pub(super) shared: usize,
}

/// How [`HeadKernels`] are named and launched.
struct HeadLaunch {
    head_dim: usize,
    /// Name, threads of a block, shared memory.
    decode: (&'static str, usize, usize),
    /// Name, rows of a tile, shared memory; large and short.
    prefill: [(&'static str, usize, usize); 2],
}

const HEADS: [HeadLaunch; 6] = [
    HeadLaunch {
        head_dim: 16,
        decode: ("decode_attention_16", 128, 24576),
        prefill: [("prefill_attention_16", 128, 10336), ("prefill_attention_16", 128, 10336)],
    },
    HeadLaunch {
        head_dim: 32,
        decode: ("decode_attention_32", 128, 49152),
        prefill: [("prefill_attention_32", 128, 18528), ("prefill_attention_32", 128, 18528)],
    },
    HeadLaunch {
        head_dim: 64,
        decode: ("decode_attention_64", 128, 98304),
        prefill: [("prefill_attention_64", 128, 51280), ("prefill_attention_short_64", 64, 34144)],
    },
    HeadLaunch {
        head_dim: 96,
        decode: ("decode_attention_96", 128, 73728),
        prefill: [("prefill_attention_96", 128, 51296), ("prefill_attention_short_96", 64, 50528)],
    },
    HeadLaunch {
        head_dim: 128,
        decode: ("decode_attention_128", 128, 98304),
        prefill: [("prefill_attention_128", 128, 100_432), ("prefill_attention_short_128", 64, 66912)],
    },
    HeadLaunch {
        head_dim: 256,
        decode: ("decode_attention_256", 64, 65536),
        prefill: [("prefill_attention_256", 64, 66656), ("prefill_attention_256", 64, 66656)],
    },
];

/// All kernels.
#[derive(Debug)]
pub(super) struct Kernels {
    pub(super) embed: Kernel,
    pub(super) gather_rows: Kernel,
    pub(super) rms_norm: Kernel,
    pub(super) add_rms_norm: Kernel,
    pub(super) rope_and_write_kv: Kernel,
    pub(super) silu_mul: Kernel,
    pub(super) combine_attention: Kernel,
    pub(super) sample: Kernel,
    pub(super) logprobs: Kernel,
    heads: Vec<HeadKernels>,
    /// To bf16 and to f32, of each of [`FEW_ROWS`].
    gemv: [[Kernel; FEW_ROWS.len()]; 2],
    /// To bf16 and to f32, of each of [`TILES`].
    gemm: Vec<[Kernel; 2]>,
    /// Last: it is unloaded after everything else.
    _module: Module,
}

impl Kernels {
    /// Loads `image`.
    pub(super) fn load(context: &Arc<Context>, image: Image, gpu: &GpuInfo) -> Result<Self, DeviceError> {
        let module = Module::load(context, image)?;
        let plain = |name| module.kernel(name, 0);
        let most = |name| module.kernel(name, gpu.shared_max_bytes);
        let prefill = |(name, rows, shared)| {
            Ok::<_, DeviceError>(PrefillKernel { kernel: module.kernel(name, shared)?, rows, shared })
        };
        let heads = HEADS.iter().map(|of| {
            let (decode, decode_threads, decode_shared) = of.decode;
            Ok(HeadKernels {
                decode: module.kernel(decode, decode_shared)?,
                decode_threads,
                decode_shared,
                prefill: [prefill(of.prefill[0])?, prefill(of.prefill[1])?],
            })
        });
        // Where a device has less than a tile takes, that tile is not launched there.
        let tiles = TILES.iter().map(|tile| {
            let shared = tile.shared.min(gpu.shared_max_bytes);
            Ok([module.kernel(tile.kernels[0], shared)?, module.kernel(tile.kernels[1], shared)?])
        });
        Ok(Self {
            embed: plain("embed")?,
            gather_rows: plain("gather_rows")?,
            rms_norm: plain("rms_norm")?,
            add_rms_norm: plain("add_rms_norm")?,
            rope_and_write_kv: plain("rope_and_write_kv")?,
            silu_mul: plain("silu_mul")?,
            combine_attention: plain("combine_attention")?,
            sample: module.kernel("sample", SAMPLE_SHARED)?,
            logprobs: module.kernel("logprobs", LOGPROBS_SHARED)?,
            heads: heads.collect::<Result<_, DeviceError>>()?,
            gemv: [
                [most("gemv_bf16_1")?, most("gemv_bf16_2")?, most("gemv_bf16_4")?],
                [most("gemv_f32_1")?, most("gemv_f32_2")?, most("gemv_f32_4")?],
            ],
            gemm: tiles.collect::<Result<_, DeviceError>>()?,
            _module: module,
        })
    }

    /// Attention's for heads of `head_dim` elements.
    pub(super) fn heads(&self, head_dim: usize) -> Result<&HeadKernels, DeviceError> {
        let index = HEADS.iter().position(|of| head_dim <= of.head_dim);
        let unsupported = || DeviceError::Unsupported(format!("heads of {head_dim} elements"));
        index.and_then(|index| self.heads.get(index)).ok_or_else(unsupported)
    }

    /// The product of few rows.
    pub(super) fn gemv(&self, few: &FewRows, full: bool) -> Kernel {
        self.gemv[usize::from(full)][few.kernel]
    }

    /// The product by the tile of this index.
    pub(super) fn gemm(&self, tile: usize, full: bool) -> Kernel {
        self.gemm[tile][usize::from(full)]
    }
}
