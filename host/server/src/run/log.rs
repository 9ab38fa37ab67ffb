//! A run's events as readers take them: numbered, serialised once, shared.
//!
//! ```text
//! forgotten │ first … taken by the owner │ … last │ to come
//!           └────────── kept ───────────────────┘
//! ```
//!
//! # Invariants
//! - Ids count from 1, with no gap. What is kept is a stretch of them that ends with the last.
//! - While an owner reads, nothing it has not taken is forgotten: the writer waits. Else the oldest are forgotten.
//! - After the end nothing is added, and nothing forgotten.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sglhost_core::Event;
use tokio::sync::{Notify, watch};

/// What an event takes besides its text.
const ENTRY_BYTES: usize = 64;

/// The events of one run.
pub(super) struct EventLog {
    bytes_max: usize,
    state: Mutex<State>,
    /// Tells readers that there is more, or no more.
    changed: watch::Sender<()>,
    /// Tells the writer, who is one, that the owner took something, or reads no more.
    room: Notify,
}

struct State {
    entries: VecDeque<Entry>,
    /// The id of the first entry, or that of the next if there is none.
    first: u64,
    bytes: usize,
    /// The last id that the owner took; none where nobody is waited for.
    taken: Option<u64>,
    ended: bool,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: &'static str,
    pub(super) json: Bytes,
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The event.
    Entry(Entry),
    /// Nothing yet.
    NotYet,
    /// Nothing, ever: the log has ended before it.
    Never,
    /// It is forgotten.
    Forgotten,
}

/// The owner took nothing for as long as it may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SlowReader;

impl Entry {
    /// An event of the run's `at_ms`th millisecond.
    pub(super) fn new(event: &Event, at_ms: u64) -> Self {
        Self { kind: event.kind(), json: event.to_json(at_ms).into() }
    }

    fn bytes(&self) -> usize {
        self.json.len() + ENTRY_BYTES
    }
}

impl EventLog {
    /// An empty one. With `owned`, an owner is expected to read from the first event on.
    pub(super) fn new(bytes_max: usize, owned: bool) -> Self {
        let taken = owned.then_some(0);
        let state = State { entries: VecDeque::new(), first: 1, bytes: 0, taken, ended: false };
        Self { bytes_max, state: Mutex::new(state), changed: watch::Sender::new(()), room: Notify::new() }
    }

    /// Adds an event, and waits for the owner if that must be. Dropping the future adds nothing.
    ///
    /// # Errors
    /// [`SlowReader`], if the owner takes nothing for `patience` while it is waited for; nothing is added then.
    pub(super) async fn push(&self, entry: Entry, patience: Duration) -> Result<(), SlowReader> {
        while !self.try_push(&entry) {
            tokio::time::timeout(patience, self.room.notified()).await.map_err(|_| SlowReader)?;
        }
        Ok(())
    }

    /// Adds the last event, whether or not there is room for it.
    pub(super) fn end(&self, entry: Entry) {
        let mut state = self.state();
        if state.ended {
            return;
        }
        state.make_room(entry.bytes(), self.bytes_max);
        state.add(entry);
        state.ended = true;
        drop(state);
        self.changed.send_replace(());
    }

    /// What there is of an event.
    pub(super) fn find(&self, id: u64) -> Found {
        let state = self.state();
        let Some(place) = id.checked_sub(state.first) else { return Found::Forgotten };
        match usize::try_from(place).ok().and_then(|place| state.entries.get(place)) {
            Some(entry) => Found::Entry(entry.clone()),
            None if state.ended => Found::Never,
            None => Found::NotYet,
        }
    }

    /// The owner took an event.
    pub(super) fn took(&self, id: u64) {
        let mut state = self.state();
        if let Some(taken) = &mut state.taken {
            *taken = id.max(*taken);
            drop(state);
            self.room.notify_one();
        }
    }

    /// Nobody is waited for any more.
    pub(super) fn let_go(&self) {
        self.state().taken = None;
        self.room.notify_one();
    }

