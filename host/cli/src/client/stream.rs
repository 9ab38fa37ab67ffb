//! A run on a server as a stream of events, read by a thread of its own.

use std::{io::BufRead, thread, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use sglhost_core::{Event, RunId};
use tokio::sync::mpsc;

use super::{
    Client, ClientError,
    error::io_reason,
    events::{Sent, SentEvents},
};

/// Events that the terminal may lag behind; more wait in the connection, which makes the run wait.
const EVENTS_BUFFERED: usize = 256;
/// Pauses between attempts to get a broken connection back: half a minute together.
const PAUSES_MS: [u64; 8] = [100, 400, 1_000, 2_000, 4_000, 6_000, 8_000, 10_000];

/// What the thread tells.
#[derive(Debug)]
enum Message {
    Started(RunId),
    Event(Box<(Event, Option<u64>)>),
    Failed(ClientError),
}

/// When an event was.
#[derive(Deserialize)]
struct At {
    at_ms: Option<u64>,
}

/// The events of a run on a server.
#[derive(Debug)]
pub(crate) struct RemoteRun {
    client: Client,
    id: Option<RunId>,
    messages: mpsc::Receiver<Message>,
    cancelled: bool,
}

impl RemoteRun {
    /// Starts a run that lives as long as the process and its connection do.
    pub(crate) fn start(client: &Client, program: String, run: Value) -> Self {
        Self::on_thread(client, None, move |client, sender| attend(client, &program, &run, sender))
    }

    /// Follows a run from its first event; a connection that breaks is made again.
    pub(crate) fn follow(client: &Client, run: RunId) -> Self {
        Self::on_thread(client, Some(run), move |client, sender| follow(client, run, sender))
    }

    fn on_thread(
        client: &Client,
        id: Option<RunId>,
        work: impl FnOnce(&Client, &mpsc::Sender<Message>) -> Result<(), ClientError> + Send + 'static,
    ) -> Self {
        let (sender, messages) = mpsc::channel(EVENTS_BUFFERED);
        let own = client.clone();
        // Ends with the process: a read cannot be interrupted.
        thread::spawn(move || {
            if let Err(error) = work(&own, &sender) {
                // Nobody listens any more: nobody wants to know.
                let _ = sender.blocking_send(Message::Failed(error));
            }
        });
        Self { client: client.clone(), id, messages, cancelled: false }
    }

    /// The next event, with when it was in milliseconds since the run began; none after the last. Safe to drop and call
    /// again.
    ///
    /// # Errors
    /// The server refused, or the connection broke for good.
    pub(crate) async fn next(&mut self) -> Result<Option<(Event, Option<u64>)>, ClientError> {
        loop {
            match self.messages.recv().await {
                None => return Ok(None),
                Some(Message::Started(id)) => {
                    self.id = Some(id);
                    if self.cancelled {
                        self.cancel();
                    }
                }
                Some(Message::Event(event)) => return Ok(Some(*event)),
                Some(Message::Failed(error)) => return Err(error),
            }
        }
    }

    /// Asks the server to end the run. Its events go on until the last.
    pub(crate) fn cancel(&mut self) {
        self.cancelled = true;
        // Not known yet: as soon as it is.
        let Some(id) = self.id else { return };
        let client = self.client.clone();
        // If it fails the run is not told to end, and another Ctrl-C ends the connection, which the server understands.
        thread::spawn(move || client.cancel(id));
    }
}

fn attend(client: &Client, program: &str, run: &Value, sender: &mpsc::Sender<Message>) -> Result<(), ClientError> {
    let (id, body) = client.start_attached(program, run)?;
    if sender.blocking_send(Message::Started(id)).is_err() {
        return Ok(());
    }
    pass_on(body, sender, &mut 0).map_err(|reason| client.broken(reason, true))
}

fn follow(client: &Client, run: RunId, sender: &mpsc::Sender<Message>) -> Result<(), ClientError> {
    let (mut last_id, mut was_there) = (0, false);
    let mut pauses = PAUSES_MS.iter();
    loop {
        let before = last_id;
        let broke = match client.events(run, last_id) {
            Ok(body) => {
                was_there = true;
                match pass_on(body, sender, &mut last_id) {
                    Ok(()) => return Ok(()),
                    Err(reason) => client.broken(reason, false),
                }
            }
            // Who could not be reached at all is told at once.
            Err(error) if !was_there || !error.is_passing() => return Err(error),
            Err(error) => error,
        };
        if last_id > before {
            pauses = PAUSES_MS.iter();
        }
        let Some(pause) = pauses.next() else { return Err(broke) };
        thread::sleep(Duration::from_millis(*pause));
    }
}

/// Sends a body's events on and keeps their last number. Ends well with the run's last event, or when nobody listens.
fn pass_on(body: impl BufRead, sender: &mpsc::Sender<Message>, last_id: &mut u64) -> Result<(), String> {
    for sent in SentEvents(body) {
        let Sent { id, data } = sent.map_err(|error| io_reason(&error))?;
        *last_id = id.unwrap_or(*last_id);
        // One of a kind that this version does not know says nothing to it.
        let Ok(event) = serde_json::from_str::<Event>(&data) else { continue };
        let is_last = matches!(event, Event::RunFinished { .. });
        // A server from before events had times says none.
        let at_ms = serde_json::from_str::<At>(&data).ok().and_then(|at| at.at_ms);
        if sender.blocking_send(Message::Event(Box::new((event, at_ms)))).is_err() || is_last {
            return Ok(());
        }
    }
    Err("it ended before the run did".to_owned())
}
