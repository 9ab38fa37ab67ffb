//! `sglhost run --server --batch`: the lines of a file, in as many requests as they need.

use serde_json::{Value, json};
use sglhost_core::{Clock as _, RunRecord, limits::ServerLimits};
use sglhost_engine::SystemClock;
use sglhost_runtime::Description;
use tokio::sync::mpsc;

use super::run::request;
use crate::{
    client::{Client, ClientError, run_record},
    command::batch::{Batch, Line, lines},
    config::RemoteRunConfig,
    failure::Failure,
    interrupt::Interrupt,
    render::note,
};

/// Lines of answers that wait to be printed.
const LINES_BUFFERED: usize = 64;

/// A run of the batch.
struct BatchRun {
    /// Its place among the lines of the file that are not blank.
    index: usize,
    /// Its line.
    number: usize,
    request: Value,
}

/// A run that has ended.
struct EndedRun {
    index: usize,
    number: usize,
    record: RunRecord,
}

/// Runs all lines of `text` and prints a JSON line for each.
///
/// # Errors
/// A line failed, the server refused, or standard output was closed.
pub(super) async fn run(
    config: &RemoteRunConfig,
    description: &Description,
    program: String,
    text: &str,
    concurrency: usize,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let lines = lines(description, text);
    if lines.is_empty() {
        note("note: the batch has no lines; nothing is run");
        return Ok(());
    }
    let clock = SystemClock::default();
    let mut batch = Batch::new(lines.len());
    let mut runs = Vec::new();
    for (index, Line { number, arguments }) in lines.into_iter().enumerate() {
        match arguments {
            Ok(arguments) => runs.push(BatchRun { index, number, request: request(&config.request, &arguments) }),
            Err(error) => batch.finished(index, number, RunRecord::failed(error))?,
        }
    }
    let (sender, mut ended) = mpsc::channel(LINES_BUFFERED);
    let client = config.client.clone();
    let limits = ServerLimits::default();
    let concurrency = concurrency.min(limits.batch_concurrency_max);
    // Ends with the process: a read cannot be interrupted.
    std::thread::spawn(move || {
        for part in parts(runs, &limits) {
            if let Err(error) = run_part(&client, &program, part, concurrency, &sender) {
                // Who does not listen any more does not want to know.
                let _ = sender.blocking_send(Err(error));
                return;
            }
            if sender.is_closed() {
                return;
            }
        }
    });
    loop {
        let next = tokio::select! {
            biased;
            () = interrupt.requested() => return Err(Failure::Interrupted),
            next = ended.recv() => next,
        };
        match next {
            None => break,
            Some(Ok(EndedRun { index, number, record })) => batch.finished(index, number, record)?,
            Some(Err(error)) => return Err(error.into()),
        }
    }
    if config.stats {
        batch.print_stats(clock.monotonic(), None);
    }
    batch.outcome()
}

/// The runs in as few requests as the server's limits allow.
fn parts(runs: Vec<BatchRun>, limits: &ServerLimits) -> Vec<Vec<BatchRun>> {
    let mut parts: Vec<Vec<BatchRun>> = Vec::new();
    let mut bytes = 0;
    for run in runs {
        // And its comma, and a share of what is around them all.
        bytes += run.request.to_string().len() + 2;
        match parts.last_mut() {
            Some(part) if part.len() < limits.batch_runs_max && bytes < limits.batch_body_bytes_max / 2 => {
                part.push(run)
            }
            _ => {
                bytes = run.request.to_string().len();
                parts.push(vec![run]);
            }
        }
    }
    parts
}

fn run_part(
    client: &Client,
    program: &str,
    part: Vec<BatchRun>,
    concurrency: usize,
    sender: &mpsc::Sender<Result<EndedRun, ClientError>>,
) -> Result<(), ClientError> {
    let requests: Vec<&Value> = part.iter().map(|run| &run.request).collect();
    let mut lines = client.batch(program, &json!({ "runs": requests, "concurrency": concurrency }))?;
    for run in &part {
        let line = lines.next().ok_or_else(|| client.ended_early())??;
        let record = run_record(line);
        if sender.blocking_send(Ok(EndedRun { index: run.index, number: run.number, record })).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_where_a_limit_is() {
        let runs = |sizes: &[usize]| {
            let run = |(index, size): (usize, &usize)| BatchRun { index, number: 0, request: json!("x".repeat(*size)) };
            sizes.iter().enumerate().map(run).collect()
        };
        let limits = ServerLimits { batch_runs_max: 3, batch_body_bytes_max: 200, ..ServerLimits::default() };
        let check = |sizes: &[usize], expect: &[usize]| {
            let lengths: Vec<usize> = parts(runs(sizes), &limits).iter().map(Vec::len).collect();
            assert_eq!(lengths, expect, "{sizes:?}");
        };
        check(&[], &[]);
        check(&[1, 1, 1, 1], &[3, 1]);
        check(&[50, 50, 50], &[1, 1, 1]);
        check(&[500, 1, 1], &[1, 2]);
        check(&[10, 10, 90], &[2, 1]);
    }
}
