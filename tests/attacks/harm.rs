//! Each attack ends with its exact error, while a neighbour answers and one that began before it goes on after it.

use std::time::Duration;

use sglhost_core::Event;
use sglhost_core::limits::RunLimits;
use sglhost_runtime::Run;
use sglhost_tests::hostile::resident_bytes;
use tokio::sync::Mutex;

use crate::host::{Host, finish, limits};
use crate::isolation::alone;

/// One at a time: memory is measured.
pub(crate) static ALONE: Mutex<()> = Mutex::const_new(());

/// Runs `attack` beside neighbours and compares the beginning of its error.
async fn check_with(attack: &str, limits: RunLimits, expect: &str) {
    let _alone = ALONE.lock().await;
    let host = Host::new().await;
    check_beside(&host, attack, || host.start_with(attack, limits, None), expect).await;
}

/// The same of a run of any program, on a host whose gate is closed.
pub(crate) async fn check_beside(host: &Host, attack: &str, start: impl FnOnce() -> Run, expect: &str) {
    let waiting = host.start("gate");
    let attacker = tokio::spawn(finish(start()));
    loop {
        assert_eq!(host.result("answer").await, "\"<13>\"", "a neighbour of {attack}");
        if attacker.is_finished() {
            break;
        }
    }
    let end = attacker.await.unwrap();
    let error = end.result.unwrap_err().to_string();
    assert!(error.starts_with(expect), "{attack} ended with {error:?}, not {expect:?}");
    host.engine.open_gate();
    assert_eq!(finish(waiting).await.result, Ok("\"<4>\"".to_owned()), "a neighbour from before {attack}");
    host.settle().await;
    assert_eq!(host.result("answer").await, "\"<13>\"", "a run after {attack}");
}

async fn check(attack: &str, expect: &str) {
    check_with(attack, limits(), expect).await;
}

const WORKERS: usize = 2;

macro_rules! attacks {
    ($($name:ident: $attack:literal => $expect:literal;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            check($attack, $expect).await;
        })*
    };
}

