//! The committed CUDA images are those of the committed sources. That they come out the same again is what
//! `kernels/cuda/build.py --check` says, which needs the CUDA compiler.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use sha2::{Digest, Sha256};

const CUDA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../kernels/cuda");
const REBUILD: &str = "run kernels/cuda/build.py";

/// Names and contents of the files in a folder, sorted by name.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.is_file());
    files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

fn hexadecimal(hash: Sha256) -> String {
    format!("{:x}", hash.finalize())
}

/// As `sum_of` in build.py.
fn sum_of_sources() -> String {
    let mut hash = Sha256::new();
    for (name, content) in files(Path::new(CUDA)) {
        if [".cu", ".cuh", ".py", ".txt"].iter().any(|suffix| name.ends_with(suffix)) {
            hash.update(format!("{name} {}\n", content.len()));
            hash.update(content);
        }
    }
    hexadecimal(hash)
}

#[test]
fn cuda_images_are_of_these_sources() {
    let manifest = fs::read_to_string(format!("{CUDA}/images/manifest.txt")).expect(REBUILD);
    let sources = manifest.lines().next().and_then(|line| line.strip_prefix("sources "));
    assert_eq!(sources, Some(sum_of_sources().as_str()), "the images are older than the sources: {REBUILD}");
}

#[test]
fn cuda_images_are_the_manifests() {
    let mut images = files(&Path::new(CUDA).join("images"));
    let manifest = images.remove("manifest.txt").expect(REBUILD);
    let manifest: BTreeSet<&str> = str::from_utf8(&manifest).unwrap().lines().collect();
    assert_eq!(images.keys().collect::<Vec<_>>(), ["compute_80.ptx", "sm_80.cubin", "sm_90a.cubin"], "{REBUILD}");
    for (name, content) in images {
        let line = format!("{name} {} {} bytes", hexadecimal(Sha256::new().chain_update(&content)), content.len());
        assert!(manifest.contains(line.as_str()), "the manifest does not say {line:?}: {REBUILD}");
    }
}
