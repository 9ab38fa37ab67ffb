//! `sglhost run --server` and `sglhost logs`: a run on a server, shown as one here is.

use serde_json::{Map, Value};
use sglhost_core::RunId;
use sglhost_engine::SystemClock;

use super::{ask, batch, described, naming};
use crate::{
    client::{Client, RemoteRun, run_record},
    command::{
        run::arguments,
        show::{Follow, OnInterrupt, Show, Told},
    },
    config::{Mode, OutputMode, RemoteRunConfig},
    engine::entropy,
    environment::Environment,
    explain,
    failure::Failure,
    flags::LogsFlags,
    interrupt::Interrupt,
    render::{note, print},
};

/// Runs a program once, or once per line of a batch.
///
/// # Errors
/// Whatever keeps the program from a good end.
pub(crate) async fn run(config: RemoteRunConfig, interrupt: &Interrupt) -> Result<(), Failure> {
    let client = &config.client;
    let (description, program) = described(client, config.program.clone(), interrupt).await?;
    let (output, object, words) = match &config.mode {
        Mode::Batch { text, concurrency } => {
            return batch::run(&config, &description, program, text, *concurrency, interrupt).await;
        }
        Mode::One { output, object, words } => (*output, object, words),
    };
    let arguments = arguments(&description, object, words)?;
    let run = request(&config.request, &arguments);
    if config.detach {
        let (entropy, mut key) = (entropy(), String::new());
        for _ in 0..2 {
            key += &format!("{:016x}", entropy());
        }
        let started = ask(client, interrupt, move |client| client.start_detached(&program, run, &key)).await?;
        print(&format!("{}\n", started.id))?;
        let words = format!("{}{}", started.id, config.server_flag);
        note(&format!("`sglhost logs {words}` shows it, `sglhost cancel {words}` ends it"));
        return Ok(());
    }
    let clock = SystemClock::default();
    let on_interrupt = OnInterrupt::Cancel;
    let show = Show { output, stats: config.stats, startup: None, on_interrupt, clock: &clock };
    show.show(&mut RemoteRun::start(client, program, run), interrupt).await
}

/// A run in a request's words.
pub(super) fn request(common: &Map<String, Value>, arguments: &Map<String, Value>) -> Value {
    let mut request = common.clone();
    request.insert("arguments".to_owned(), Value::Object(arguments.clone()));
    Value::Object(request)
}

/// Shows a run that is or was, from its first event on.
///
/// # Errors
/// There is none, or it ended with an error.
pub(super) async fn logs(
    client: &Client,
    flags: &LogsFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let output = OutputMode::new(&flags.output, environment);
    let clock = SystemClock::default();
    let on_interrupt = OnInterrupt::Leave;
    let show = Show { output, stats: flags.output.stats, startup: None, on_interrupt, clock: &clock };
    match show.show(&mut RemoteRun::follow(client, flags.run), interrupt).await {
        Err(Failure::Client(error)) if error.is_gone() && output != OutputMode::Events => {
            if matches!(output, OutputMode::Text { .. }) {
                note(&format!("note: the server keeps the text of run {} no more; this is what came of it", flags.run));
            }
            record(client, flags.run, interrupt).await
        }
        shown => naming(flags.run, shown),
    }
}

/// Prints what a run left, where its events are forgotten.
async fn record(client: &Client, run: RunId, interrupt: &Interrupt) -> Result<(), Failure> {
    let run = ask(client, interrupt, move |client| client.get::<Value>(&format!("/v1/runs/{run}"))).await?;
    let record = run_record(run);
    print(&format!("{}\n", record.to_json_pretty()))?;
    match record.error() {
        None => Ok(()),
        Some(error) => Err(Failure::Run(error.clone())),
    }
}

impl Follow for RemoteRun {
    async fn next(&mut self) -> Result<Option<Told>, Failure> {
        let next = RemoteRun::next(self).await?;
        Ok(next.map(|(event, at_ms)| Told { event: explain::remote_event(event), at_ms }))
    }

    fn cancel(&mut self) {
        RemoteRun::cancel(self);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_has_what_was_given() {
        let common = json!({"seed": 7});
        let arguments = json!({"question": "why?"});
        let (Value::Object(common), Value::Object(arguments)) = (common, arguments) else { return };
        assert_eq!(request(&common, &arguments), json!({"seed": 7, "arguments": {"question": "why?"}}));
    }
}
