//! A peer's stream with deadlines: for the head of a request, which may not trickle in for ever, and for writing, which
//! may not stand still for ever.
//!
//! *Not here*: bodies of requests, whose pace `body.rs` watches, and idle connections, which hyper closes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Whether a request of the connection is being answered: odd while one is. Counts, so that a timer knows whether it was
/// started for the head that is being read now.
#[derive(Debug, Default)]
pub(crate) struct Phase(AtomicU64);

impl Phase {
    /// A request's head was read.
    pub(crate) fn begin(self: &Arc<Self>) -> Answering {
        self.0.fetch_add(1, Ordering::Relaxed);
        Answering(Arc::clone(self))
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Held until the answer is written.
#[derive(Debug)]
pub(crate) struct Answering(Arc<Phase>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// How long a peer may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// From the first byte of a head to its last; for the first head from the connection's beginning.
    pub(crate) head: Duration,
    /// Without reading a byte of what it is sent.
    pub(crate) stall: Duration,
}

/// The stream.
#[derive(Debug)]
pub(crate) struct Paced<S> {
    stream: S,
    pace: Pace,
    phase: Arc<Phase>,
    /// Runs while a head is read: the timer, and the phase that it is for.
    head: Option<(u64, Pin<Box<Sleep>>)>,
    /// Runs while nothing can be written.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    pub(crate) fn new(stream: S, pace: Pace, phase: Arc<Phase>) -> Self {
        let head = Some((phase.now(), Box::pin(sleep(pace.head))));
        Self { stream, pace, phase, head, stalled: None }
    }

    /// The stream itself, without deadlines.
    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    /// Starts or looks at the timer of the head, after a read that gave `bytes`.
    fn watch_head(&mut self, bytes: Option<usize>, cx: &mut Context<'_>) -> io::Result<()> {
        let phase = self.phase.now();
        if self.head.as_ref().is_some_and(|(started, _)| *started != phase) {
            self.head = None;
        }
        let answering = phase % 2 == 1;
        if bytes.is_some_and(|bytes| bytes > 0) && !answering && self.head.is_none() {
            self.head = Some((phase, Box::pin(sleep(self.pace.head))));
        }
        let late = self.head.as_mut().is_some_and(|(_, timer)| timer.as_mut().poll(cx).is_ready());
        if late { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    fn watch_stall<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.pace.stall)));
        timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let bytes = read.is_ready().then(|| buffer.filled().len() - before);
        self.watch_head(bytes, cx)?;
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch_stall(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch_stall(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch_stall(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pair() -> (Paced<DuplexStream>, DuplexStream, Arc<Phase>) {
        let (ours, theirs) = duplex(16);
        let phase = Arc::new(Phase::default());
        (Paced::new(ours, Pace { head: 10 * SECOND, stall: 60 * SECOND }, Arc::clone(&phase)), theirs, phase)
    }

    async fn timed_out(stream: &mut Paced<DuplexStream>) -> bool {
        let error = stream.read_exact(&mut [0; 100]).await.unwrap_err();
        error.kind() == io::ErrorKind::TimedOut
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_trickles_in_is_cut_off() {
        let (mut stream, mut peer, _) = pair();
        let peer = tokio::spawn(async move {
            while peer.write_all(b"x").await.is_ok() {
                sleep(SECOND).await;
            }
        });
        let start = tokio::time::Instant::now();
        assert!(timed_out(&mut stream).await);
        assert_eq!(start.elapsed().as_secs(), 10);
        peer.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_is_cut_off() {
        let (mut stream, _peer, _) = pair();
        assert!(timed_out(&mut stream).await);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_and_idle_times_have_other_deadlines() {
        let (mut stream, mut peer, phase) = pair();
        peer.write_all(b"head").await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        let answering = phase.begin();
        advance(30 * SECOND).await;
        peer.write_all(b"body").await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        drop(answering);
        // Idle now; a timer starts with the next head's first byte.
        advance(30 * SECOND).await;
        peer.write_all(b"x").await.unwrap();
        stream.read_exact(&mut [0; 1]).await.unwrap();
        let start = tokio::time::Instant::now();
        assert!(timed_out(&mut stream).await);
        assert_eq!(start.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stands_still_is_cut_off_and_a_slow_one_is_not() {
        let (mut stream, mut peer, _) = pair();
        let slow = tokio::spawn(async move {
            for _ in 0..3 {
                sleep(59 * SECOND).await;
                peer.read_exact(&mut [0; 1]).await.unwrap();
            }
            std::future::pending::<()>().await;
        });
        let start = tokio::time::Instant::now();
        let error = stream.write_all(&[0; 100]).await.unwrap_err();
        assert_eq!((error.kind(), start.elapsed().as_secs()), (io::ErrorKind::TimedOut, 3 * 59 + 60));
        slow.abort();
    }
}
