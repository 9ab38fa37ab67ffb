//! Tuned algorithms of products, kept in a file from one start to the next.
//!
//! The file's name holds what an algorithm depends on: the GPU, the driver and the library. A line is a product and the
//! 64 bytes that the library describes an algorithm with, which it takes back in the same version only
//! (`cublasLtMatmulAlgo_t`). A file that cannot be read, or a line of it, is ignored: all is found again by measuring.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use super::probe::GpuInfo;

/// The first line of a file.
const HEADER: &str = "sglhost products 1";

/// A product, as far as its algorithm depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ProductKind {
    /// Rows of the weight.
    pub(super) n: usize,
    /// Columns of the weight.
    pub(super) k: usize,
    /// Rows of activations, rounded up: see [`rows_class`].
    pub(super) rows: usize,
    /// Whether the result is f32.
    pub(super) full: bool,
    /// Whether something is added.
    pub(super) bias: bool,
}

/// Rows that share an algorithm: multiples of 8 up to 256, then steps of a quarter to an eighth.
pub(super) fn rows_class(rows: usize) -> usize {
    let step = if rows <= 256 { 8 } else { rows.next_power_of_two() / 8 };
    rows.next_multiple_of(step)
}

/// What the library describes an algorithm with.
pub(super) type AlgorithmBits = [u64; 8];

/// The file and what is in it.
#[derive(Debug)]
pub(super) struct PlanFile {
    path: Option<PathBuf>,
    plans: BTreeMap<ProductKind, AlgorithmBits>,
    /// Whether there is something that the file lacks.
    changed: bool,
}

impl PlanFile {
    /// Reads what `folder` has for this GPU and version of the library; nothing is kept where there is no folder.
    pub(super) fn open(folder: Option<&Path>, gpu: &GpuInfo, library: usize) -> Self {
        let path = folder.map(|folder| {
            let name: String = gpu.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            let (major, minor) = gpu.driver;
            folder.join(format!("{name}-cuda-{major}.{minor}-cublaslt-{library}.txt"))
        });
        let text = path.as_deref().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        let plans = match text.split_once('\n') {
            Some((HEADER, lines)) => lines.lines().filter_map(parse).collect(),
            _ => BTreeMap::new(),
        };
        Self { path, plans, changed: false }
    }

    pub(super) fn get(&self, kind: &ProductKind) -> Option<AlgorithmBits> {
        self.plans.get(kind).copied()
    }

    pub(super) fn insert(&mut self, kind: ProductKind, algorithm: AlgorithmBits) {
        self.plans.insert(kind, algorithm);
        self.changed = true;
    }

    pub(super) fn remove(&mut self, kind: &ProductKind) {
        self.changed |= self.plans.remove(kind).is_some();
    }

    /// Writes the file if it lacks something: whole, or not at all. That it cannot be written costs the next start some
    /// time, and nothing else.
    pub(super) fn save(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let Some(path) = &self.path else { return };
        let mut text = format!("{HEADER}\n");
        for (ProductKind { n, k, rows, full, bias }, algorithm) in &self.plans {
            let _ = write!(text, "{n} {k} {rows} {} {}", u8::from(*full), u8::from(*bias));
            for word in algorithm {
                let _ = write!(text, " {word:016x}");
            }
            text.push('\n');
        }
        let _ = replace(path, &text);
    }
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // Another process may do the same at the same time: each writes a file of its own, and the last one stays.
    let new = path.with_extension(format!("{}.new", std::process::id()));
    std::fs::write(&new, text)?;
    std::fs::rename(&new, path).inspect_err(|_| drop(std::fs::remove_file(&new)))
}

fn parse(line: &str) -> Option<(ProductKind, AlgorithmBits)> {
    let mut words = line.split(' ');
    let mut number = || words.next()?.parse::<usize>().ok();
    let kind = ProductKind { n: number()?, k: number()?, rows: number()?, full: number()? == 1, bias: number()? == 1 };
    let mut algorithm = AlgorithmBits::default();
    for word in &mut algorithm {
        *word = u64::from_str_radix(words.next()?, 16).ok()?;
    }
    words.next().is_none().then_some((kind, algorithm))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn gpu() -> GpuInfo {
        GpuInfo {
            ordinal: 0,
            name: "NVIDIA H200 / MIG".to_owned(),
            compute: (9, 0),
            memory_bytes: 0,
            driver: (12, 4),
            multiprocessors: 132,
            cache_bytes: 0,
            shared_max_bytes: 0,
        }
    }

    #[test]
    fn what_was_saved_is_found_again_for_the_same_machine() {
        let folder = std::env::temp_dir().join(format!("sglhost-plans-{}", std::process::id()));
        let kind = ProductKind { n: 4096, k: 14336, rows: 16, full: false, bias: true };
        let mut file = PlanFile::open(Some(&folder), &gpu(), 120_804);
        file.save();
        assert!(!folder.exists(), "nothing to save");
        file.insert(kind, [1, 2, 3, 4, 5, 6, 7, u64::MAX]);
        file.save();
        assert_eq!(PlanFile::open(Some(&folder), &gpu(), 120_804).get(&kind), Some([1, 2, 3, 4, 5, 6, 7, u64::MAX]));
        assert_eq!(PlanFile::open(Some(&folder), &gpu(), 120_805).get(&kind), None);
        assert_eq!(PlanFile::open(None, &gpu(), 120_804).get(&kind), None);
        let path = folder.join("NVIDIA-H200---MIG-cuda-12.4-cublaslt-120804.txt");
        for spoilt in ["", "another header\n1 2 3", "sglhost products 1\n4096 14336 16 0 1 7\nnothing\n"] {
            std::fs::write(&path, spoilt).unwrap();
            assert_eq!(PlanFile::open(Some(&folder), &gpu(), 120_804).get(&kind), None);
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn classes_are_a_few() {
        let check = |rows, class| assert_eq!(rows_class(rows), class, "{rows}");
        for (rows, class) in
            [(5, 8), (8, 8), (250, 256), (257, 320), (512, 512), (513, 640), (8192, 8192), (2049, 2560)]
        {
            check(rows, class);
        }
        let classes: std::collections::BTreeSet<_> = (5..=8192).map(rows_class).collect();
        assert_eq!(classes.len(), 52);
    }
}
