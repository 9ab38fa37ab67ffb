//! GGUF files, versions 2 and 3: metadata and the directory of tensors.
//!
//! The file is somebody else's data: every length is checked against what is left of the file before anything is
//! allocated or read, so a hostile file gets an error that names what is wrong with it. Layout as in ggml's
//! `docs/gguf.md`.
//!
//! *Not here*: what the entries mean; see `checkpoint.rs` beside this file.

mod checkpoint;
mod cursor;
mod metadata;
mod tensors;
#[cfg(test)]
pub(crate) mod test_file;

use std::{collections::HashMap, path::Path};

pub(crate) use checkpoint::{checkpoint, vocabulary};
use cursor::Cursor;
use metadata::Metadata;
use sglhost_device::{MappedBytes, MappedFile};

use crate::{
    ModelError,
    checkpoint::{StoredTensor, bad_file},
};

/// What is wrong with a GGUF file.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum GgufError {
    #[error("is not a GGUF file: it does not begin with the letters GGUF")]
    Magic,
    #[error("is a big-endian GGUF file; only little-endian ones are supported")]
    BigEndian,
    #[error("is GGUF version {0}; versions 2 and 3 are supported")]
    Version(u32),
    #[error("ends in the middle of {what} (byte {at})")]
    Truncated { what: &'static str, at: usize },
    #[error("{what} at byte {at} claims a length of {length}; {limit} are possible there")]
    Length { what: &'static str, at: usize, length: u64, limit: u64 },
    #[error("{what} at byte {at} is not UTF-8")]
    NotUtf8 { what: &'static str, at: usize },
    #[error("unknown metadata type {kind} at byte {at}")]
    ValueType { kind: u32, at: usize },
    #[error("metadata arrays are nested too deeply (byte {at})")]
    Nesting { at: usize },
    #[error("has two {what} named {name}")]
    Duplicate { what: &'static str, name: String },
    #[error("metadata {key} is missing")]
    Missing { key: String },
    #[error("metadata {key} is {found}; {expected} is expected")]
    Type { key: String, found: &'static str, expected: &'static str },
    #[error("general.alignment is {0}; a power of two from 1 to 1048576 is expected")]
    Alignment(u64),
    #[error(
        "tensor {name} is stored as {format}; F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and Q6_K are supported"
    )]
    Format { name: String, format: String },
    #[error("tensor {name}: {reason}")]
    Tensor { name: String, reason: String },
}

/// A parsed file. Tensors stay in the mapped file.
#[derive(Debug)]
pub(crate) struct GgufFile {
    pub(crate) metadata: Metadata,
    pub(crate) tensors: HashMap<String, StoredTensor>,
}

impl GgufFile {
    /// Maps and parses `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        let file = MappedFile::open(path)?;
        let (metadata, directory) = parse(file.bytes()).map_err(|error| bad_file(path, error))?;
        let mut tensors = HashMap::with_capacity(directory.len());
        for entry in directory {
            let data = MappedBytes::new(file.clone(), entry.range)
                .ok_or_else(|| bad_file(path, format!("tensor {} reaches past the end of the file", entry.name)))?;
            tensors.insert(entry.name, StoredTensor { data, format: entry.format, shape: entry.shape });
        }
        Ok(Self { metadata, tensors })
    }
}

