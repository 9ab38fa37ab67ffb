//! Programs that do harm, uploaded and run over HTTP: each run says its exact error, while a neighbour is answered.

use std::sync::Arc;

use serde_json::{Value, json};
use sglhost_core::limits::RunLimits;
use sglhost_tests::hostile::{self, resident_bytes};
use tokio::sync::Mutex;

use crate::house::House;

/// One at a time: memory is measured, and CPU time has a budget.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn check_with(attack: &'static str, limits: Option<RunLimits>, code: &str, message: &str) {
    let _alone = ALONE.lock().await;
    let house = Arc::new(House::with(|setup| setup.run_limits = limits.unwrap_or(setup.run_limits.clone())).await);
    let waiting = house.server.detach(&house.alice, "gate").await;
    let attacker = tokio::spawn({
        let house = Arc::clone(&house);
        async move { house.server.attack(&house.mallory, attack).await }
    });
    while !attacker.is_finished() {
        house.neighbour(attack).await;
    }
    let run = attacker.await.unwrap();
    assert_eq!((&run["status"], &run["error"]["code"]), (&Value::from("failed"), &Value::from(code)), "{run}");
    let said = run["error"]["message"].as_str().unwrap();
    assert!(said.starts_with(message), "{attack}: {said}");
    // The store says the same.
    let id = run["id"].as_str().unwrap();
    assert_eq!(house.server.get(&house.mallory, &format!("/v1/runs/{id}")).await.json(), run);
    house.engine.open_gate();
    let last = house.server.follow(&house.alice, &waiting).await.rest().await.pop().unwrap();
    assert!(last.data.contains("<4>"), "a neighbour from before {attack}: {}", last.data);
    house.settle(attack).await;
}

macro_rules! attacks {
    ($($name:ident: $attack:literal => $code:literal, $message:literal;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            check_with($attack, None, $code, $message).await;
        })*
    };
}

