//! Many runs at once over the real engine: nothing fails, every run has one end, and all is back after. (At length and
//! with figures: `tests/perf/serve_load.rs`.)

use std::fs;
use std::time::Duration;

use serde_json::json;
use sglhost_core::limits::{EngineLimits, HostLimits};
use sglhost_tests::load::Load;
use sglhost_tests::scripted_model::ScriptedModel;
use sglhost_tests::server::Setup;

use crate::house::{compiled, component};

const RUNS: u32 = 100;

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_runs_at_once_end_well_and_leave_nothing() {
    let engine = ScriptedModel::new(20_000, Duration::from_millis(1)).engine(EngineLimits::gpu());
    let metrics: Vec<_> = engine.metrics().cloned().collect();
    let mut setup = Setup::new(engine as _);
    setup.metrics.clone_from(&metrics);
    setup.run_limits.cpu_budget = Duration::from_secs(10);
    setup.host_limits = HostLimits { concurrent_runs_max: RUNS, ..HostLimits::default() };
    let server = setup.start(&compiled()).await;
    server.upload("", "attacks", &component()).await;
    let load = Load::forking(server.address, RUNS as usize, Duration::ZERO, 8);
    for round in 0..3 {
        let seen = load.run().await;
        assert_eq!(seen.failures, [""; 0], "round {round}");
        assert_eq!(seen.runs, RUNS as usize, "round {round}");
        server.settle().await;
        assert_eq!(server.runtime.live_runs(), 0);
        assert_eq!(metrics[0].running.get() + metrics[0].queued.get(), 0, "sequences that nobody waits for");
        assert_eq!(metrics[0].token_usage.get(), 0.0, "slots that somebody still holds");
    }
    // More clients than places: some are asked back, and come through.
    let before = open_files();
    let crowd = Load { clients: 2 * RUNS as usize, time: Duration::from_secs(2), ..load };
    let seen = crowd.run().await;
    assert_eq!(seen.failures, [""; 0]);
    assert!(seen.refused > 0 && seen.runs > RUNS as usize, "{} refused, {} ran", seen.refused, seen.runs);
    server.settle().await;
    let usage = server.get("", "/v1/usage").await.json();
    assert_eq!(usage["total"]["runs"], json!(seen.runs + 3 * RUNS as usize), "each was taken down once");
    // The store's own files, and those of other tests in this process, come and go: a connection left behind by each
    // run would be hundreds.
    assert!(open_files() < before + 100, "{before} files before, {} after", open_files());
    server.stop().await;
}
