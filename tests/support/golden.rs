//! The files of `conformance/golden`, which `make.py` there wrote.

use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

/// The folder of golden files. A binary that was built elsewhere finds it below the current folder.
pub fn folder() -> PathBuf {
    const BELOW: &str = "conformance/golden";
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join(BELOW);
    if here.exists() { here } else { Path::new("tests").join(BELOW) }
}

/// A safetensors file of golden values.
pub struct Arrays {
    bytes: Vec<u8>,
}

impl Arrays {
    /// Reads the file `name`.
    pub fn open(name: &str) -> Self {
        Self { bytes: std::fs::read(folder().join(name)).unwrap() }
    }

    fn array<const N: usize>(&self, name: &str, dtype: Dtype) -> Vec<[u8; N]> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let array = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(array.dtype(), dtype, "{name}");
        array.data().chunks_exact(N).map(|bytes| bytes.try_into().unwrap()).collect()
    }

    /// An array of F32.
    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.array(name, Dtype::F32).into_iter().map(f32::from_le_bytes).collect()
    }

    /// An array of U16, widened.
    pub fn u16(&self, name: &str) -> Vec<u32> {
        self.array(name, Dtype::U16).into_iter().map(|bytes| u16::from_le_bytes(bytes).into()).collect()
    }

    /// An array of U32.
    pub fn u32(&self, name: &str) -> Vec<u32> {
        self.array(name, Dtype::U32).into_iter().map(u32::from_le_bytes).collect()
    }
}