attacks! {
    looping: "loop" => "limit-exceeded", "the run used its 0.3 s of CPU time (cpu_budget)";
    eating_memory: "memory" => "limit-exceeded", "the run needs ";
    recursing: "recursion" => "limit-exceeded", "the run used its 1048576 bytes of stack (stack_max_bytes)";
    recursing_in_memory: "recursion-in-memory" => "trap", "the program trapped: out of bounds memory access";
    opening_contexts: "contexts" => "limit-exceeded", "the run has 20 contexts open";
    forking: "forks" => "limit-exceeded", "the run has 20 contexts open";
    starting_calls: "calls" => "limit-exceeded", "the run has 30 calls pending";
    starting_scores: "scores" => "limit-exceeded", "the run has 30 calls pending";
    queueing: "operations" => "limit-exceeded", "the run has 500 operations queued";
    forking_and_dropping: "dropped-forks" => "limit-exceeded", "the run has 500 operations queued";
    opening_and_dropping: "dropped-contexts" => "limit-exceeded", "the run ";
    holding: "handles" => "limit-exceeded", "the run holds 200 options, constraints,";
    opening_streams: "streams" => "limit-exceeded", "the run holds 2388 handles of all kinds, streams and futures among them";
    opening_streams_and_dropping_one_end: "half-streams" => "limit-exceeded", "the run holds 2388 handles of all kinds";
    constraining: "constraints" => "limit-exceeded", "the run holds 200 options, constraints,";
    appending: "text" => "limit-exceeded", "1048576 bytes more would pass the 8388608 bytes of text";
    emitting: "emit" => "limit-exceeded", "emitting 65541 bytes more than the 983115 so far passes the 1048576 bytes";
    spending_tokens: "tokens" => "limit-exceeded", "the call needs up to ";
    returning_much: "result" => "limit-exceeded", "the program's result has 2097154 bytes and may have 1048576";
    returning_nonsense: "not-json" => "invalid", "the program's result is not JSON: ";
    returning_an_error: "error" => "program", "of its own";
    returning_an_unknown_code: "error-code" => "program", "odd: of its own";
    panicking: "panic" => "trap", "the program trapped: wasm `unreachable` instruction executed";
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_ever() {
    let wall_deadline = std::time::Duration::from_millis(300);
    let limits = RunLimits { wall_deadline, ..sglhost_tests::server::attacked() };
    let _alone = ALONE.lock().await;
    let house = House::with(|setup| setup.run_limits = limits).await;
    let run = house.server.attack(&house.mallory, "wait").await;
    assert_eq!(run["error"]["code"], "deadline-exceeded", "{run}");
    house.settle("wait").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_loops_beside_a_neighbour() {
    let _alone = ALONE.lock().await;
    let house = House::new().await;
    let mut loops = Vec::new();
    for _ in 0..6 {
        loops.push(house.server.detach(&house.mallory, "loop").await);
    }
    house.neighbour("six loops").await;
    for run in loops {
        let last = house.server.follow(&house.mallory, &run).await.rest().await.pop().unwrap();
        assert!(last.data.contains("limit-exceeded"), "{}", last.data);
    }
    house.settle("six loops").await;
}

/// What a run writes beyond its limit is dropped, and it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logging_much() {
    let _alone = ALONE.lock().await;
    let house = House::new().await;
    let run = house.server.attack(&house.mallory, "log-much").await;
    assert_eq!(run["status"], "succeeded", "{run}");
    let events = house.server.follow(&house.mallory, run["id"].as_str().unwrap()).await.rest().await;
    let bytes: usize = events.iter().map(|event| event.data.len()).sum();
    assert!(bytes < 256 << 10, "{bytes} bytes of events");
    house.settle("logging much").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regex_bombs() {
    let codes = constraint_bombs("regex-bombs").await;
    // What an automaton that is built as it is needed can hold is taken, and bounded when it is used.
    let known = ["limit-exceeded", "invalid", "ok"];
    assert!(codes.iter().all(|code| known.contains(&code.as_str())), "{codes:?}");
    assert_eq!(codes[..3], ["limit-exceeded"; 3], "{codes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schema_bombs() {
    let codes = constraint_bombs("schema-bombs").await;
    let schemas = ["limit-exceeded", "limit-exceeded", "ok", "limit-exceeded", "invalid", "ok"];
    assert_eq!(codes, [schemas.as_slice(), &["limit-exceeded", "invalid", "ok"]].concat());
}

/// What each of an attack's constraints was answered, while a neighbour goes on.
async fn constraint_bombs(attack: &'static str) -> Vec<String> {
    let _alone = ALONE.lock().await;
    let cpu_budget = std::time::Duration::from_secs(10);
    let house = House::with(|setup| setup.run_limits = RunLimits { cpu_budget, ..setup.run_limits.clone() }).await;
    let house = Arc::new(house);
    let before = resident_bytes();
    let attacker = tokio::spawn({
        let house = Arc::clone(&house);
        async move { house.server.attack(&house.mallory, attack).await }
    });
    while !attacker.is_finished() {
        house.neighbour(attack).await;
    }
    let run = attacker.await.unwrap();
    let codes = serde_json::from_value(run["result"].clone()).unwrap_or_else(|error| panic!("{error}: {run}"));
    house.settle(attack).await;
    assert!(resident_bytes() < before + (256 << 20), "{before} before, {} after", resident_bytes());
    codes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn growing_a_table() {
    let _alone = ALONE.lock().await;
    let house = House::new().await;
    house.server.upload(&house.mallory, "growing", &hostile::table_that_grows()).await;
    let answer = house.server.post(&house.mallory, "/v1/programs/growing/runs", &json!({"arguments": {}})).await;
    let run = answer.json();
    assert_eq!(run["error"]["code"], "limit-exceeded", "{run}");
    let said = run["error"]["message"].as_str().unwrap();
    assert!(said.starts_with("the run needs 102401 table elements and may have 100000 (table_elements_max)"), "{said}");
    house.settle("a table that grows").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_back_after() {
    let _alone = ALONE.lock().await;
    // Events of ended runs are kept: here of few, so that what is measured is what leaks.
    let house = House::with(|setup| setup.limits.events_bytes_max = 1 << 20).await;
    let attacks =
        ["memory", "contexts", "forks", "calls", "operations", "text", "emit", "recursion", "handles", "result"];
    // The first rounds bring what stays: the pool's warm slots, the allocator's arenas.
    const SETTLING: usize = 3;
    const ROUNDS: usize = 8;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        for attack in attacks {
            assert_eq!(house.server.attack(&house.mallory, attack).await["status"], "failed");
        }
        house.settle("all").await;
        rounds.push(resident_bytes());
    }
    // One attack that left its 32 MiB behind would add 160 MiB over these rounds, one of 8 MiB 40.
    let growth = rounds[ROUNDS - 1].saturating_sub(rounds[SETTLING - 1]);
    assert!(growth < 32 << 20, "resident bytes after each round: {rounds:?}");
}
