//! Components that have too much for a place in the pool of instances: each is refused by the limit's name, before or
//! while its instance is made, and a neighbour goes on.

use sglhost_core::limits::CompileLimits;
use sglhost_core::{Error, ErrorCode};
use sglhost_tests::hostile::{bombs, multiplying, program, resident_bytes, table_that_grows};

use crate::harm::{ALONE, check_beside};
use crate::host::{Host, finish};
use crate::isolation::{alone, isolated};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_declares_too_much_is_refused() {
    let _alone = ALONE.lock().await;
    let host = Host::new().await;
    for (name, component, expect) in bombs() {
        let runtime = host.runtime.clone();
        let load = tokio::spawn(async move { runtime.load(&component).await.map(|program| panic!("{program:?}")) });
        assert_eq!(host.result("answer").await, "\"<13>\"", "a neighbour of {name}");
        let error = load.await.unwrap().unwrap_err().to_string();
        assert!(error.starts_with(expect), "{name}: {error:?}, not {expect:?}");
    }
    host.settle().await;
    assert_eq!(host.result("answer").await, "\"<13>\"", "a run after all of them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_compiles_says_the_same() {
    let runtime = isolated("bombs", &["compile"], CompileLimits::default());
    for (name, component, expect) in bombs() {
        let error = runtime.load(&component).await.unwrap_err();
        assert!(error.to_string().starts_with(expect), "{name}: {error}, not {expect:?}");
        let code = Error::from(error).code;
        assert!(matches!(code, ErrorCode::LimitExceeded | ErrorCode::Invalid), "{name}: {code:?}");
    }
}

/// There is no code in them, and their number is known when they are compiled; what that takes has its own limits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn components_that_multiply_are_ended_while_they_are_compiled() {
    let compile_memory_max_bytes = 512 << 20;
    let runtime =
        isolated("multiplying", &["compile"], CompileLimits { compile_memory_max_bytes, ..Default::default() });
    let globals = program("", &"(global i32 (i32.const 0))".repeat(70_000), "");
    let too_large = "the component declares an instance of more than 1048576 bytes besides its memories and tables \
        (INSTANCE_BYTES_MAX); make it of fewer components, functions and globals";
    let too_much = "compiling the component needs more than 536870912 bytes of memory (compile_memory_max_bytes)";
    for (name, component, expect) in [
        ("globals", globals, too_large),
        ("a hundred thousand", multiplying(None, 17), too_large),
        ("without end", multiplying(None, 40), too_much),
    ] {
        let error = runtime.load(&component).await.unwrap_err().to_string();
        assert!(error.starts_with(expect), "{name}: {error:?}, not {expect:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn growing_a_table() {
    let _alone = ALONE.lock().await;
    let host = Host::new().await;
    let program = host.runtime.load(&table_that_grows()).await.unwrap();
    let expect = "limit-exceeded: the run needs 102401 table elements and may have 100000 (table_elements_max); make the \
        program use less, or run with a higher table_elements_max";
    check_beside(&host, "growing a table", || host.start_program(&program), expect).await;
}

#[test]
fn memory_is_back_after() {
    alone("bombs::alone_memory_is_back_after");
}

#[ignore = "the test above runs it"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alone_memory_is_back_after() {
    let host = Host::new().await;
    let growing = host.runtime.load(&table_that_grows()).await.unwrap();
    let bombs = bombs();
    // The first rounds bring what stays: the pool's warm slots, the allocator's arenas.
    const SETTLING: usize = 3;
    const ROUNDS: usize = 10;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        for (_, component, _) in &bombs {
            host.runtime.load(component).await.unwrap_err();
        }
        // A table at its limit takes 800 kB.
        for _ in 0..20 {
            finish(host.start_program(&growing)).await.result.unwrap_err();
        }
        host.settle().await;
        rounds.push(resident_bytes());
    }
    // One table that was left behind each time would add 112 MB over these rounds.
    let growth = rounds[ROUNDS - 1].saturating_sub(rounds[SETTLING - 1]);
    assert!(growth < 32 << 20, "resident bytes after each round: {rounds:?}");
}
