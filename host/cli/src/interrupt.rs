//! Ctrl-C: the first one asks everything to end, the second one ends the process.

use tokio::sync::watch;

use crate::failure::INTERRUPTED_EXIT_CODE;

/// Whether the user asked to stop. Clones see the same request.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Listens for Ctrl-C on the current tokio runtime, for the life of the process.
    pub(crate) fn listen() -> Self {
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            // Where no handler can be installed Ctrl-C keeps its default, which ends the process: nothing to report.
            while tokio::signal::ctrl_c().await.is_ok() {
                if sender.send_replace(true) {
                    std::process::exit(i32::from(INTERRUPTED_EXIT_CODE));
                }
            }
            // Keeps the channel open: a closed one would read as a request.
            std::future::pending::<()>().await;
        });
        Self(receiver)
    }

    /// For blocking code that looks between two steps.
    pub(crate) fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for the request. Safe to drop and call again.
    pub(crate) async fn requested(&self) {
        let mut receiver = self.0.clone();
        // The sender lives as long as the process; were it gone, nothing could be requested any more.
        if receiver.wait_for(|requested| *requested).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// One that is never requested.
    #[cfg(test)]
    pub(crate) fn never() -> Self {
        Self(watch::channel(false).1)
    }
}
