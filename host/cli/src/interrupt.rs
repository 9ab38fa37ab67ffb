//! Ctrl-C: the first one asks everything to end, the second one ends the process. To a server a termination signal, which
//! whatever keeps it running sends, means the same.

use std::sync::Arc;

use tokio::sync::watch;

use crate::failure::INTERRUPTED_EXIT_CODE;

/// Whether the user asked to stop. Clones see the same request.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    requested: watch::Receiver<bool>,
    sender: Arc<watch::Sender<bool>>,
}

impl Interrupt {
    /// Listens for Ctrl-C on the current tokio runtime, for the life of the process.
    pub(crate) fn listen() -> Self {
        let interrupt = Self::never();
        let sender = Arc::clone(&interrupt.sender);
        tokio::spawn(async move {
            // Where no handler can be installed Ctrl-C keeps its default, which ends the process: nothing to report.
            while tokio::signal::ctrl_c().await.is_ok() {
                request(&sender);
            }
        });
        interrupt
    }

    /// From now on a termination signal does what Ctrl-C does.
    ///
    /// # Errors
    /// The system lets nobody listen for it.
    #[cfg(unix)]
    pub(crate) fn terminates_too(&self) -> std::io::Result<()> {
        let mut signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let sender = Arc::clone(&self.sender);
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                request(&sender);
            }
        });
        Ok(())
    }

    /// Other systems have no such signal.
    #[cfg(not(unix))]
    pub(crate) fn terminates_too(&self) -> std::io::Result<()> {
        Ok(())
    }

    /// For blocking code that looks between two steps.
    pub(crate) fn is_requested(&self) -> bool {
        *self.requested.borrow()
    }

    /// Waits for the request. Safe to drop and call again.
    pub(crate) async fn requested(&self) {
        let mut receiver = self.requested.clone();
        // The sender lives as long as the process; were it gone, nothing could be requested any more.
        if receiver.wait_for(|requested| *requested).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// One that is never requested.
    pub(crate) fn never() -> Self {
        let (sender, requested) = watch::channel(false);
        Self { requested, sender: Arc::new(sender) }
    }
}

/// The first time asks, the second time ends.
fn request(sender: &watch::Sender<bool>) {
    if sender.send_replace(true) {
        std::process::exit(i32::from(INTERRUPTED_EXIT_CODE));
    }
}
