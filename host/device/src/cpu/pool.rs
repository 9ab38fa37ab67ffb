//! Threads that split one operation after another among themselves.
//!
//! The calling thread works too. An operation is cut into chunks that are claimed one by one, so that a thread which
//! the system runs elsewhere for a while delays at most the chunk it holds; a worker that has not woken up in time
//! simply takes no part. Waiting is a short spin, then giving the core away, then sleep: two such processes on the same
//! cores share them instead of spinning against each other.
//!
//! ```text
//! gate:  | epoch (32 bits, odd = open) | workers inside (32 bits) |
//! caller: write job → open (epoch + 1) → work → close (epoch + 1) → wait for nobody inside
//! worker: see a new odd epoch → enter (+1, only while that epoch lasts) → work → leave (-1)
//! ```
//!
//! *Invariant*: `job` is written only while the gate is closed and nobody is inside, and read only by those inside.

#![allow(unsafe_code, reason = "a job borrows from the caller's stack while workers run it; see `Shared`")]

use std::{
    cell::UnsafeCell,
    hint,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle, Thread},
};

/// Looks at the gate before a worker gives its core away: some tens of microseconds, longer than the gaps between the
/// operations of a forward pass.
const SPINS: u32 = 4_000;
/// Times a worker gives its core away before it sleeps: a few milliseconds on an otherwise idle machine.
const YIELDS: u32 = 2_000;

/// One more epoch in the gate's upper half.
const EPOCH: u64 = 1 << 32;

/// What to do with each chunk: thread number, chunk number.
type Work<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// The operation under way.
#[derive(Clone, Copy)]
struct Job {
    /// Borrowed from the caller of `run`, who waits until nobody is inside.
    work: *const Work<'static>,
    chunks: usize,
}

struct Shared {
    gate: AtomicU64,
    next: AtomicUsize,
    job: UnsafeCell<Option<Job>>,
    /// A worker's work panicked.
    broken: AtomicBool,
    stopped: AtomicBool,
    /// Whether each worker sleeps or is about to.
    asleep: Box<[AtomicBool]>,
}

// SAFETY: `job` is the only field that is not `Sync` by itself (a cell, and in it a pointer to a `Sync` closure). The
// module's invariant orders its writes before its reads: the caller writes while the gate is closed and empty and then
// opens it with release; a worker reads after having entered with acquire, and the caller waits with acquire for its
// release on leaving.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer in `job` is to a `Sync` closure.
unsafe impl Send for Shared {}

/// A fixed set of threads.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<(Thread, Option<JoinHandle<()>>)>,
}

impl Pool {
    /// A pool of `threads`, the calling one included; 0 takes as many as the machine runs at once.
    pub(crate) fn new(threads: usize) -> Self {
        let threads = match threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let shared = Arc::new(Shared {
            gate: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            broken: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            asleep: (1..threads).map(|_| AtomicBool::new(false)).collect(),
        });
        // A thread that cannot be had is done without: chunks are claimed by whoever is there.
        let workers = (1..threads)
            .filter_map(|number| {
                let shared = Arc::clone(&shared);
                let worker = thread::Builder::new().name(format!("device-{number}"));
                worker.spawn(move || shared.worker(number)).ok()
            })
            .map(|handle| (handle.thread().clone(), Some(handle)))
            .collect();
        Self { shared, workers }
    }

    /// Threads, the calling one included. Thread numbers are below this.
    pub(crate) fn threads(&self) -> usize {
        self.shared.asleep.len() + 1
    }

