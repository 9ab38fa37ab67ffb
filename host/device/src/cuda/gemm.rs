//! Which tile of gemm.cu a product takes: its header says why.

use super::{launch::Shape, lt::Product};

/// A tile: `outputs` columns of the result of `rows` rows.
#[derive(Debug)]
pub(super) struct Tile {
    /// To bf16 and to f32.
    pub(super) kernels: [&'static str; 2],
    outputs: usize,
    rows: usize,
    warps: usize,
    pub(super) shared: usize,
    /// What an element costs, in tenths of the largest tile's.
    cost: usize,
}

/// All tiles, the larger later.
pub(super) const TILES: [Tile; 7] = [
    Tile { kernels: ["gemm_bf16_32x16", "gemm_f32_32x16"], outputs: 32, rows: 16, warps: 2, shared: 73728, cost: 30 },
    Tile { kernels: ["gemm_bf16_64x16", "gemm_f32_64x16"], outputs: 64, rows: 16, warps: 4, shared: 71680, cost: 24 },
    Tile {
        kernels: ["gemm_bf16_128x16", "gemm_f32_128x16"],
        outputs: 128,
        rows: 16,
        warps: 4,
        shared: 73728,
        cost: 20,
    },
    Tile { kernels: ["gemm_bf16_64x64", "gemm_f32_64x64"], outputs: 64, rows: 64, warps: 4, shared: 98304, cost: 18 },
    Tile {
        kernels: ["gemm_bf16_128x64", "gemm_f32_128x64"],
        outputs: 128,
        rows: 64,
        warps: 4,
        shared: 73728,
        cost: 14,
    },
    Tile {
        kernels: ["gemm_bf16_128x128", "gemm_f32_128x128"],
        outputs: 128,
        rows: 128,
        warps: 4,
        shared: 98304,
        cost: 12,
    },
    Tile {
        kernels: ["gemm_bf16_256x128", "gemm_f32_256x128"],
        outputs: 256,
        rows: 128,
        warps: 8,
        shared: 147_456,
        cost: 10,
    },
];

impl Tile {
    /// The index of the tile that a product is done with first.
    pub(super) fn best(product: &Product, multiprocessors: usize, shared_max_bytes: usize) -> usize {
        let suits = |tile: &Tile| match product.rows {
            1..=16 => tile.rows == 16,
            17..=64 => tile.rows == 64,
            _ => tile.rows >= 64,
        };
        let time =
            |tile: &Tile| tile.outputs * tile.rows * tile.cost * tile.count(product).div_ceil(multiprocessors.max(1));
        let fits = |tile: &Tile| suits(tile) && tile.shared <= shared_max_bytes;
        let tiles = TILES.iter().enumerate().rev().filter(|(_, tile)| fits(tile));
        tiles.min_by_key(|(_, tile)| time(tile)).map_or(0, |(index, _)| index)
    }

    fn count(&self, product: &Product) -> usize {
        product.n.div_ceil(self.outputs) * product.rows.div_ceil(self.rows)
    }

    /// How it is launched.
    pub(super) fn shape(&self, product: &Product) -> Shape {
        Shape { shared: self.shared, ..Shape::line(self.count(product), 32 * self.warps) }
    }
}
