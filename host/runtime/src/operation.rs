//! What can be queued on a context.

use std::sync::Arc;

use sglhost_core::{ChoicesMethod, ContextId, Error, SamplingParams, TokenId};
use tokio::sync::{mpsc, oneshot};

use crate::call::CallTicket;
use crate::constraints::ConstraintSource;
use crate::ledger::Share;
use crate::queue::ContextShared;

/// Where the answer to a question goes; nobody may be listening any more.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// An operation in a context's queue.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) operation: Operation,
    /// One of the run's queued operations.
    pub(crate) _place: Share,
    /// Bytes that only this operation holds: choices, text to score. Appended text is the context's from the start.
    pub(crate) _bytes: Option<Share>,
}

/// What takes effect on a context in the order made.
#[derive(Debug)]
pub(crate) enum Operation {
    Append(String),
    AppendMarkup(String),
    AppendTokens(Vec<TokenId>),
    BeginRole(String),
    EndRole,
    Call {
        ticket: CallTicket,
        wanted: Wanted,
    },
    Fork(Box<Fork>),
    Truncate {
        tokens: usize,
        reply: Reply<()>,
    },
    TokenCount {
        reply: Reply<u32>,
    },
    /// The answer holds bytes until the guest has its copy.
    Text {
        reply: Reply<(String, Share)>,
    },
}

/// What a call wants of the model.
#[derive(Debug)]
pub(crate) enum Wanted {
    Generate { params: Box<SamplingParams>, constraint: Option<ConstraintSource> },
    Select { choices: Vec<String>, method: ChoicesMethod },
    Score { text: String },
    NextTokens { count: u32 },
}

/// A child that opens when its parent's queue comes to it; what is done on it meanwhile waits in its own queue.
#[derive(Debug)]
pub(crate) struct Fork {
    pub(crate) child: ContextId,
    pub(crate) shared: Arc<ContextShared>,
    pub(crate) queue: mpsc::Receiver<Queued>,
}