    /// Calls `work(thread, chunk)` once for each chunk below `chunks`; the caller is thread 0. Returns when all are done.
    ///
    /// # Panics
    /// If `work` panics, on whichever thread.
    pub(crate) fn run(&mut self, chunks: usize, work: &Work<'_>) {
        if chunks <= 1 || self.workers.is_empty() {
            (0..chunks).for_each(|chunk| work(0, chunk));
            return;
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; `Closing` below keeps `work` borrowed until no worker can be using it.
        let work: *const Work<'static> = unsafe { std::mem::transmute(std::ptr::from_ref(work)) };
        let job = Job { work, chunks };
        // SAFETY: `&mut self`: no other call is under way, so that the gate is closed and empty.
        unsafe { *shared.job.get() = Some(job) };
        shared.next.store(0, Ordering::Relaxed);
        // Sequentially consistent against `asleep`: either the worker sees the open gate or this sees it asleep.
        shared.gate.fetch_add(EPOCH, Ordering::SeqCst);
        let closing = Closing(shared);
        for ((thread, _), asleep) in self.workers.iter().zip(&shared.asleep) {
            if asleep.load(Ordering::SeqCst) {
                thread.unpark();
            }
        }
        shared.work(0, job);
        drop(closing);
        assert!(!shared.broken.swap(false, Ordering::Relaxed), "a worker of the device's thread pool panicked");
    }
}

/// Closes the gate and waits until nobody is inside, also when the caller's own share of the work panics.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut inside = self.0.gate.fetch_add(EPOCH, Ordering::AcqRel) as u32;
        let mut looks = 0_u32;
        while inside != 0 {
            looks += 1;
            if looks < SPINS {
                hint::spin_loop();
            } else {
                thread::yield_now();
            }
            inside = self.0.gate.load(Ordering::Acquire) as u32;
        }
    }
}

impl Shared {
    /// Claims and does chunks until there are none.
    fn work(&self, thread: usize, job: Job) {
        loop {
            let chunk = self.next.fetch_add(1, Ordering::Relaxed);
            if chunk >= job.chunks {
                return;
            }
            // SAFETY: the caller of `run` keeps the closure alive until nobody is inside, which this thread is.
            unsafe { (*job.work)(thread, chunk) };
        }
    }

    fn worker(&self, number: usize) {
        let mut seen = 0;
        while let Some(epoch) = self.await_opening(number, seen) {
            seen = epoch;
            let Some(job) = self.enter(epoch) else { continue };
            if panic::catch_unwind(AssertUnwindSafe(|| self.work(number, job))).is_err() {
                self.broken.store(true, Ordering::Relaxed);
            }
            self.gate.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Enters while `epoch` is still open.
    fn enter(&self, epoch: u32) -> Option<Job> {
        let entered = self.gate.fetch_update(Ordering::AcqRel, Ordering::Acquire, |gate| {
            ((gate >> 32) as u32 == epoch).then_some(gate + 1)
        });
        // SAFETY: inside: the job was written before this epoch began and stays until this thread leaves.
        entered.ok().and_then(|_| unsafe { *self.job.get() })
    }

    /// Waits for an open epoch other than `seen`; none when the pool stops.
    fn await_opening(&self, number: usize, seen: u32) -> Option<u32> {
        let look = |ordering| {
            let epoch = (self.gate.load(ordering) >> 32) as u32;
            (epoch % 2 == 1 && epoch != seen).then_some(epoch)
        };
        loop {
            for turn in 0..SPINS + YIELDS {
                if let Some(epoch) = look(Ordering::Acquire) {
                    return Some(epoch);
                }
                if turn < SPINS {
                    hint::spin_loop();
                } else {
                    thread::yield_now();
                }
            }
            let asleep = &self.asleep[number - 1];
            asleep.store(true, Ordering::SeqCst);
            while look(Ordering::SeqCst).is_none() && !self.stopped.load(Ordering::SeqCst) {
                thread::park();
            }
            asleep.store(false, Ordering::SeqCst);
            if self.stopped.load(Ordering::SeqCst) {
                return None;
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for (thread, handle) in &mut self.workers {
            thread.unpark();
            // A worker catches its panics; there is nothing to learn from its end.
            let _ = handle.take().map(JoinHandle::join);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_is_done_once() {
        for threads in [1, 2, 5] {
            let mut pool = Pool::new(threads);
            for chunks in [0, 1, 2, 3, 64, 1000] {
                for _ in 0..50 {
                    let done: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
                    pool.run(chunks, &|thread, chunk| {
                        assert!(thread < threads);
                        done[chunk].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == 1));
                }
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let mut pool = Pool::new(3);
        for _ in 0..20 {
            let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
                pool.run(64, &|_, chunk| assert!(chunk != 40, "the expected panic"));
            }));
            assert!(outcome.is_err());
            let done = AtomicUsize::new(0);
            pool.run(64, &|_, _| {
                done.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(done.load(Ordering::Relaxed), 64);
        }
    }
}
