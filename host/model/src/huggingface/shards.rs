//! Safetensors, in one file or in shards that an index names.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Component, Path, PathBuf},
};

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use sglhost_device::{MappedBytes, MappedFile, WeightFormat};

use super::read_json;
use crate::{
    ModelError,
    checkpoint::{StoredTensor, bad_file, tensor_bytes},
};

const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// The header's length comes first.
const LENGTH_BYTES: usize = 8;

/// All tensors of a folder by name.
pub(super) fn open(folder: &Path) -> Result<HashMap<String, StoredTensor>, ModelError> {
    let mut tensors = HashMap::new();
    for path in files(folder)? {
        add_file(&path, &mut tensors)?;
    }
    Ok(tensors)
}

/// The files that hold the weights: the index's shards, or the one file.
fn files(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    let index = folder.join(INDEX);
    if index.exists() {
        let names: BTreeSet<String> = read_json::<Index>(&index)?.weight_map.into_values().collect();
        return names.into_iter().map(|name| shard(folder, &index, &name)).collect();
    }
    let whole = folder.join(WHOLE);
    if !whole.exists() {
        return Err(bad_file(folder, format!("holds neither {WHOLE} nor {INDEX}")));
    }
    Ok(vec![whole])
}

/// A shard's path. Its name comes from somebody else's file, so it may not lead out of the folder.
fn shard(folder: &Path, index: &Path, name: &str) -> Result<PathBuf, ModelError> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(_)), None) => Ok(folder.join(name)),
        _ => Err(bad_file(index, format!("names a shard {name:?}, which is no plain file name"))),
    }
}

fn add_file(path: &Path, tensors: &mut HashMap<String, StoredTensor>) -> Result<(), ModelError> {
    let file = MappedFile::open(path)?;
    let (header_bytes, header) = SafeTensors::read_metadata(file.bytes())
        .map_err(|error| bad_file(path, format!("is no safetensors file: {error}")))?;
    let data = LENGTH_BYTES + header_bytes;
    for (name, info) in header.tensors() {
        let format = format(info.dtype).ok_or_else(|| {
            bad_file(path, format!("tensor {name} is stored as {:?}; F32, F16 and BF16 are supported", info.dtype))
        })?;
        let (start, end) = info.data_offsets;
        // A tensor without dimensions is one number; no Llama has one, and a shape of [1] says the same.
        let shape = if info.shape.is_empty() { vec![1] } else { info.shape.clone() };
        let range = data.checked_add(start).zip(data.checked_add(end)).map(|(start, end)| start..end);
        let bytes = range
            .filter(|range| tensor_bytes(format, &shape) == Some(range.len()))
            .and_then(|range| MappedBytes::new(file.clone(), range))
            .ok_or_else(|| bad_file(path, format!("tensor {name} does not fit its shape or the file")))?;
        if tensors.insert(name.clone(), StoredTensor { data: bytes, format, shape }).is_some() {
            return Err(bad_file(path, format!("tensor {name} is in another shard already")));
        }
    }
    Ok(())
}

fn format(dtype: Dtype) -> Option<WeightFormat> {
    match dtype {
        Dtype::F32 => Some(WeightFormat::F32),
        Dtype::F16 => Some(WeightFormat::F16),
        Dtype::BF16 => Some(WeightFormat::BF16),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn check(files: &[(&str, &[u8])], expect: &str) {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let message = open(folder.path()).unwrap_err().to_string();
        assert!(message.contains(expect), "{message}");
    }

    #[test]
    fn reads_shards() {
        let folder = tempfile::tempdir().unwrap();
        let index = r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#;
        std::fs::write(folder.path().join(INDEX), index).unwrap();
        let first = file(r#"{"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}"#, 12);
        let second = file(r#"{"b":{"dtype":"F32","shape":[5],"data_offsets":[0,20]}}"#, 20);
        std::fs::write(folder.path().join("1.safetensors"), first).unwrap();
        std::fs::write(folder.path().join("2.safetensors"), second).unwrap();
        let tensors = open(folder.path()).unwrap();
        assert_eq!((tensors["a"].shape.as_slice(), tensors["a"].format), (&[2, 3][..], WeightFormat::BF16));
        assert_eq!(tensors["b"].data.bytes().len(), 20);
    }

    #[test]
    fn says_what_is_wrong() {
        check(&[], "holds neither model.safetensors nor");
        check(&[(WHOLE, b"")], "is no safetensors file");
        check(&[(WHOLE, &u64::MAX.to_le_bytes())], "is no safetensors file");
        check(&[(WHOLE, &file("{}}", 0))], "is no safetensors file");
        let long = file(r#"{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}"#, 12);
        check(&[(WHOLE, &long)], "model.safetensors: ");
        let huge = file(r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,0]}}"#, 0);
        check(&[(WHOLE, &huge)], "model.safetensors: ");
        let integer = file(r#"{"a":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}}"#, 4);
        check(&[(WHOLE, &integer)], "tensor a is stored as I8");
        check(&[(INDEX, b"{")], INDEX);
        check(&[(INDEX, br#"{"weight_map": {"a": "../../etc/passwd"}}"#)], "no plain file name");
        check(&[(INDEX, br#"{"weight_map": {"a": "/etc/passwd"}}"#)], "no plain file name");
        check(&[(INDEX, br#"{"weight_map": {"a": "gone.safetensors"}}"#)], "gone.safetensors");
        let one = file(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 4);
        let index = br#"{"weight_map": {"a": "1", "b": "2"}}"#;
        check(&[(INDEX, index), ("1", &one), ("2", &one)], "is in another shard already");
    }
}
