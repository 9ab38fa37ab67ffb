//! A guest's standard output and error: events, up to a limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use sglhost_core::Event;
use sglhost_core::event::LogStream;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Most that a guest may write at once.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// What both streams of a run have in common.
#[derive(Debug)]
pub(crate) struct Logs {
    events: mpsc::Sender<Event>,
    max: u64,
    written: AtomicU64,
}

impl Logs {
    pub(crate) fn new(events: mpsc::Sender<Event>, max: u64) -> Arc<Self> {
        Arc::new(Self { events, max, written: AtomicU64::new(0) })
    }

    /// Of `bytes` more, how many are within the limit; and whether it is passed now for the first time.
    fn admit(&self, bytes: usize) -> (usize, bool) {
        let before = self.written.fetch_add(bytes as u64, Ordering::Relaxed);
        let room = usize::try_from(self.max.saturating_sub(before)).unwrap_or(usize::MAX);
        let passes = before <= self.max && before + bytes as u64 > self.max;
        (room.min(bytes), passes)
    }
}

/// One of the two, as WASI asks for it.
#[derive(Clone, Debug)]
pub(crate) struct LogSource {
    pub(crate) logs: Arc<Logs>,
    pub(crate) stream: LogStream,
}

impl IsTerminal for LogSource {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogSource {
    /// For WASI 0.3, which is not linked.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(LogWriter { source: self.clone(), waiting: Vec::new() })
    }
}

/// Collects what is written until the run's reader has room for it.
#[derive(Debug)]
struct LogWriter {
    source: LogSource,
    /// Written and not sent; at most [`WRITE_BYTES_MAX`] and the beginning of a character.
    waiting: Vec<u8>,
}

impl LogWriter {
    /// Sends what is whole, if there is room.
    fn try_send(&mut self) {
        if self.is_sent() {
            return;
        }
        if let Ok(permit) = self.source.logs.events.clone().try_reserve_owned() {
            permit.send(self.event());
        }
    }

    fn event(&mut self) -> Event {
        let rest = self.waiting.split_off(self.waiting.len() - incomplete_tail(&self.waiting));
        let whole = std::mem::replace(&mut self.waiting, rest);
        Event::Log { stream: self.source.stream, text: String::from_utf8_lossy(&whole).into_owned() }
    }

    fn is_sent(&self) -> bool {
        self.waiting.len() == incomplete_tail(&self.waiting)
    }
}

impl OutputStream for LogWriter {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let (admitted, passes) = self.source.logs.admit(bytes.len());
        self.waiting.extend_from_slice(&bytes[..admitted]);
        if passes {
            let max = self.source.logs.max;
            self.waiting.extend_from_slice(
                format!("\n[the run wrote more than {max} bytes of output (log_bytes_max); the rest is dropped]\n")
                    .as_bytes(),
            );
        }
        self.try_send();
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.try_send();
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.try_send();
        Ok(if self.is_sent() { WRITE_BYTES_MAX } else { 0 })
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LogWriter {
    async fn ready(&mut self) {
        if self.is_sent() {
            return;
        }
        match self.source.logs.events.clone().reserve_owned().await {
            Ok(permit) => {
                permit.send(self.event());
            }
            // Nobody reads any more; the run is about to be cancelled.
            Err(_) => self.waiting.clear(),
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.try_send();
    }
}

/// Bytes at the end that begin a character whose rest may follow.
fn incomplete_tail(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    for (index, &byte) in tail.iter().enumerate().rev() {
        let length = match byte {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => return 0,
        };
        let have = tail.len() - index;
        return if have < length { have } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn a_character_cut_in_two_waits_for_its_rest() {
        let check = |bytes: &[u8], expect: usize| assert_eq!(incomplete_tail(bytes), expect, "{bytes:?}");
        check(b"", 0);
        check(b"abc", 0);
        check("ü".as_bytes(), 0);
        check(&"ü".as_bytes()[..1], 1);
        check(&"a€".as_bytes()[..3], 2);
        check(&"🦀".as_bytes()[..3], 3);
        check("🦀".as_bytes(), 0);
        check(&[0x80, 0x80, 0x80], 0);
    }

    #[test]
    fn output_is_sent_as_events_up_to_the_limit() {
        let (sender, mut events) = mpsc::channel(8);
        let source = LogSource { logs: Logs::new(sender, 6), stream: LogStream::Stdout };
        let mut writer = source.p2_stream();
        writer.write(Bytes::from_static("aü".as_bytes())).unwrap();
        writer.write(Bytes::from_static(b"bcdef")).unwrap();
        writer.write(Bytes::from_static(b"more")).unwrap();
        let texts: Vec<String> = std::iter::from_fn(|| events.try_recv().ok())
            .map(|event| match event {
                Event::Log { text, .. } => text,
                other => panic!("{other:?}"),
            })
            .collect();
        let notice = "\n[the run wrote more than 6 bytes of output (log_bytes_max); the rest is dropped]\n";
        assert_eq!(texts, ["aü".to_owned(), format!("bcd{notice}")]);
    }

    #[test]
    fn a_slow_reader_makes_the_writer_wait() {
        let (sender, mut events) = mpsc::channel(1);
        let source = LogSource { logs: Logs::new(sender, 100), stream: LogStream::Stderr };
        let mut writer = source.p2_stream();
        writer.write(Bytes::from_static(b"one")).unwrap();
        writer.write(Bytes::from_static(b"two")).unwrap();
        assert_eq!(writer.check_write().unwrap(), 0);
        events.try_recv().unwrap();
        assert_eq!(writer.check_write().unwrap(), WRITE_BYTES_MAX);
    }
}
