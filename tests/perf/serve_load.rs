//! A thousand runs of a forking program at once, over HTTP, round after round: what fails, how long a run waits for its
//! first call, and whether slots, memory and open files are back after each round.
//!
//! `cargo run --release -p sglhost-tests --example serve_load -- [--clients 1000] [--seconds 60] [--rounds 3]
//! [--step-ms 5] [--max-tokens 16] [--max-runs 1000] [--events-mib 32]`
//!
//! The server is a process of its own: the real server, store, runtime, engine, scheduler and cache over a model that
//! follows a script, each of whose passes takes `step-ms`. The clients are this process, on the same machine.

#![allow(clippy::unwrap_used, reason = "a panic is how a measurement fails")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use sglhost_core::limits::{EngineLimits, HostLimits, RunLimits, ServerLimits};
use sglhost_tests::guests;
use sglhost_tests::http::Request;
use sglhost_tests::load::{Load, percentiles};
use sglhost_tests::scripted_model::ScriptedModel;
use sglhost_tests::server::Setup;

/// Tokens of KV memory.
const SLOTS: usize = 200_000;

fn main() {
    let flags: Vec<String> = std::env::args().skip(1).collect();
    if flags.first().is_some_and(|first| first == "server") {
        return server(&flags);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(clients(&flags));
}

fn number(flags: &[String], name: &str, default: u64) -> u64 {
    let at = flags.iter().position(|flag| flag.strip_prefix("--") == Some(name));
    at.map_or(default, |at| flags[at + 1].parse().unwrap())
}

/// Serves until its standard input ends; says where.
fn server(flags: &[String]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // As `sglhost serve` has it: programs run on threads of low priority.
    let guests = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .on_thread_start(|| {
            let _ = rustix::process::nice(10);
        })
        .build()
        .unwrap();
    let step = Duration::from_millis(number(flags, "step-ms", 5));
    let engine = ScriptedModel::new(SLOTS, step).engine(EngineLimits::gpu());
    let mut setup = Setup::new(std::sync::Arc::clone(&engine) as _);
    setup.metrics = engine.metrics().cloned().collect();
    let max_runs = number(flags, "max-runs", 1000);
    // The default keeps 256 MiB of ended runs' events, which takes minutes to fill: memory would seem to grow.
    let events_bytes_max = usize::try_from(number(flags, "events-mib", 32)).unwrap() << 20;
    setup.limits = ServerLimits { events_bytes_max, ..ServerLimits::default() };
    setup.run_limits = RunLimits::default();
    setup.host_limits = HostLimits { concurrent_runs_max: u32::try_from(max_runs).unwrap(), ..HostLimits::default() };
    setup.guests = Some(guests.handle().clone());
    let compiled = std::env::temp_dir().join(format!("sglhost-serve-load-{}", std::process::id()));
    runtime.block_on(async {
        let server = setup.start(&compiled).await;
        println!("{}", server.address);
        let (ended, wait) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            let _ = ended.send(());
        });
        let _ = wait.await;
        server.stop().await;
    });
    let _ = fs::remove_dir_all(compiled);
    guests.shutdown_background();
}

async fn clients(flags: &[String]) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.arg("server").args(flags).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address: SocketAddr = line.trim().parse().unwrap();
    let component = guests::component("tests/attacks/guests", "attacks");
    let uploaded = Request::upload("attacks", &component).send(address).await;
    assert_eq!(uploaded.status(), 201, "{}", uploaded.text());

    let clients = usize::try_from(number(flags, "clients", 1000)).unwrap();
    let time = Duration::from_secs(number(flags, "seconds", 60));
    let max_tokens = u32::try_from(number(flags, "max-tokens", 16)).unwrap();
    let load = Load::forking(address, clients, time, max_tokens);
    println!(
        "| round | runs | a second | failed | 503 | to run.started, ms | from it to the first host call, ms | from the \
         request to call.started, ms | to the end, ms | slots held | files | resident MiB | CPU s |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for round in 0..=number(flags, "rounds", 3) {
        let start = Instant::now();
        let cpu = cpu_seconds(child.id());
        let (seen, refused) = if round == 0 {
            // Warms up: as many runs, once.
            (Load { time: Duration::ZERO, ..load.clone() }.run().await, 0)
        } else {
            let probing = tokio::spawn(probe(address, time));
            (load.run().await, probing.await.unwrap())
        };
        let wall = start.elapsed().as_secs_f64();
        for failure in seen.failures.iter().take(3) {
            println!("failed: {failure:.300}");
        }
        let held = settled(address).await;
        let [start, first, call, end] = [&seen.to_start, &seen.to_first, &seen.to_call, &seen.to_end].map(|times| {
            let [median, high] = percentiles(times);
            format!("{median:.1}, {high:.1}")
        });
        println!(
            "| {round} | {} | {:.0} | {} | {} + {refused} | {start} | {first} | {call} | {end} | {held} | {} | {:.1} | \
             {:.1} |",
            seen.runs,
            seen.runs as f64 / wall,
            seen.failures.len(),
            seen.refused,
            files(child.id()),
            resident(child.id()),
            cpu_seconds(child.id()) - cpu,
        );
        std::io::stdout().flush().unwrap();
    }
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

/// Asks for one run more than there are, ten times a second; gives how often that was refused.
async fn probe(address: SocketAddr, time: Duration) -> usize {
    let body = json!({"arguments": {"attack": "answer"}, "sampling": {"max_tokens": 1}, "detach": true});
    let request = Request::post("/v1/programs/attacks/runs", &body);
    let (start, mut refused) = (Instant::now(), 0);
    while start.elapsed() < time {
        refused += usize::from(request.send(address).await.status() == 503);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    refused
}

/// Waits until no run is under way; gives the share of slots that somebody still holds.
async fn settled(address: SocketAddr) -> String {
    loop {
        let text = Request::get("/metrics").send(address).await.text();
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        if value("sglhost_live_runs ") == "0" && value("sglhost_running_sequences ") == "0" {
            return value("sglhost_token_usage ");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn files(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

fn resident(process: u32) -> f64 {
    let pages = fs::read_to_string(format!("/proc/{process}/statm")).unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 256.0
}

fn cpu_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // utime and stime, in hundredths.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
