//! Weights as files hold them: mapped bytes, element formats and row orders.

use std::{fs::File, ops::Range, path::Path, sync::Arc};

use sglhost_kernels::cpu::{dot_rows::Element, pack::PanelFormat};

use crate::DeviceError;

/// Element type of a buffer or of KV memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// 16-bit brain float.
    BF16,
}

impl DType {
    /// Bytes of one element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }
}

/// How a stored matrix encodes its elements. Quantized formats are ggml's: a row is a run of blocks of 32
/// elements, of 256 in the K formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(non_camel_case_types, reason = "ggml's names")]
pub enum WeightFormat {
    /// 32-bit float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// 16-bit brain float.
    BF16,
    /// 32 × int8 with an f16 scale: 34 bytes.
    Q8_0,
    /// 32 × 4 bits, offset −8, with an f16 scale: 18 bytes.
    Q4_0,
    /// 32 × 4 bits with an f16 scale and an f16 minimum: 20 bytes.
    Q4_1,
    /// 32 × 5 bits, offset −16, with an f16 scale: 22 bytes.
    Q5_0,
    /// 32 × 5 bits with an f16 scale and an f16 minimum: 24 bytes.
    Q5_1,
    /// 256 × 4 bits; scales and minima of 32 each in 6 bits, over an f16 scale and an f16 minimum: 144 bytes.
    Q4_K,
    /// 256 × 5 bits, scaled as Q4_K: 176 bytes.
    Q5_K,
    /// 256 × 6 bits, offset −32; scales of 16 each in 8 bits, over an f16 scale: 210 bytes.
    Q6_K,
}

impl WeightFormat {
    /// Elements of one block.
    #[must_use]
    pub fn block_elements(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => 32,
            Self::Q4_K | Self::Q5_K | Self::Q6_K => 256,
        }
    }

    /// Bytes of one block.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
        }
    }

    /// What the CPU's kernels call it.
    pub(crate) fn encoding(self) -> Encoding {
        match self {
            Self::F32 => Encoding::Floats(Element::F32),
            Self::F16 => Encoding::Floats(Element::F16),
            Self::BF16 => Encoding::Floats(Element::BF16),
            Self::Q8_0 => Encoding::Blocks(PanelFormat::Q8_0),
            Self::Q4_0 => Encoding::Blocks(PanelFormat::Q4_0),
            Self::Q4_1 => Encoding::Blocks(PanelFormat::Q4_1),
            Self::Q5_0 => Encoding::Blocks(PanelFormat::Q5_0),
            Self::Q5_1 => Encoding::Blocks(PanelFormat::Q5_1),
            Self::Q4_K => Encoding::Blocks(PanelFormat::Q4_K),
            Self::Q5_K => Encoding::Blocks(PanelFormat::Q5_K),
            Self::Q6_K => Encoding::Blocks(PanelFormat::Q6_K),
        }
    }

    /// Bytes of a row of `columns` elements, or none if that is no whole number of blocks.
    #[must_use]
    pub fn row_bytes(self, columns: usize) -> Option<usize> {
        columns.is_multiple_of(self.block_elements()).then(|| columns / self.block_elements() * self.block_bytes())
    }
}

/// The two kinds of [`WeightFormat`].
pub(crate) enum Encoding {
    /// Element by element.
    Floats(Element),
    /// Quantized in blocks, which kernels read repacked into panels.
    Blocks(PanelFormat),
}

/// A read-only file in memory.
#[derive(Debug)]
pub struct MappedFile {
    map: memmap2::Mmap,
}

impl MappedFile {
    /// Maps `path`.
    ///
    /// # Errors
    /// [`DeviceError::Map`] if the file cannot be opened or mapped.
    pub fn open(path: &Path) -> Result<Arc<Self>, DeviceError> {
        let fail = |source| DeviceError::Map { path: path.display().to_string(), source };
        let file = File::open(path).map_err(fail)?;
        // SAFETY: model files are treated as immutable; one that is truncated while it is mapped ends the process with
        // SIGBUS, as in every engine that maps its weights, and cannot otherwise break memory safety: the bytes are
        // only ever read as plain numbers.
        #[allow(unsafe_code, reason = "mapping a file is unsafe by nature")]
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(fail)?;
        Ok(Arc::new(Self { map }))
    }

