//! Weights: quantized ones repacked into panels, float ones left where the file is mapped.

use std::ops::Range;

use sglhost_kernels::cpu::{
    AlignedVec, Isa, SharedMut,
    dot_rows::{Element, widen_row},
    pack::{BLOCK, PANEL_ROWS, PanelLayout, pack_panel, unpack_row},
};

use super::pool::Pool;
use crate::{
    DeviceError, WeightPart,
    weight::{Encoding, check_parts},
};

/// A matrix `[rows, columns]`, made of the stored parts it was loaded from.
#[derive(Debug)]
pub struct CpuWeight {
    /// Outputs.
    pub(super) rows: usize,
    /// Inputs.
    pub(super) columns: usize,
    /// One for each stored part, in order.
    pub(super) segments: Vec<Segment>,
}

/// Rows `first_row..first_row + rows` of a weight.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) first_row: usize,
    pub(super) rows: usize,
    pub(super) data: SegmentData,
}

#[derive(Debug)]
pub(super) enum SegmentData {
    /// Repacked: see `sglhost_kernels::cpu::pack`.
    Panels { layout: PanelLayout, bytes: AlignedVec<u8> },
    /// As stored, in the file's own memory and order.
    Rows { part: WeightPart, element: Element },
}

impl CpuWeight {
    /// Loads `parts` one below the other; repacking is split over the pool.
    pub(super) fn load(parts: &[WeightPart], pool: &mut Pool) -> Result<Self, DeviceError> {
        let (_, columns) = check_parts(parts)?;
        let mut rows = 0;
        let mut segments = Vec::with_capacity(parts.len());
        for part in parts {
            segments.push(Segment { first_row: rows, rows: part.rows, data: SegmentData::new(part, pool) });
            rows += part.rows;
        }
        Ok(Self { rows, columns, segments })
    }

    /// Row `row` as floats: `out` is `[columns]`.
    pub(super) fn read_row(&self, isa: Isa, row: usize, out: &mut [f32]) {
        let segment = &self.segments[self.segments.partition_point(|segment| segment.first_row <= row) - 1];
        let row = row - segment.first_row;
        match &segment.data {
            SegmentData::Panels { layout, bytes } => {
                let panel = &bytes[row / PANEL_ROWS * layout.panel_bytes()..][..layout.panel_bytes()];
                unpack_row(*layout, panel, row % PANEL_ROWS, out);
            }
            SegmentData::Rows { part, element } => widen_row(isa, *element, part.stored_row(row), out),
        }
    }

    /// Units of sixteen rows, the last of each segment possibly short: what threads split a product by.
    pub(super) fn units(&self) -> usize {
        self.segments.iter().map(|segment| segment.rows.div_ceil(PANEL_ROWS)).sum()
    }

    /// Calls `visit` with each segment and its own units that `range` covers.
    pub(super) fn visit(&self, range: Range<usize>, mut visit: impl FnMut(&Segment, Range<usize>)) {
        let mut first = 0;
        for segment in &self.segments {
            let count = segment.rows.div_ceil(PANEL_ROWS);
            let from = range.start.clamp(first, first + count);
            let to = range.end.clamp(first, first + count);
            if from < to {
                visit(segment, from - first..to - first);
            }
            first += count;
        }
    }
}

impl SegmentData {
    fn new(part: &WeightPart, pool: &mut Pool) -> Self {
        let format = match part.format.encoding() {
            Encoding::Floats(element) => return Self::Rows { part: part.clone(), element },
            Encoding::Blocks(format) => format,
        };
        let layout = PanelLayout { format, blocks: part.columns / BLOCK };
        let panels = part.rows.div_ceil(PANEL_ROWS);
        let mut bytes = AlignedVec::zeroed(panels * layout.panel_bytes());
        let shared = SharedMut::new(&mut bytes);
        pool.run(panels, &|_, panel| {
            let mut rows = [&[][..]; PANEL_ROWS];
            let first = panel * PANEL_ROWS;
            let count = (part.rows - first).min(PANEL_ROWS);
            for (r, row) in rows[..count].iter_mut().enumerate() {
                *row = part.stored_row(first + r);
            }
            let range = panel * layout.panel_bytes()..(panel + 1) * layout.panel_bytes();
            // SAFETY: each chunk has a panel of its own.
            #[allow(unsafe_code, reason = "threads write disjoint panels")]
            pack_panel(layout, &rows[..count], unsafe { shared.range(range) });
        });
        // Repacked, the file's own pages are not needed any more.
        part.data.release();
        Self::Panels { layout, bytes }
    }
}
