//! What can be loaded, and what cannot.

use sglhost_tests::scripted::ScriptedEngine;

use crate::host::{component, runtime};

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