/// Parses header, metadata and directory; tensors' ranges are checked to lie in `bytes`.
fn parse(bytes: &[u8]) -> Result<(Metadata, Vec<tensors::Entry>), GgufError> {
    let mut cursor = Cursor::new(bytes);
    if cursor.take(4, "the magic") != Ok(b"GGUF") {
        return Err(GgufError::Magic);
    }
    match cursor.u32("the version")? {
        2 | 3 => {}
        version if matches!(version.swap_bytes(), 1..=3) => return Err(GgufError::BigEndian),
        version => return Err(GgufError::Version(version)),
    }
    let tensor_count = cursor.u64("the tensor count")?;
    let entry_count = cursor.u64("the metadata count")?;
    let metadata = Metadata::parse(&mut cursor, entry_count)?;
    let alignment = metadata.unsigned("general.alignment")?.unwrap_or(32);
    if !(alignment.is_power_of_two() && alignment <= 1 << 20) {
        return Err(GgufError::Alignment(alignment));
    }
    let directory = tensors::parse(&mut cursor, tensor_count, alignment as usize)?;
    Ok((metadata, directory))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::{test_file::TestFile, *};

    fn check(bytes: &[u8], expect: &str) {
        let message = parse(bytes).unwrap_err().to_string();
        assert!(message.contains(expect), "{message:?} does not say {expect:?}");
    }

    #[test]
    fn reads_what_is_well_formed() {
        let bytes = TestFile::new()
            .string("general.architecture", "llama")
            .u32("llama.block_count", 2)
            .tensor("a", &[32, 2], 8, 68)
            .tensor("b", &[3], 0, 12)
            .bytes();
        let (metadata, directory) = parse(&bytes).unwrap();
        assert_eq!(metadata.string("general.architecture").unwrap(), Some("llama"));
        assert_eq!(metadata.unsigned("llama.block_count").unwrap(), Some(2));
        assert_eq!(directory[0].shape, [2, 32]);
        assert_eq!(directory[1].range.len(), 12);
        assert_eq!(directory[1].range.end, bytes.len());
    }

    #[test]
    fn names_what_is_wrong() {
        check(b"", "not a GGUF file");
        check(b"PK\x03\x04 and more", "not a GGUF file");
        check(b"GGUF\x01\0\0\0", "version 1");
        check(b"GGUF\0\0\0\x03", "big-endian");
        check(b"GGUF\x03\0\0\0\x01", "ends in the middle of the tensor count");
        let huge = |at: usize| {
            let mut bytes = TestFile::new().string("k", "v").tensor("t", &[1], 0, 4).bytes();
            bytes[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
            bytes
        };
        check(&huge(8), "tensor directory at byte");
        check(&huge(16), "metadata at byte");
        check(&huge(24), "a metadata key at byte");
        check(&TestFile::new().string("k", "v").string("k", "w").bytes(), "two metadata entries named k");
        check(&TestFile::new().u32("general.alignment", 33).bytes(), "alignment is 33");
        check(&TestFile::new().string("general.alignment", "x").bytes(), "is a string; a whole number is expected");
        check(&TestFile::new().value("k", 77, &[]).bytes(), "unknown metadata type 77");
        check(&TestFile::new().string_array("k", 1 << 60, &[]).bytes(), "an array at byte");
        check(&TestFile::new().tensor("q", &[256, 1], 10, 84).bytes(), "tensor q is stored as Q2_K");
        check(&TestFile::new().tensor("q", &[256, 1], 999, 210).bytes(), "type 999");
        check(&TestFile::new().tensor("t", &[33], 8, 34).bytes(), "tensor t: 33 columns are no whole blocks");
        check(&TestFile::new().tensor("t", &[1 << 40, 1 << 40], 0, 4).bytes(), "tensor t: ");
        check(&TestFile::new().tensor("t", &[9], 0, 8).bytes(), "reaches past the end of the file");
        check(&TestFile::new().tensor("t", &[1, 1, 1, 1, 1], 0, 4).bytes(), "5 dimensions");
        check(&TestFile::new().tensor("t", &[1], 0, 4).tensor("t", &[1], 0, 4).bytes(), "two tensors named t");
        check(&TestFile::new().tensor_at("t", &[1], 0, 7).bytes(), "tensor t: its offset 7 is no multiple of 32");
        check(&TestFile::new().tensor_at("t", &[1], 0, u64::MAX - 31).bytes(), "reaches past the end of the file");
    }

    #[test]
    fn nested_arrays_end_somewhere() {
        let mut nested = Vec::new();
        for _ in 0..10_000 {
            nested.extend(9u32.to_le_bytes());
            nested.extend(1u64.to_le_bytes());
        }
        check(&TestFile::new().value("k", 9, &nested).bytes(), "nested too deeply");
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_survived() {
        let bytes = TestFile::new()
            .string("general.architecture", "llama")
            .u32("llama.block_count", 2)
            .string_array("tokens", 2, &["a", "bc"])
            .tensor("a", &[32, 2], 8, 68)
            .bytes();
        for end in 0..bytes.len() {
            assert!(parse(&bytes[..end]).is_err(), "cut at {end}");
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                // Any answer is right as long as there is one.
                let _ = parse(&changed);
            }
        }
    }
}
