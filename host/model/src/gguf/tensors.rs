//! A GGUF file's directory of tensors.

use std::{collections::HashSet, ops::Range};

use sglhost_device::WeightFormat;

use super::{GgufError, cursor::Cursor};
use crate::checkpoint::tensor_bytes;

/// ggml tensors have at most four dimensions.
const DIMENSIONS_MAX: u32 = 4;
/// Bytes of the shortest entry: an empty name, no dimensions, a type and an offset.
const ENTRY_BYTES_MIN: usize = 8 + 4 + 4 + 8;
const WHAT: &str = "a tensor's entry";

/// One tensor; `range` lies in the file and holds exactly what shape and format ask for.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) format: WeightFormat,
    /// Outermost dimension first.
    pub(super) shape: Vec<usize>,
    pub(super) range: Range<usize>,
}

/// Reads `count` entries and places them in the data, which begins at the next multiple of `alignment`.
pub(super) fn parse(cursor: &mut Cursor<'_>, count: u64, alignment: usize) -> Result<Vec<Entry>, GgufError> {
    let count = cursor.check_count(count, ENTRY_BYTES_MIN, "the tensor directory")?;
    let mut entries = Vec::new();
    let mut names = HashSet::new();
    for _ in 0..count {
        let (entry, offset) = entry(cursor, alignment)?;
        if !names.insert(entry.name.clone()) {
            return Err(GgufError::Duplicate { what: "tensors", name: entry.name });
        }
        entries.push((entry, offset));
    }
    let data = cursor.at().next_multiple_of(alignment);
    entries.into_iter().map(|(entry, offset)| place(entry, offset, data, cursor.file_len())).collect()
}

/// An entry with its offset into the data; `range` holds its length only.
fn entry(cursor: &mut Cursor<'_>, alignment: usize) -> Result<(Entry, u64), GgufError> {
    let name = cursor.string("a tensor's name")?.to_owned();
    let fail = |reason: String| GgufError::Tensor { name: name.clone(), reason };
    let dimensions = cursor.u32(WHAT)?;
    if !(1..=DIMENSIONS_MAX).contains(&dimensions) {
        return Err(fail(format!("{dimensions} dimensions; 1 to {DIMENSIONS_MAX} are possible")));
    }
    let mut shape = Vec::with_capacity(dimensions as usize);
    for _ in 0..dimensions {
        let length = cursor.u64(WHAT)?;
        shape.push(usize::try_from(length).map_err(|_| fail(format!("a dimension of {length}")))?);
    }
    // ggml writes the innermost dimension first.
    shape.reverse();
    let kind = cursor.u32(WHAT)?;
    let format =
        format(kind).ok_or_else(|| GgufError::Format { name: name.clone(), format: unsupported_name(kind) })?;
    let offset = cursor.u64(WHAT)?;
    if !offset.is_multiple_of(alignment as u64) {
        return Err(fail(format!("its offset {offset} is no multiple of {alignment}")));
    }
    let columns = shape[shape.len() - 1];
    if !columns.is_multiple_of(format.block_elements()) {
        return Err(fail(format!("{columns} columns are no whole blocks of {}", format.block_elements())));
    }
    let bytes = tensor_bytes(format, &shape).ok_or_else(|| fail(format!("its shape {shape:?} is impossibly large")))?;
    Ok((Entry { name, format, shape, range: 0..bytes }, offset))
}

fn place(mut entry: Entry, offset: u64, data: usize, file_len: usize) -> Result<Entry, GgufError> {
    let range = usize::try_from(offset)
        .ok()
        .and_then(|offset| data.checked_add(offset))
        .and_then(|start| Some(start..start.checked_add(entry.range.len())?))
        .filter(|range| range.end <= file_len);
    match range {
        Some(range) => {
            entry.range = range;
            Ok(entry)
        }
        None => Err(GgufError::Tensor { name: entry.name, reason: "reaches past the end of the file".into() }),
    }
}

/// The formats that can be loaded, by ggml's numbers.
fn format(kind: u32) -> Option<WeightFormat> {
    match kind {
        0 => Some(WeightFormat::F32),
        1 => Some(WeightFormat::F16),
        2 => Some(WeightFormat::Q4_0),
        3 => Some(WeightFormat::Q4_1),
        6 => Some(WeightFormat::Q5_0),
        7 => Some(WeightFormat::Q5_1),
        8 => Some(WeightFormat::Q8_0),
        12 => Some(WeightFormat::Q4_K),
        13 => Some(WeightFormat::Q5_K),
        14 => Some(WeightFormat::Q6_K),
        30 => Some(WeightFormat::BF16),
        _ => None,
    }
}

/// ggml's names of the rest, for the error.
fn unsupported_name(kind: u32) -> String {
    let name = match kind {
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        other => return format!("an unknown type {other}"),
    };
    name.into()
}
