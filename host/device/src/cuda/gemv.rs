//! How gemv.cu is launched: its header says why.

use super::{launch::Shape, lt::Product};

/// Most rows that a kernel takes.
pub(super) const FEW_ROWS: [usize; 3] = [1, 2, 4];
/// Warps that share two outputs at most.
const SPLIT_MAX: usize = 8;
/// With fewer outputs than this for each warp that shares one, more share it.
const OUTPUTS_ENOUGH: usize = 3072;
/// Elements of k that are worth a warp.
const SPLIT_ELEMENTS: usize = 512;

/// A product of few rows.
pub(super) struct FewRows {
    /// Index into [`FEW_ROWS`].
    pub(super) kernel: usize,
    pub(super) shape: Shape,
}

impl FewRows {
    /// How to launch `product`; none if it has too many rows, or longer ones than fit shared memory.
    pub(super) fn of(product: &Product, multiprocessors: usize, shared_max_bytes: usize) -> Option<Self> {
        let &Product { n, k, rows, .. } = product;
        let kernel = FEW_ROWS.iter().position(|&most| rows <= most)?;
        let most_rows = FEW_ROWS[kernel];
        let mut split = 1;
        while split < SPLIT_MAX && split * n <= OUTPUTS_ENOUGH && SPLIT_ELEMENTS * split <= k {
            split *= 2;
        }
        let pairs = n.div_ceil(2);
        let warps_max = if most_rows == 4 { 20 } else { 24 };
        let most = warps_max / split * split;
        let shares = (pairs * split).div_ceil(multiprocessors.max(1));
        let warps = shares.div_ceil(shares.div_ceil(most)).next_multiple_of(split);
        let shape = Shape {
            grid: [multiprocessors.max(1).min(pairs.div_ceil(warps / split)), 1, 1],
            block: [32, split, warps / split],
            shared: 2 * most_rows * k + 16 * most_rows * warps,
        };
        (shape.shared <= shared_max_bytes).then_some(Self { kernel, shape })
    }
}
