//! Planted faults: what the twin is trusted to see, it sees.
//!
//! The kernels are copied, each fault is put in under a number, and all are compiled once; a test then runs in a process
//! of its own with one of them in force, and must fail.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::{direct, twin};

/// A fault: in which file, which text (there once), and what stands there instead. `PLANTED` is replaced by whether it is
/// in force.
struct Fault {
    name: &'static str,
    file: &'static str,
    text: &'static str,
    instead: &'static str,
    /// A test that must see it, and what it, or the twin, then says.
    test: &'static str,
    says: &'static str,
}

const FAULTS: [Fault; 5] = [
    Fault {
        name: "a missing barrier",
        file: "norm.cu",
        text: "    __syncthreads();\n    // Every warp adds",
        instead: "    if (!PLANTED) __syncthreads();\n    // Every warp adds",
        test: "rows::norms_of_any_width",
        says: "is NaN, not",
    },
    Fault {
        name: "a missing wait for a copy",
        file: "decode_attention.cu",
        text: "        copy_async_wait<STAGES - 2>();",
        instead: "        if (!PLANTED) copy_async_wait<STAGES - 2>();",
        test: "attention::ragged_batches_of_every_kind_of_head",
        says: "is NaN, not",
    },
    Fault {
        name: "a divergent shuffle",
        file: "norm.cu",
        text: "    squares = warp_sum(squares);\n",
        instead: "    if (!PLANTED || threadIdx.x != 3) squares = warp_sum(squares);\n",
        test: "rows::norms_of_any_width",
        says: "kernel rms_norm block (0,0,0)",
    },
    Fault {
        name: "a slot out of bounds",
        file: "rope.cu",
        text: "u64(slots[t]) * kv_heads",
        // So far below the device's memory that nothing of the process's can be there.
        instead: "(u64(slots[t]) - (PLANTED ? 1ull << 36 : 0)) * kv_heads",
        test: "attention::ragged_batches_of_every_kind_of_head",
        says: "kernel rope_and_write_kv block (",
    },
    Fault {
        name: "a wrong advance in a matrix instruction",
        file: "gemm.cu",
        text: "stage + place(b_row, piece + b_piece);",
        instead: "stage + place(b_row, (PLANTED ? piece / 2 : piece) + b_piece);",
        test: "linear::products_without_the_library",
        says: "value",
    },
];

/// The kernels with all faults in them, none in force unless `SGLHOST_PLANTED` names it.
fn planted_sources() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda_faults");
        std::fs::create_dir_all(&folder).unwrap();
        for source in std::fs::read_dir(twin::kernels()).unwrap() {
            let source = source.unwrap();
            let name = source.file_name().into_string().unwrap();
            if !name.ends_with(".cu") && !name.ends_with(".cuh") {
                continue;
            }
            let mut text = std::fs::read_to_string(source.path()).unwrap();
            if name == "device.cuh" {
                text += "#include <cstdlib>\ninline bool planted(int fault) {\n    static const char* name = getenv(\"SGLHOST_PLANTED\");\n    static const int in_force = name ? atoi(name) : 0;\n    return fault == in_force;\n}\n";
            }
            for (number, fault) in (1..).zip(&FAULTS).filter(|(_, fault)| fault.file == name) {
                assert_eq!(text.matches(fault.text).count(), 1, "{}: {:?} is to be there once", fault.file, fault.text);
                text = text.replace(fault.text, &fault.instead.replace("PLANTED", &format!("planted({number})")));
            }
            std::fs::write(folder.join(name), text).unwrap();
        }
        folder
    })
}

/// Runs a test with fault `number` in force, 0 being none; says whether it passed, and what was said.
fn run(test: &str, number: usize) -> (bool, String) {
    let (sources, number) = (planted_sources().to_str().unwrap(), number.to_string());
    let environment = [("SGLHOST_TWIN_KERNELS", sources), ("SGLHOST_PLANTED", number.as_str())];
    let (status, said) = twin::child(&[test, "--exact", "--nocapture"], &environment);
    (status.success() && said.contains("1 passed"), said)
}

#[test]
fn twin_only_planted_faults_are_seen() {
    for (number, fault) in (1..).zip(&FAULTS) {
        let (passed, said) = run(fault.test, number);
        assert!(!passed, "{} goes unseen by {}: {said}", fault.name, fault.test);
        assert!(said.contains(fault.says), "{}: nobody says {:?}: {said}", fault.name, fault.says);
    }
    for test in FAULTS.each_ref().map(|fault| fault.test) {
        let (passed, said) = run(test, 0);
        assert!(passed, "{test} fails without a fault: {said}");
    }
}

/// The device drops its graphs when memory is given back (`passes.rs`). What would happen if it did not:
#[test]
fn twin_only_a_stale_address_in_a_graph_is_seen() {
    const CHILD: &str = "SGLHOST_STALE_GRAPH";
    if std::env::var_os(CHILD).is_some() {
        return direct::replay_after_free();
    }
    let name = "faults::twin_only_a_stale_address_in_a_graph_is_seen";
    let (status, said) = twin::child(&[name, "--exact", "--nocapture"], &[(CHILD, "1")]);
    assert_eq!(status.code(), Some(86), "{said}");
    assert!(said.contains("freed"), "{said}");
}
