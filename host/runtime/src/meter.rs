//! CPU time of a run, and the ticker that makes guests look at it.
//!
//! A guest is interrupted at every epoch (1 ms): it yields, so that the runs beside it and the timers go on, or ends
//! when its budget is spent. Counting epochs would charge it for waiting; what is summed is the CPU time that the
//! thread spent inside the run's `poll`, and that of the work which the host does for the run on other threads.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use sglhost_core::Error;
use wasmtime::{EngineWeak, UpdateDeadline};

use crate::limiter::BudgetSpent;

/// How often a spinning guest is interrupted.
const EPOCH: Duration = Duration::from_millis(1);

/// CPU time of one run.
#[derive(Debug)]
pub(crate) struct CpuMeter {
    budget: Duration,
    /// Nanoseconds of the polls and the host's work that are over.
    spent: AtomicU64,
    /// The thread's CPU time when the poll under way began; only that thread reads it.
    began: AtomicU64,
}

impl CpuMeter {
    pub(crate) fn new(budget: Duration) -> Arc<Self> {
        Arc::new(Self { budget, spent: AtomicU64::new(0), began: AtomicU64::new(0) })
    }

    /// Runs `future`, charging the time inside its polls.
    pub(crate) async fn charge<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| {
            self.began.store(thread_nanoseconds(), Ordering::Relaxed);
            let poll = future.as_mut().poll(context);
            self.spent.fetch_add(self.in_this_poll(), Ordering::Relaxed);
            poll
        })
        .await
    }

    /// Does a piece of work for the run on this thread, and charges its time.
    pub(crate) fn charge_work<R>(&self, work: impl FnOnce() -> R) -> R {
        let began = thread_nanoseconds();
        let result = work();
        self.spent.fetch_add(thread_nanoseconds().saturating_sub(began), Ordering::Relaxed);
        result
    }

    /// Whether the budget allows for more work; the poll under way does not count.
    ///
    /// # Errors
    /// It is spent.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.within_budget(self.spent.load(Ordering::Relaxed))
    }

    /// Microseconds of the polls and the host's work that are over.
    pub(crate) fn spent_us(&self) -> u64 {
        self.spent.load(Ordering::Relaxed) / 1000
    }

    /// At an epoch, inside a poll: go on after others had their turn, or end.
    pub(crate) fn at_epoch(&self) -> wasmtime::Result<UpdateDeadline> {
        self.within_budget(self.spent.load(Ordering::Relaxed) + self.in_this_poll())
            .map_err(|error| wasmtime::Error::new(BudgetSpent(error)))?;
        // Not `Yield`: that future wakes itself at once, and tokio's timers starve beside it.
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    }

    fn within_budget(&self, spent: u64) -> Result<(), Error> {
        if Duration::from_nanos(spent) < self.budget {
            return Ok(());
        }
        Err(Error::limit(format!(
            "the run used its {} s of CPU time (cpu_budget); make the program do less between its calls, or run with a \
             higher cpu_budget",
            self.budget.as_secs_f64()
        )))
    }

    fn in_this_poll(&self) -> u64 {
        thread_nanoseconds().saturating_sub(self.began.load(Ordering::Relaxed))
    }
}

fn thread_nanoseconds() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// The thread that advances the epoch while any run is alive, and sleeps otherwise.
#[derive(Debug)]
pub(crate) struct Ticker {
    state: Arc<(Mutex<TickerState>, Condvar)>,
}

#[derive(Debug, Default)]
struct TickerState {
    active: usize,
    stopped: bool,
}

impl Ticker {
    pub(crate) fn start(engine: EngineWeak) -> std::io::Result<Self> {
        let state = Arc::new((Mutex::new(TickerState::default()), Condvar::new()));
        let shared = Arc::clone(&state);
        std::thread::Builder::new().name("sglhost-epoch".to_owned()).spawn(move || tick(&engine, &shared))?;
        Ok(Self { state })
    }

    /// Ticks until the guard is dropped.
    pub(crate) fn activate(&self) -> Active {
        let (state, wake) = &*self.state;
        state.lock().unwrap_or_else(PoisonError::into_inner).active += 1;
        wake.notify_one();
        Active { state: Arc::clone(&self.state) }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        let (state, wake) = &*self.state;
        state.lock().unwrap_or_else(PoisonError::into_inner).stopped = true;
        wake.notify_one();
    }
}

/// Keeps the ticker going.
#[derive(Debug)]
pub(crate) struct Active {
    state: Arc<(Mutex<TickerState>, Condvar)>,
}

impl Drop for Active {
    fn drop(&mut self) {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner).active -= 1;
    }
}

fn tick(engine: &EngineWeak, shared: &(Mutex<TickerState>, Condvar)) {
    let (state, wake) = shared;
    loop {
        {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            while state.active == 0 && !state.stopped {
                state = wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.stopped {
                return;
            }
        }
        std::thread::sleep(EPOCH);
        match engine.upgrade() {
            Some(engine) => engine.increment_epoch(),
            None => return,
        }
    }
}
