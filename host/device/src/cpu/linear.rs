//! Matrix products: how they are quantized, blocked and split over threads. The arithmetic is in the kernels.

#![allow(unsafe_code, reason = "threads write disjoint parts of one output")]

use std::ops::Range;

use sglhost_kernels::cpu::{
    AlignedVec, Isa, SharedMut,
    dot_panel::{Output, dot_panels},
    dot_rows::{RowOutput, dot_rows},
    exact_panel::exact_panels,
    pack::{BLOCK, PANEL_ROWS},
    quantize::{Quantized, QuantizedMut, quantize_rows},
};

use super::{
    Activations, Machine,
    weight::{CpuWeight, Segment, SegmentData},
};

/// Rows of activations that one chunk works on: with int8 values they stay in the second-level cache while panels pass
/// by. A multiple of every kernel's tile.
const ROW_BLOCK: usize = 96;
/// Chunks each thread gets of a product, so that a thread which comes late or is taken away costs little.
const CHUNKS_PER_THREAD: usize = 6;
/// Most panels of one chunk.
const UNITS_MAX: usize = 64;

/// Quantized activations of the product under way; kept between products.
#[derive(Debug, Default)]
pub(super) struct LinearScratch {
    values: AlignedVec<i8>,
    scales: AlignedVec<f32>,
    sums: AlignedVec<f32>,
    starts: AlignedVec<[i32; 2]>,
}

/// `out[t] = weight · x[t] (+ bias)` for the rows of `x`.
pub(super) struct Product<'a> {
    pub(super) weight: &'a CpuWeight,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) x: &'a [f32],
    pub(super) rows: usize,
}

impl LinearScratch {
    /// Computes the product into `out` `[rows, weight.rows]`.
    pub(super) fn run(&mut self, machine: &mut Machine, activations: Activations, p: &Product, out: &mut [f32]) {
        let quantized = activations == Activations::Quantized
            && p.weight.segments.iter().any(|segment| matches!(segment.data, SegmentData::Panels { .. }));
        if quantized {
            self.quantize(machine, p);
        }
        let blocks = p.weight.columns / BLOCK;
        let a = quantized.then(|| Quantized {
            values: &self.values[..p.rows * p.weight.columns],
            scales: &self.scales[..p.rows * blocks],
            sums: &self.sums[..p.rows * blocks],
            starts: &self.starts[..p.rows * blocks],
        });
        let isa = machine.isa;
        let units = p.weight.units();
        let unit_chunk = units.div_ceil(machine.pool.threads() * CHUNKS_PER_THREAD).clamp(1, UNITS_MAX);
        let row_blocks = p.rows.div_ceil(ROW_BLOCK);
        let out = SharedMut::new(out);
        machine.pool.run(units.div_ceil(unit_chunk) * row_blocks, &|_, chunk| {
            let first = chunk / row_blocks * unit_chunk;
            let row = chunk % row_blocks * ROW_BLOCK;
            let rows = row..(row + ROW_BLOCK).min(p.rows);
            p.weight.visit(first..(first + unit_chunk).min(units), |segment, units| {
                // SAFETY: chunks differ in their rows or in their units, so that no element has two writers.
                unsafe { part(isa, p, a, segment, units, rows.clone(), out) };
            });
        });
    }

    fn quantize(&mut self, machine: &mut Machine, p: &Product) {
        let isa = machine.isa;
        let (columns, blocks) = (p.weight.columns, p.weight.columns / BLOCK);
        self.values.reserve(p.rows * columns);
        self.scales.reserve(p.rows * blocks);
        self.sums.reserve(p.rows * blocks);
        self.starts.reserve(p.rows * blocks);
        let (values, scales) = (SharedMut::new(&mut self.values), SharedMut::new(&mut self.scales));
        let (sums, starts) = (SharedMut::new(&mut self.sums), SharedMut::new(&mut self.starts));
        super::for_rows(&mut machine.pool, p.rows, columns, &|rows| {
            let b = rows.start * blocks..rows.end * blocks;
            let elements = rows.start * columns..rows.end * columns;
            // SAFETY: chunks have different rows.
            let out = unsafe {
                QuantizedMut {
                    values: values.range(elements.clone()),
                    scales: scales.range(b.clone()),
                    sums: sums.range(b.clone()),
                    starts: starts.range(b),
                }
            };
            quantize_rows(isa, &p.x[elements], out);
        });
    }
}

/// The units `units` of one segment for the rows `rows`.
///
/// # Safety
/// Nobody else may touch these elements of `out` meanwhile.
unsafe fn part(
    isa: Isa,
    p: &Product,
    a: Option<Quantized>,
    segment: &Segment,
    units: Range<usize>,
    rows: Range<usize>,
    out: SharedMut<f32>,
) {
    let (stride, column) = (p.weight.rows, segment.first_row);
    let bias = p.bias.map(|bias| &bias[column..column + segment.rows]);
    // SAFETY: the caller's contract, passed on.
    unsafe {
        match &segment.data {
            SegmentData::Panels { layout, bytes } => {
                let out = Output { elements: out, stride, column, rows: segment.rows, bias };
                match a {
                    Some(a) => dot_panels(isa, *layout, bytes, units, a, rows, out),
                    None => exact_panels(isa, *layout, bytes, units, p.x, rows, out),
                }
            }
            SegmentData::Rows { part, element } => {
                let out = RowOutput { elements: out, stride, column, bias };
                for unit in units {
                    let first = unit * PANEL_ROWS;
                    let count = (segment.rows - first).min(PANEL_ROWS);
                    let mut weights = [&[][..]; PANEL_ROWS];
                    for (r, row) in weights[..count].iter_mut().enumerate() {
                        *row = part.stored_row(first + r);
                    }
                    dot_rows(isa, *element, &weights[..count], first, p.x, p.weight.columns, rows.clone(), out);
                }
            }
        }
    }
}
