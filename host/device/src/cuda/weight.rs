//! Weights: bf16 `[rows, columns]` on the device, whatever the file has.

use std::{num::NonZero, sync::Arc};

use sglhost_kernels::cpu::{
    AlignedVec, Isa,
    dot_rows::{Element, narrow_row, widen_row},
    pack::{BLOCK, PANEL_ROWS, PanelLayout, pack_panel, unpack_row},
};

use super::{
    context::Context,
    memory::{DeviceMemory, Pointer, Staging},
};
use crate::{
    DeviceError, RowOrder, WeightFormat, WeightPart,
    weight::{Encoding, check_parts},
};

/// Bytes that are converted while the bytes before are copied.
const PIECE_BYTES: usize = 8 << 20;
/// A row of activations is read 16 bytes at a time.
const COLUMNS_MULTIPLE: usize = 8;
/// Fewer elements are not worth a thread.
const THREAD_ELEMENTS: usize = 1 << 18;
/// More threads than this convert no faster than memory gives.
const THREADS_MAX: usize = 8;

/// A matrix `[rows, columns]`, bf16, row after row.
#[derive(Debug)]
pub struct CudaWeight {
    memory: DeviceMemory,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl CudaWeight {
    /// Memory for a matrix, of any content.
    pub(super) fn new(context: &Arc<Context>, rows: usize, columns: usize) -> Result<Self, DeviceError> {
        if !columns.is_multiple_of(COLUMNS_MULTIPLE) {
            let reason = format!("{columns} columns; a GPU takes multiples of {COLUMNS_MULTIPLE}");
            return Err(DeviceError::Weight(reason));
        }
        if u32::try_from(rows).is_err() || u32::try_from(columns).is_err() {
            return Err(DeviceError::Weight(format!("a matrix of {rows} rows and {columns} columns")));
        }
        let memory = DeviceMemory::new(context, 2 * rows * columns, "weights")?;
        Ok(Self { memory, rows, columns })
    }

    pub(super) fn pointer(&self) -> Pointer {
        self.memory.pointer()
    }

    pub(super) fn bytes(&self) -> usize {
        2 * self.rows * self.columns
    }
}

/// Brings weights to the device.
#[derive(Debug)]
pub(super) struct WeightLoader {
    staging: Staging,
    isa: Isa,
}

impl WeightLoader {
    pub(super) fn new(context: &Arc<Context>) -> Result<Self, DeviceError> {
        Ok(Self { staging: Staging::new(context, PIECE_BYTES)?, isa: Isa::detect() })
    }

    /// Loads `parts` one below the other.
    pub(super) fn load(&mut self, context: &Arc<Context>, parts: &[WeightPart]) -> Result<CudaWeight, DeviceError> {
        let (rows, columns) = check_parts(parts)?;
        let weight = CudaWeight::new(context, rows, columns)?;
        let row_bytes = 2 * columns;
        let step = (self.staging.piece_bytes() / row_bytes).max(1);
        let mut to = weight.pointer();
        for part in parts {
            for first in (0..part.rows).step_by(step) {
                let count = step.min(part.rows - first);
                let isa = self.isa;
                self.staging.send(to, count * row_bytes, |out| convert(isa, part, first, out))?;
                to = to.at(count * row_bytes);
            }
            // Copied, the file's own pages are not needed any more.
            part.data.release();
        }
        Ok(weight)
    }

    /// Fills a matrix with pseudo-random values in (-1, 1) / sqrt(columns) that repeat after some MiB: for
    /// measurements.
    pub(super) fn random(&mut self, weight: &CudaWeight, seed: u64) -> Result<(), DeviceError> {
        let scale = 1.0 / (weight.columns as f32).sqrt();
        let mut state = seed;
        let piece = self.staging.piece_bytes();
        for start in (0..weight.bytes()).step_by(piece) {
            let bytes = piece.min(weight.bytes() - start);
            self.staging.send(weight.pointer().at(start), bytes, |out| {
                for element in out.chunks_exact_mut(2) {
                    // Knuth's multiplicative generator; its upper bits are good enough to multiply with.
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let x = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
                    element.copy_from_slice(&half::bf16::from_f32(scale * x).to_le_bytes());
                }
            })?;
        }
        Ok(())
    }
}

/// Writes natural rows of `part` from `first` on to `out` as bf16, on several threads if it is worth it.
fn convert(isa: Isa, part: &WeightPart, first: usize, out: &mut [u8]) {
    let row_bytes = 2 * part.columns;
    let rows = out.len() / row_bytes;
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX);
    let threads = (rows * part.columns / THREAD_ELEMENTS).clamp(1, threads);
    let share = rows.div_ceil(threads);
    if threads == 1 {
        return convert_rows(isa, part, first, out);
    }
    std::thread::scope(|scope| {
        for (i, out) in out.chunks_mut(share * row_bytes).enumerate() {
            scope.spawn(move || convert_rows(isa, part, first + i * share, out));
        }
    });
}

fn convert_rows(isa: Isa, part: &WeightPart, first: usize, out: &mut [u8]) {
    let row_bytes = 2 * part.columns;
    if part.format == WeightFormat::BF16 && part.order == RowOrder::Natural {
        let from = &part.data.bytes()[first * row_bytes..];
        out.copy_from_slice(&from[..out.len()]);
        return;
    }
    let mut floats = vec![0.0; part.columns];
    match part.format.encoding() {
        Encoding::Floats(Element::BF16) => {
            for (row, out) in out.chunks_exact_mut(row_bytes).enumerate() {
                out.copy_from_slice(part.stored_row(first + row));
            }
        }
        Encoding::Floats(element) => {
            for (row, out) in out.chunks_exact_mut(row_bytes).enumerate() {
                widen_row(isa, element, part.stored_row(first + row), &mut floats);
                narrow_row(isa, &floats, Element::BF16, out);
            }
        }
        // By way of the CPU's panels, which know the formats.
        Encoding::Blocks(format) => {
            let layout = PanelLayout { format, blocks: part.columns / BLOCK };
            let mut panel = AlignedVec::<u8>::zeroed(layout.panel_bytes());
            for (index, out) in out.chunks_mut(PANEL_ROWS * row_bytes).enumerate() {
                let first = first + index * PANEL_ROWS;
                let rows: Vec<&[u8]> = (0..out.len() / row_bytes).map(|row| part.stored_row(first + row)).collect();
                panel.fill(0);
                pack_panel(layout, &rows, &mut panel);
                for (row, out) in out.chunks_exact_mut(row_bytes).enumerate() {
                    unpack_row(layout, &panel, row, &mut floats);
                    narrow_row(isa, &floats, Element::BF16, out);
                }
            }
        }
    }
}
