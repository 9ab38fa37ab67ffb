//! A call between its context's task, which carries it out, and the guest, which reads or drops it.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use sglhost_core::{CallId, Error, ErrorCode};
use sglhost_engine::Outcome;
use tokio_util::sync::CancellationToken;

use crate::host::RunShared;
use crate::ledger::{Held, Share};

/// An outcome and the share of the run's bytes that it takes.
#[derive(Debug)]
pub(crate) struct KeptOutcome {
    pub(crate) outcome: Outcome,
    pub(crate) _bytes: Share,
}

/// How a call ended.
pub(crate) type CallResult = Result<Arc<KeptOutcome>, Error>;

/// What both sides see of a call.
#[derive(Debug)]
pub(crate) struct CallState {
    pub(crate) id: CallId,
    /// The name of its result.
    pub(crate) name: Option<String>,
    cancel: CancellationToken,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    /// Delivered so far.
    text: String,
    result: Option<CallResult>,
    /// It is the context's turn to carry it out; until then, cancelling it needs nobody's help.
    started: bool,
    /// The stream of its text was given out.
    text_taken: bool,
    /// Whoever waits for text or for the end: a few at most, the guest is one thread.
    waiting: Vec<Waker>,
    /// One of the run's pending calls, until it ends.
    pending: Option<Share>,
}

impl CallState {
    /// A call of `run`, counted as pending from here on.
    pub(crate) fn new(run: &RunShared, name: Option<String>) -> Result<Arc<Self>, Error> {
        let pending = run.ledger.take(Held::Calls, 1)?;
        Ok(Arc::new(Self {
            id: run.new_call(),
            name,
            cancel: run.stop.child_token(),
            progress: Mutex::new(Progress {
                text: String::new(),
                result: None,
                started: false,
                text_taken: false,
                waiting: Vec::new(),
                pending: Some(pending),
            }),
        }))
    }

    /// The call's end, once it is there.
    pub(crate) async fn finished(&self) -> CallResult {
        poll_fn(|context| {
            let mut progress = self.progress();
            match &progress.result {
                Some(result) => Poll::Ready(result.clone()),
                None => progress.wait(context),
            }
        })
        .await
    }

    /// The text from byte `read` on, which moves to its end; none when the call is over and all was read.
    pub(crate) fn poll_text(&self, context: &mut Context<'_>, read: &mut usize) -> Poll<Option<String>> {
        let mut progress = self.progress();
        if progress.text.len() > *read {
            let piece = progress.text[*read..].to_owned();
            *read = progress.text.len();
            return Poll::Ready(Some(piece));
        }
        if progress.result.is_some() { Poll::Ready(None) } else { progress.wait(context) }
    }

    /// Whether there is text from byte `read` on, or the end.
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>, read: usize) -> Poll<()> {
        let mut progress = self.progress();
        if progress.text.len() > read || progress.result.is_some() { Poll::Ready(()) } else { progress.wait(context) }
    }

    /// Takes the right to the call's one stream.
    pub(crate) fn take_text(&self) -> Result<(), Error> {
        if std::mem::replace(&mut self.progress().text_taken, true) {
            return Err(Error::invalid("the text of a call can be read once; the outcome has all of it"));
        }
        Ok(())
    }

    /// Asks it to end; one whose turn has not come ends at once.
    pub(crate) fn cancel(&self) {
        {
            let mut progress = self.progress();
            if !progress.started {
                progress.finish(Err(cancelled()));
            }
        }
        self.cancel.cancel();
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    fn wait<T>(&mut self, context: &Context<'_>) -> Poll<T> {
        if !self.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            self.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// The first end counts.
    fn finish(&mut self, result: CallResult) {
        if self.result.is_none() {
            self.result = Some(result);
            self.pending = None;
            self.wake();
        }
    }

    fn wake(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

fn cancelled() -> Error {
    Error::new(ErrorCode::Cancelled, "the call was cancelled; its context keeps the text delivered before that")
}

/// The carrying-out side of a call. One that is dropped ends the call, so that nobody waits for ever.
#[derive(Debug)]
pub(crate) struct CallTicket(pub(crate) Arc<CallState>);

impl CallTicket {
    /// Its turn has come; false if it was cancelled before.
    pub(crate) fn start(&self) -> bool {
        let mut progress = self.0.progress();
        progress.started = true;
        progress.result.is_none()
    }

    /// Resolves when the guest, or the end of the run, asks for its end.
    pub(crate) async fn cancelled(&self) {
        self.0.cancel.cancelled().await;
    }

    pub(crate) fn deliver(&self, text: &str) {
        let mut progress = self.0.progress();
        progress.text.push_str(text);
        progress.wake();
    }

    pub(crate) fn finish(self, result: CallResult) {
        self.0.progress().finish(result);
    }

    /// The error of a call that was asked to end.
    pub(crate) fn cancelled_error() -> Error {
        cancelled()
    }
}

impl Drop for CallTicket {
    fn drop(&mut self) {
        self.0.progress().finish(Err(Error::unavailable("the call was abandoned: its run ended")));
    }
}

/// The guest's side: dropping it cancels a call that is not finished.
#[derive(Debug)]
pub(crate) struct CallGuard(pub(crate) Arc<CallState>);

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
