//! A crate imports only from lower floors, and heavy dependencies stay where they live.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

/// Crate and floor; see ARCHITECTURE.md.
const FLOORS: &[(&str, u32)] = &[
    ("sglhost-kernels", 0),
    ("sglhost-core", 1),
    ("sglhost-cache", 2),
    ("sglhost-text", 2),
    ("sglhost-device", 3),
    ("sglhost-model", 4),
    ("sglhost-engine", 5),
    ("sglhost-runtime", 6),
    ("sglhost-store", 6),
    ("sglhost-server", 7),
    ("sglhost", 8),
];

/// A dependency, and the only crates of ours that may name it.
const HOMES: &[(&str, &[&str])] = &[
    ("wasmtime", &["sglhost-runtime"]),
    ("wasmtime-wasi", &["sglhost-runtime"]),
    ("seccompiler", &["sglhost-runtime"]),
    ("tokio", &["sglhost-engine", "sglhost-runtime", "sglhost-store", "sglhost-server", "sglhost"]),
    ("tokenizers", &["sglhost-text"]),
    ("regex-automata", &["sglhost-text"]),
    ("llguidance", &["sglhost-text"]),
    ("minijinja", &["sglhost-text"]),
    ("safetensors", &["sglhost-model"]),
    ("memmap2", &["sglhost-device"]),
    ("cudarc", &["sglhost-device"]),
    ("dashmap", &["sglhost-runtime", "sglhost-server"]),
    ("rusqlite", &["sglhost-store"]),
    ("object_store", &["sglhost-store"]),
    ("axum", &["sglhost-server"]),
    ("hyper", &["sglhost-server"]),
    ("clap", &["sglhost"]),
    // Libraries here have typed errors. llguidance has not, and has to be answered.
    ("anyhow", &["sglhost-text"]),
    ("indicatif", &["sglhost"]),
];

/// Normal (not dev, not build) dependencies of each of our crates.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let normal = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        all.filter(|dependency| dependency["kind"].is_null())
            .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages.map(|package| (package["name"].as_str().unwrap().to_owned(), normal(package))).collect()
}

#[test]
fn every_crate_has_a_floor() {
    let known: BTreeSet<&str> = FLOORS.iter().map(|&(name, _)| name).collect();
    let present = dependencies();
    let present: BTreeSet<&str> = present.keys().map(String::as_str).filter(|&name| name != "sglhost-tests").collect();
    assert_eq!(present, known);
}

#[test]
fn crates_import_from_lower_floors_only() {
    let floors: BTreeMap<&str, u32> = FLOORS.iter().copied().collect();
    for (name, dependencies) in dependencies() {
        let Some(floor) = floors.get(name.as_str()) else { continue };
        for dependency in &dependencies {
            if let Some(below) = floors.get(dependency.as_str()) {
                assert!(below < floor, "{name} (floor {floor}) imports {dependency} (floor {below})");
            }
        }
    }
}

#[test]
fn heavy_dependencies_stay_at_home() {
    let dependencies = dependencies();
    for (dependency, homes) in HOMES {
        for (name, names) in dependencies.iter().filter(|(name, _)| *name != "sglhost-tests") {
            assert!(
                !names.contains(*dependency) || homes.contains(&name.as_str()),
                "{name} depends on {dependency}, whose home is {homes:?}"
            );
        }
    }
}