    /// Tells of each change from now on.
    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The first id that is kept.
    pub(super) fn first(&self) -> u64 {
        self.state().first
    }

    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.state().bytes
    }

    fn try_push(&self, entry: &Entry) -> bool {
        let mut state = self.state();
        if state.ended {
            return true;
        }
        if !state.make_room(entry.bytes(), self.bytes_max) {
            return false;
        }
        state.add(entry.clone());
        drop(state);
        self.changed.send_replace(());
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Forgets what must be forgotten and may be; gives whether the event fits then. An event that is larger than all
    /// that may be kept fits where nothing else is.
    fn make_room(&mut self, bytes: usize, bytes_max: usize) -> bool {
        while self.bytes + bytes > bytes_max {
            if self.taken.is_some_and(|taken| taken < self.first) {
                return self.entries.is_empty();
            }
            let Some(oldest) = self.entries.pop_front() else { return true };
            self.bytes -= oldest.bytes();
            self.first += 1;
        }
        true
    }

    fn add(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::sync::Arc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// An event of which `bytes` are counted.
    fn entry(bytes: usize) -> Entry {
        Entry { kind: "emit", json: vec![b'x'; bytes - ENTRY_BYTES].into() }
    }

    fn ids(log: &EventLog) -> Vec<u64> {
        (1..100).filter(|&id| matches!(log.find(id), Found::Entry(_))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_owner_the_oldest_are_forgotten() {
        let log = EventLog::new(1000, false);
        for _ in 0..25 {
            log.push(entry(100), PATIENCE).await.unwrap();
        }
        assert_eq!((ids(&log), log.first(), log.bytes()), ((16..=25).collect(), 16, 1000));
        assert_eq!((log.find(15), log.find(26)), (Found::Forgotten, Found::NotYet));
        log.push(entry(900), PATIENCE).await.unwrap();
        assert_eq!((ids(&log), log.bytes()), (vec![25, 26], 1000));
        log.push(entry(5000), PATIENCE).await.unwrap();
        assert_eq!((ids(&log), log.bytes()), (vec![27], 5000));
        log.end(entry(100));
        assert_eq!((ids(&log), log.find(29)), (vec![28], Found::Never));
    }

    #[tokio::test(start_paused = true)]
    async fn the_writer_waits_for_what_the_owner_has_not_taken() {
        let log = Arc::new(EventLog::new(300, true));
        for _ in 0..3 {
            log.push(entry(100), PATIENCE).await.unwrap();
        }
        let writer = Arc::clone(&log);
        let writing = tokio::spawn(async move { writer.push(entry(200), PATIENCE).await });
        // Each step of the owner's renews the patience; one of 100 bytes is not room enough for 200.
        tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
        log.took(1);
        tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
        assert!(!writing.is_finished());
        log.took(2);
        writing.await.unwrap().unwrap();
        assert_eq!(ids(&log), [3, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_that_takes_nothing_is_given_up() {
        let log = EventLog::new(300, true);
        log.push(entry(1000), PATIENCE).await.unwrap();
        assert_eq!(log.push(entry(100), PATIENCE).await, Err(SlowReader));
        assert_eq!(ids(&log), [1]);
        log.let_go();
        log.push(entry(100), PATIENCE).await.unwrap();
        assert_eq!(ids(&log), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_needs_no_room_and_takes_none_of_the_owners() {
        let log = EventLog::new(300, true);
        log.push(entry(200), PATIENCE).await.unwrap();
        log.end(entry(500));
        log.end(entry(100));
        log.push(entry(100), PATIENCE).await.unwrap();
        assert_eq!((ids(&log), log.find(3)), (vec![1, 2], Found::Never));
    }

    #[test]
    fn ids_beyond_all_are_not_there() {
        let log = EventLog::new(300, false);
        assert_eq!((log.find(u64::MAX), log.find(0)), (Found::NotYet, Found::Forgotten));
    }
}