attacks! {
    looping: "loop" => "limit-exceeded: the run used its 0.3 s of CPU time (cpu_budget); make the program do less between \
        its calls, or run with a higher cpu_budget";
    eating_memory: "memory" => "limit-exceeded: the run needs ";
    recursing: "recursion" => "limit-exceeded: the run used its 1048576 bytes of stack (stack_max_bytes); make the program \
        recurse less, or run the host with a higher stack_max_bytes";
    opening_contexts: "contexts" => "limit-exceeded: the run has 20 contexts open, as many as it may (contexts_max); drop \
        some before opening more, or run with a higher contexts_max";
    forking: "forks" => "limit-exceeded: the run has 20 contexts open, as many as it may (contexts_max)";
    starting_calls: "calls" => "limit-exceeded: the run has 30 calls pending, as many as it may (pending_calls_max); wait \
        for some to finish before starting more, or run with a higher pending_calls_max";
    starting_scores: "scores" => "limit-exceeded: the run has 30 calls pending, as many as it may (pending_calls_max)";
    queueing: "operations" => "limit-exceeded: the run has 500 operations queued on its contexts, as many as it may \
        (queued_operations_max)";
    forking_and_dropping: "dropped-forks" => "limit-exceeded: the run has 500 operations queued on its contexts, as many \
        as it may (queued_operations_max)";
    opening_and_dropping: "dropped-contexts" => "limit-exceeded: the run ";
    holding: "handles" => "limit-exceeded: the run holds 200 options, constraints, calls, outcomes and images, as many as \
        it may (handles_max); drop some before making more, or run with a higher handles_max";
    opening_streams: "streams" => "limit-exceeded: the run holds 2388 handles of all kinds, streams and futures among them, \
        as many as it may (200 of them by handles_max); drop some before making more, or run with a higher handles_max";
    opening_streams_and_dropping_one_end: "half-streams" => "limit-exceeded: the run holds 2388 handles of all kinds";
    constraining: "constraints" => "limit-exceeded: the run holds 200 options, constraints,";
    appending: "text" => "limit-exceeded: 1048576 bytes more would pass the 8388608 bytes of text, options and results \
        that the host keeps for a run (held_bytes_max)";
    emitting: "emit" => "limit-exceeded: emitting 65541 bytes more than the 983115 so far passes the 1048576 bytes that a \
        run may emit (emitted_bytes_max); emit less, or run with a higher emitted_bytes_max";
    spending_tokens: "tokens" => "limit-exceeded: the call needs up to ";
    returning_much: "result" => "limit-exceeded: the program's result has 2097154 bytes and may have 1048576 \
        (result_bytes_max)";
    returning_nonsense: "not-json" => "invalid: the program's result is not JSON: ";
    returning_an_error: "error" => "program: of its own";
    returning_an_unknown_code: "error-code" => "program: odd: of its own";
    panicking: "panic" => "trap: the program trapped: wasm `unreachable` instruction executed (a panic or an abort ends so";
    recursing_in_memory: "recursion-in-memory" => "trap: the program trapped: out of bounds memory access (deep recursion \
        ends so in most languages";
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_ever() {
    let limits = RunLimits { wall_deadline: Duration::from_millis(200), ..limits() };
    let expect = "deadline-exceeded: the run took longer than its 0.2 s (wall_deadline); ask less of it, or run with a \
        higher wall_deadline";
    check_with("wait", limits.clone(), expect).await;
    // A guest that spins does not keep the clock from being looked at.
    let spins = RunLimits { cpu_budget: Duration::from_secs(1000), ..limits };
    check_with("loop", spins, expect).await;
}

/// Each is of a call that ended and was dropped, so that no other limit counts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeping_streams_of_calls() {
    let limits = RunLimits { cpu_budget: Duration::from_secs(10), tokens_max: 100_000, ..limits() };
    check_with("text-streams", limits, "limit-exceeded: the run holds 2388 handles of all kinds").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_looping_runs_share_the_machine() {
    let _alone = ALONE.lock().await;
    let host = Host::new().await;
    let spinning: Vec<_> = (0..3 * WORKERS).map(|_| host.start("loop")).collect();
    assert_eq!(host.result("answer").await, "\"<13>\"");
    for run in spinning {
        let error = finish(run).await.result.unwrap_err();
        assert!(error.message.starts_with("the run used its 0.3 s of CPU time"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emitting_to_a_slow_reader_waits() {
    let _alone = ALONE.lock().await;
    let host = Host::new().await;
    let mut run = host.start("emit-unawaited");
    // Read nothing until the guest has as many pieces pending as it may; then its error comes after those.
    while run.events.len() < 8 {
        tokio::task::yield_now().await;
    }
    let mut emitted = 0;
    let result = loop {
        match run.events.recv().await.unwrap() {
            Event::Emit { .. } => emitted += 1,
            Event::RunFinished { result, .. } => break result,
            _ => {}
        }
    };
    // With a reader that keeps up, it is the CPU budget that ends it.
    let error = result.unwrap_err().message;
    let expected = ["the run has 30 calls pending", "the run used its 0.3 s of CPU time"];
    assert!(expected.iter().any(|expected| error.starts_with(expected)), "{error} after {emitted}");
}

#[test]
fn memory_is_back_after() {
    alone("harm::alone_memory_is_back_after");
}

#[ignore = "the test above runs it"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alone_memory_is_back_after() {
    let host = Host::new().await;
    let attacks =
        ["memory", "contexts", "forks", "calls", "operations", "text", "emit", "recursion", "handles", "streams"];
    // The first rounds bring what stays: the pool's warm slots, the allocator's arenas.
    const SETTLING: usize = 3;
    const ROUNDS: usize = 10;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        for attack in attacks {
            host.run(attack).await.result.unwrap_err();
        }
        host.settle().await;
        rounds.push(resident_bytes());
    }
    // One attack that left its 32 MiB behind would add 224 MiB over these rounds, one of 8 MiB 56.
    let growth = rounds[ROUNDS - 1].saturating_sub(rounds[SETTLING - 1]);
    assert!(growth < 32 << 20, "resident bytes after each round: {rounds:?}");
}
