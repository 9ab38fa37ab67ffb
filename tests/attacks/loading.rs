//! What can be loaded, and what cannot.

use std::fs;
use std::path::{Path, PathBuf};

use sglhost_tests::scripted::ScriptedEngine;

use crate::host::{component, runtime, runtime_at};

const CORE: &[u8] = b"\0asm\x01\0\0\0";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_program_is_refused() {
    let runtime = runtime(&ScriptedEngine::new());
    let check = async |bytes: &[u8], expect: &str| {
        let error = runtime.load(bytes).await.unwrap_err().to_string();
        assert!(error.starts_with(expect), "{error:?}, not {expect:?}");
    };
    check(b"", "this is not a WebAssembly component: it is empty").await;
    check(b"hello", "this is not a WebAssembly component: it does not begin like WebAssembly").await;
    check(b"(component)", "this is not a WebAssembly component: it is WebAssembly text").await;
    check(b"\x7fELF", "this is not a WebAssembly component: it is native code").await;
    check(CORE, "this is not a WebAssembly component: it is a core module").await;
    check(COMPONENT, "the component is not a prompt program (world sgl:program/program): ").await;
    let mut cut = component();
    cut.truncate(cut.len() / 2);
    check(&cut, "the component cannot be compiled: ").await;
    check(&vec![0; (64 << 20) + 1], "the component has 67108865 bytes; the limit is 67108864").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_describes_itself() {
    let runtime = runtime(&ScriptedEngine::new());
    let bytes = component();
    let program = runtime.load(&bytes).await.unwrap();
    assert_eq!(program.description().name, "attacks");
    assert_eq!(program.description().arguments["required"], serde_json::json!(["attack"]));
    assert_eq!(program.size_bytes(), bytes.len());
    assert_eq!(program.id().0.len(), 64);
    assert!(program.imports().iter().any(|name| name == "sgl:program/lm@0.1.0"), "{:?}", program.imports());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_loads_at_once_are_one_program() {
    let runtime = runtime(&ScriptedEngine::new());
    let bytes = component();
    let loads: Vec<_> = (0..4)
        .map(|_| {
            let (runtime, bytes) = (runtime.clone(), bytes.clone());
            tokio::spawn(async move { runtime.load(&bytes).await.unwrap().id().clone() })
        })
        .collect();
    let first = runtime.load(&bytes).await.unwrap();
    for load in loads {
        assert_eq!(load.await.unwrap(), *first.id());
    }
}

/// An empty folder for this test alone.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    folder
}

/// The files in the one folder in `root`, by name.
fn files(root: &Path) -> Vec<PathBuf> {
    let inner = fs::read_dir(root).unwrap().next().unwrap().unwrap().path();
    let mut files: Vec<PathBuf> = fs::read_dir(inner).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compiled_programs_outlive_the_process() {
    let root = folder("compile-cache");
    let load = async || {
        let runtime = runtime_at(&ScriptedEngine::new(), &root).unwrap();
        runtime.load(&component()).await.unwrap();
    };
    load().await;
    let [artifact, digest] = &files(&root)[..] else { panic!("{:?}", files(&root)) };
    let modified = || fs::metadata(artifact).unwrap().modified().unwrap();
    let first = modified();
    load().await;
    assert_eq!(modified(), first, "loaded, not compiled");
    // One that is cut short is not run, but made again.
    let content = fs::read(artifact).unwrap();
    fs::write(artifact, &content[..content.len() / 2]).unwrap();
    load().await;
    assert_eq!(fs::read(artifact).unwrap().len(), content.len());
    assert_eq!(fs::read(digest).unwrap().len(), 64);
}

#[cfg(unix)]
#[test]
fn a_cache_that_others_may_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;

    let root = folder("shared-cache");
    drop(runtime_at(&ScriptedEngine::new(), &root).unwrap());
    let inner = fs::read_dir(&root).unwrap().next().unwrap().unwrap().path();
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o777)).unwrap();
    let error = runtime_at(&ScriptedEngine::new(), &root).unwrap_err().to_string();
    assert!(error.contains("others may write to it"), "{error}");
}