    /// The whole file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }
}

/// A range of a mapped file that keeps the file mapped.
#[derive(Clone, Debug)]
pub struct MappedBytes {
    file: Arc<MappedFile>,
    range: Range<usize>,
}

impl MappedBytes {
    /// The bytes `range` of `file`, or none if the file is shorter.
    #[must_use]
    pub fn new(file: Arc<MappedFile>, range: Range<usize>) -> Option<Self> {
        (range.start <= range.end && range.end <= file.bytes().len()).then_some(Self { file, range })
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.file.bytes()[self.range.clone()]
    }

    /// Lets the system take back the memory of these bytes, as after they were copied elsewhere. They stay valid: the
    /// next access reads the file again.
    pub fn release(&self) {
        #[cfg(unix)]
        {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the advice is unsafe for memory that was written to, which would lose it. This mapping is a
            // file's, shared and never written: dropped pages come back with the same bytes.
            #[allow(unsafe_code, reason = "see above")]
            let outcome = unsafe { self.file.map.unchecked_advise_range(advice, self.range.start, self.range.len()) };
            // A system that does not take the hint keeps the pages, which costs memory and nothing else.
            let _ = outcome;
        }
    }
}

/// In which order a stored matrix keeps its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOrder {
    /// As the model wants them.
    Natural,
    /// llama.cpp's Q and K: within each head, rows are interleaved for rotation of neighbouring pairs. Stored row
    /// `2 i + j` of a head is natural row `i + j * head_dim / 2`.
    RopeInterleaved {
        /// Rows of one head.
        head_dim: usize,
    },
}

impl RowOrder {
    /// Where natural row `row` is stored.
    #[must_use]
    pub fn stored_row(self, row: usize) -> usize {
        match self {
            Self::Natural => row,
            Self::RopeInterleaved { head_dim } => {
                let (head, within) = (row / head_dim, row % head_dim);
                let half = head_dim / 2;
                head * head_dim + 2 * (within % half) + within / half
            }
        }
    }
}

/// Rows `[rows, columns]` of one stored tensor.
#[derive(Clone, Debug)]
pub struct WeightPart {
    /// The stored bytes, `rows * row_bytes(columns)` of them.
    pub data: MappedBytes,
    /// Their encoding.
    pub format: WeightFormat,
    /// Rows (outputs).
    pub rows: usize,
    /// Columns (inputs).
    pub columns: usize,
    /// Their order.
    pub order: RowOrder,
}

impl WeightPart {
    /// Natural row `row`, as stored.
    pub(crate) fn stored_row(&self, row: usize) -> &[u8] {
        let bytes = self.columns / self.format.block_elements() * self.format.block_bytes();
        &self.data.bytes()[self.order.stored_row(row) * bytes..][..bytes]
    }

    fn check(&self, columns: usize) -> Result<(), DeviceError> {
        let fail = |reason: String| Err(DeviceError::Weight(reason));
        if self.columns != columns {
            return fail(format!("parts of {columns} and of {} columns cannot be fused", self.columns));
        }
        let Some(row_bytes) = self.format.row_bytes(columns) else {
            return fail(format!("{columns} columns are no whole number of {:?} blocks", self.format));
        };
        if self.data.bytes().len() != self.rows * row_bytes {
            return fail(format!(
                "{} bytes for {} rows of {row_bytes} bytes ({:?})",
                self.data.bytes().len(),
                self.rows,
                self.format
            ));
        }
        if let RowOrder::RopeInterleaved { head_dim } = self.order
            && (head_dim == 0 || !head_dim.is_multiple_of(2) || !self.rows.is_multiple_of(head_dim))
        {
            return fail(format!("{} rows are not heads of {head_dim}", self.rows));
        }
        Ok(())
    }
}

/// Checks that `parts` fit each other and their bytes; gives the rows and columns of the whole.
pub(crate) fn check_parts(parts: &[WeightPart]) -> Result<(usize, usize), DeviceError> {
    let columns = parts.first().map_or(0, |part| part.columns);
    if columns == 0 {
        return Err(DeviceError::Weight("a matrix without columns".to_owned()));
    }
    for part in parts {
        part.check(columns)?;
    }
    Ok((parts.iter().map(|part| part.rows).sum(), columns))
}
