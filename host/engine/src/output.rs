//! The way back to a call's reader: bounded, and never lossy.

use std::{collections::VecDeque, time::Duration};

use tokio::sync::mpsc::{self, error::TrySendError};

use crate::CallEvent;

/// Events of one call on their way to its reader.
///
/// What the channel has no room for is held here, and while something is held the call's sequences are paused: so at
/// most one step's events are ever held.
#[derive(Debug)]
pub(crate) struct Output {
    sender: mpsc::Sender<CallEvent>,
    held: VecDeque<CallEvent>,
    held_since: Option<Duration>,
}

/// What became of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// It keeps up.
    Ready,
    /// It lags behind; events are held.
    Slow,
    /// It went away, or was slow for too long.
    Gone,
}

impl Output {
    /// The two ends of a call whose reader may lag `buffered` events behind; there is room for its terminal event too.
    pub(crate) fn new(buffered: usize) -> (Self, mpsc::Receiver<CallEvent>) {
        let (sender, receiver) = mpsc::channel(buffered + 1);
        (Self { sender, held: VecDeque::new(), held_since: None }, receiver)
    }

    /// Sends `event` after all that is held.
    pub(crate) fn send(&mut self, event: CallEvent, now: Duration) -> Reader {
        self.held.push_back(event);
        self.flush(now, Duration::MAX)
    }

    /// Sends what is held, as far as the reader has room.
    pub(crate) fn flush(&mut self, now: Duration, patience: Duration) -> Reader {
        while let Some(event) = self.held.pop_front() {
            // The channel's last place is kept for the terminal event.
            let full = matches!(event, CallEvent::Delta(_)) && self.sender.capacity() <= 1;
            match if full { Err(TrySendError::Full(event)) } else { self.sender.try_send(event) } {
                Ok(()) => {}
                Err(TrySendError::Closed(_)) => return Reader::Gone,
                Err(TrySendError::Full(event)) => {
                    if self.sender.is_closed() {
                        return Reader::Gone;
                    }
                    self.held.push_front(event);
                    let since = *self.held_since.get_or_insert(now);
                    return if now.saturating_sub(since) > patience { Reader::Gone } else { Reader::Slow };
                }
            }
        }
        self.held_since = None;
        if self.sender.is_closed() { Reader::Gone } else { Reader::Ready }
    }

    /// Ends the call at once: what is held is dropped for `event`. Nothing is sent after it.
    pub(crate) fn cut_off(&mut self, event: CallEvent) {
        self.held.clear();
        // There is a place for it, unless the reader is gone or had its terminal event.
        let _ = self.sender.try_send(event);
    }

    /// Whether something is held.
    pub(crate) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }
}
