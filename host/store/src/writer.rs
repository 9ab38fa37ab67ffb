//! The one thread that changes the database, many changes in one commit.
//!
//! A commit waits for the disk; a change is microseconds. So whatever came while the disk was busy is written together:
//! each change within a savepoint, so that one that fails takes no other with it, then all of them in one commit, and
//! only then is each answered.
//!
//! # Invariants
//! - A change is answered after its commit, never before.
//! - If a commit fails, every change in it is answered with why.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use sglhost_core::limits::{STORE_CHANGES_PER_COMMIT_MAX, STORE_CHANGES_WAITING_MAX};
use tokio::sync::{mpsc, oneshot};

use crate::{StoreError, blobs::Blobs};

/// Does a change within the open transaction, unless there is none, which it is told why.
type Change = Box<dyn FnOnce(Result<&Connection, &str>) -> Answer + Send>;

/// Tells whoever asked what became of it, once it is known whether it is on disk, or why not.
type Answer = Box<dyn FnOnce(Result<(), &str>) + Send>;

/// Hands changes to the thread.
pub(crate) struct Writer {
    /// Always there; taken when dropped, which ends the thread.
    changes: Option<mpsc::Sender<Change>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// `blobs` if components that nobody refers to any more are to be deleted.
    pub(crate) fn start(connection: Connection, blobs: Option<Arc<Blobs>>) -> Result<Self, StoreError> {
        let (changes, receiver) = mpsc::channel(STORE_CHANGES_WAITING_MAX);
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || serve(&connection, receiver, blobs.as_deref()))
            .map_err(|error| StoreError::Failed(format!("no thread for the store: {error}")))?;
        Ok(Self { changes: Some(changes), thread: Some(thread) })
    }

    /// Makes a change, in a transaction of its own as far as it can see. What it gives is dropped or handed over once
    /// the change is on disk or undone. It is made even if the caller goes away.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = oneshot::channel();
        let change: Change = Box::new(move |connection| {
            let outcome = match connection {
                Ok(connection) => in_savepoint(connection, work),
                Err(reason) => Err(StoreError::Failed(reason.to_owned())),
            };
            Box::new(move |committed| {
                let outcome = match committed {
                    Ok(()) => outcome,
                    Err(reason) => Err(StoreError::Failed(reason.to_owned())),
                };
                // Nobody may be waiting any more.
                let _ = sender.send(outcome);
            })
        });
        let gone = || StoreError::Failed("its thread is gone; restart the server".to_owned());
        let changes = self.changes.as_ref().ok_or_else(gone)?;
        changes.send(change).await.map_err(|_| gone())?;
        receiver.await.map_err(|_| gone())?
    }
}

impl Drop for Writer {
    /// Waits until all is written and the database is closed, so that the folder can be opened again.
    fn drop(&mut self) {
        drop(self.changes.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(connection: &Connection, mut changes: mpsc::Receiver<Change>, blobs: Option<&Blobs>) {
    let mut waiting = Vec::new();
    while changes.blocking_recv_many(&mut waiting, STORE_CHANGES_PER_COMMIT_MAX) > 0 {
        let mut rest = waiting.drain(..);
        while rest.len() > 0 {
            let (answers, committed) = commit(connection, &mut rest);
            if committed.is_ok()
                && let Some(blobs) = blobs
                && let Err(error) = blobs.delete_loose(connection)
            {
                tracing::warn!(%error, "components that nobody refers to could not be deleted; they will be later");
            }
            for answer in answers {
                answer(committed.as_ref().map(|&()| ()).map_err(String::as_str));
            }
        }
    }
}

/// Makes changes in one transaction: all that are given, or up to one that fails so badly that the transaction is gone.
fn commit(connection: &Connection, changes: &mut dyn Iterator<Item = Change>) -> (Vec<Answer>, Result<(), String>) {
    let mut answers = Vec::new();
    // Immediately: a transaction that only began to read could be refused the right to write in its middle.
    let transaction = match Transaction::new_unchecked(connection, TransactionBehavior::Immediate) {
        Ok(transaction) => transaction,
        Err(error) => {
            let reason = format!("no transaction could begin: {error}");
            answers.extend(changes.map(|change| change(Err(&reason))));
            return (answers, Err(reason));
        }
    };
    for change in changes {
        answers.push(change(Ok(&transaction)));
        if transaction.is_autocommit() {
            return (answers, Err("a change failed and took the transaction with it".to_owned()));
        }
    }
    // One that fails is rolled back, so that nothing of it is in the way of the next.
    (answers, transaction.commit().map_err(|error| format!("it could not be written to disk: {error}")))
}

fn in_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    connection.execute_batch("SAVEPOINT change")?;
    let outcome = work(connection);
    if outcome.is_err() {
        if connection.is_autocommit() {
            return outcome; // The whole transaction is undone.
        }
        connection.execute_batch("ROLLBACK TO change")?;
    }
    connection.execute_batch("RELEASE change")?;
    outcome
}
