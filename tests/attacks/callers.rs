//! Callers that go away, cancel, or read slowly.

use sglhost_core::{Event, SamplingParams, TenantId};
use sglhost_runtime::RunRequest;

use crate::host::{Host, finish};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_ends_the_run_and_its_calls() {
    for attack in ["wait", "endless", "loop", "calls"] {
        let host = Host::new().await;
        let mut run = host.start(attack);
        run.events.recv().await.unwrap();
        if attack == "wait" || attack == "endless" {
            while host.engine.active() == 0 {
                tokio::task::yield_now().await;
            }
        }
        drop(run);
        host.settle().await;
        assert_eq!(host.engine.cancelled(), host.engine.submitted(), "{attack}");
        assert_eq!(host.result("answer").await, "\"<13>\"", "after {attack}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_says_so() {
    let host = Host::new().await;
    for attack in ["wait", "endless", "loop"] {
        let run = host.start(attack);
        run.cancel();
        let error = finish(run).await.result.unwrap_err();
        assert_eq!(error.to_string(), "cancelled: the run was cancelled by its caller");
        // Cancelled with the call under way.
        let mut run = host.start(attack);
        run.events.recv().await.unwrap();
        while attack != "loop" && host.engine.active() == 0 {
            tokio::task::yield_now().await;
        }
        run.cancel();
        let mut last = None;
        while let Some(event) = run.events.recv().await {
            last = Some(event);
        }
        assert!(matches!(last, Some(Event::RunFinished { result: Err(_), .. })), "{last:?}");
        host.settle().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_up_its_own_run_only() {
    let host = Host::new().await;
    // Text without end, and nobody reads: events (8) and the engine's deltas (4) fill, then all stands still.
    let slow = host.start("endless");
    for _ in 0..20 {
        assert_eq!(host.result("answer").await, "\"<13>\"");
    }
    // One more is on its way from the one channel to the other.
    assert!(host.engine.endless() <= 8 + 4 + 1, "{} pieces that nobody reads", host.engine.endless());
    assert_eq!(host.engine.cancelled(), 0, "it waits, it does not fail");
    slow.cancel();
    assert!(finish(slow).await.result.is_err());
    host.settle().await;
    assert_eq!(host.engine.cancelled(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_beyond_the_limit_wait_their_turn() {
    let host = Host::new().await;
    let waiting: Vec<_> = (0..8).map(|_| host.start("gate")).collect();
    while host.engine.active() < 8 {
        tokio::task::yield_now().await;
    }
    let ninth = host.start("answer");
    assert_eq!(host.runtime.live_runs(), 8);
    host.engine.open_gate();
    for run in waiting {
        assert_eq!(finish(run).await.result, Ok("\"<4>\"".to_owned()));
    }
    assert_eq!(finish(ninth).await.result, Ok("\"<13>\"".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_are_checked_before_the_run() {
    let host = Host::new().await;
    let check = async |arguments: &str, expect: &str| {
        let request = RunRequest {
            tenant: TenantId::local(),
            arguments: arguments.to_owned(),
            defaults: SamplingParams::default(),
            priority: 0,
            limits: None,
            seed: None,
        };
        let end = finish(host.runtime.start(&host.attacks, request)).await;
        assert_eq!(end.result.unwrap_err().to_string(), expect);
        assert_eq!(end.events.len(), 2);
    };
    check("{", "invalid: the arguments are not JSON: EOF while parsing an object at line 1 column 1").await;
    check("[]", "invalid: the arguments are an array; they must be a JSON object").await;
    check("{}", "invalid: argument \"attack\" is missing (which harm); attacks takes it").await;
    check(r#"{"attack": 1}"#, "invalid: argument \"attack\" is 1; it must be of type string").await;
    check(r#"{"attack": "x", "b": 1}"#, "invalid: unknown argument \"b\"; attacks takes attack").await;
}
