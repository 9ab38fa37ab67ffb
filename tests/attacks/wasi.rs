//! What of the machine a program sees: its clock, randomness and output, as the host hands them in, and nothing else.

use sglhost_core::Event;
use sglhost_core::event::LogStream;

use crate::host::{Host, WALL, finish, limits};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_becomes_events() {
    let host = Host::new().await;
    let end = host.run("log").await;
    assert_eq!(end.result, Ok("true".to_owned()));
    let logs: Vec<(LogStream, &str)> = end.events.iter().filter_map(log).collect();
    assert_eq!(logs, [(LogStream::Stdout, "out ü\n"), (LogStream::Stderr, "err\n")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_without_end_is_dropped() {
    let host = Host::new().await;
    let end = host.run("log-much").await;
    assert_eq!(end.result, Ok("true".to_owned()), "a program does not fail for what it logs");
    let text: String = end.events.iter().filter_map(log).map(|(_, text)| text).collect();
    let notice = "\n[the run wrote more than 1048576 bytes of output (log_bytes_max); the rest is dropped]\n";
    assert_eq!(text.len(), (1 << 20) + notice.len());
    assert!(text.ends_with(notice));
}

fn log(event: &Event) -> Option<(LogStream, &str)> {
    match event {
        Event::Log { stream, text } => Some((*stream, text)),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clock_and_randomness_are_handed_in() {
    let host = Host::new().await;
    assert_eq!(host.result("wall-clock").await, WALL.as_secs().to_string());
    let draw = async |seed| finish(host.start_with("random", limits(), seed)).await.result.unwrap();
    let first = draw(Some(7)).await;
    assert_eq!(draw(Some(7)).await, first);
    assert_ne!(draw(Some(8)).await, first);
    assert_ne!(draw(None).await, draw(None).await);
    assert!(host.run("random-much").await.result.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_else_is_there() {
    let host = Host::new().await;
    assert_eq!(host.result("surroundings").await, "[0, 0, 0]");
    let error = host.run("exit").await.result.unwrap_err().to_string();
    assert_eq!(error, "trap: the program exited with status 1 instead of returning (its output may say why)");
}
