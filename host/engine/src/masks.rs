//! Masks, built beside the engine's thread while the device computes, so that nobody waits for another's.
//!
//! A constraint's state goes to a worker as soon as the output is known that the mask follows, and comes back with the
//! mask. The engine's thread takes what is ready, builds some of what nobody has begun, and waits for the rest, but not
//! for long: a row whose mask is not there by then is *late* (`EngineLoop::ask`), and is asked for again in a later step.
//!
//! *Invariant*: whether a mask was late changes no output, only when it comes.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    thread::{JoinHandle, available_parallelism},
    time::Duration,
};

use sglhost_core::{Clock, Error, TokenMask};
use sglhost_text::{Constraint, ConstraintState};

use crate::EngineMetrics;

/// How long a step waits for masks that workers have begun, all rows together: next to nothing of a step's time, and ten
/// times what a usual mask takes.
pub(crate) const GRACE: Duration = Duration::from_micros(500);
/// How long a step's masks may take the engine's thread, all together; what is left then is the workers'. Less than a pass
/// takes, and more than the usual masks of a full batch.
pub(crate) const HELP: Duration = Duration::from_millis(4);
/// A constraint is trusted when so many masks in a row, of all outputs under it, took no longer than [`GRACE`]. The
/// engine's thread builds masks of no other, as long as there are workers.
const TRUSTED_AFTER: u32 = 16;

/// The threads that build an engine's masks. Dropping it ends them.
pub(crate) struct MaskPool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Whether the device computes while the engine's thread goes on. Where it does not, workers take the cores that it
    /// computes with, and are left what is slow.
    runs_ahead: bool,
    /// How often a new job says that it is not ready: lateness without threads, for tests.
    #[cfg(test)]
    pub(crate) delays: Option<Box<dyn FnMut() -> u32 + Send>>,
}

struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    clock: Arc<dyn Clock>,
    metrics: Arc<EngineMetrics>,
    /// The next mask is not built, for tests.
    #[cfg(test)]
    panics: std::sync::atomic::AtomicBool,
    /// What each mask takes longer, in microseconds.
    #[cfg(test)]
    stall: std::sync::atomic::AtomicU64,
}

struct Queue {
    /// Gone are those whose call ended, and those that the engine's thread has built.
    jobs: VecDeque<Weak<Job>>,
    closed: bool,
}

/// A mask to be built.
#[derive(Debug)]
struct Job {
    progress: Mutex<Progress>,
    done: Condvar,
    #[cfg(test)]
    delay: AtomicU32,
}

#[derive(Debug)]
enum Progress {
    Waiting(ConstraintState),
    Begun,
    Done(Built),
}

/// What came of a job.
#[derive(Debug)]
struct Built {
    /// None if building the mask panicked.
    state: Option<(ConstraintState, Arc<TokenMask>)>,
    took: Duration,
}

/// No panic leaves what these locks guard half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MaskPool {
    /// A pool of so many workers: with none, masks are built when they are asked for. If the number is left open, half
    /// the cores, and one to four.
    ///
    /// # Errors
    /// The operating system gave no thread.
    pub(crate) fn start(
        threads: Option<usize>,
        runs_ahead: bool,
        clock: Arc<dyn Clock>,
        metrics: Arc<EngineMetrics>,
    ) -> io::Result<Self> {
        let cores = || available_parallelism().map_or(1, usize::from);
        let threads = threads.unwrap_or_else(|| (cores() / 2).clamp(1, 4));
        let queue = Mutex::new(Queue { jobs: VecDeque::new(), closed: false });
        let shared = Arc::new(Shared {
            queue,
            work: Condvar::new(),
            clock,
            metrics,
            #[cfg(test)]
            panics: false.into(),
            #[cfg(test)]
            stall: 0.into(),
        });
        let mut pool = Self {
            shared,
            workers: Vec::new(),
            runs_ahead,
            #[cfg(test)]
            delays: None,
        };
        for _ in 0..threads {
            let shared = pool.shared.clone();
            pool.workers.push(std::thread::Builder::new().name("masks".to_owned()).spawn(move || shared.work())?);
        }
        Ok(pool)
    }

    /// Whether anybody but the engine's thread builds masks.
    pub(crate) fn has_workers(&self) -> bool {
        !self.workers.is_empty()
    }

    /// Has building the next mask panic.
    #[cfg(test)]
    pub(crate) fn plant_panic(&self) {
        self.shared.panics.store(true, Ordering::Relaxed);
    }

    /// Has every mask take so much longer.
    #[cfg(test)]
    pub(crate) fn stall(&self, by: Duration) {
        self.shared.stall.store(by.as_micros() as u64, Ordering::Relaxed);
    }

    /// Queues a job, if there is somebody to do it.
    fn submit(&mut self, state: ConstraintState) -> Place {
        #[cfg(test)]
        let delay = self.delays.as_mut().map(|next| next());
        #[cfg(test)]
        let beside = delay.is_some() || !self.workers.is_empty();
        #[cfg(not(test))]
        let beside = !self.workers.is_empty();
        if !beside {
            return Place::Here(state, None);
        }
        let job = Arc::new(Job {
            progress: Mutex::new(Progress::Waiting(state)),
            done: Condvar::new(),
            #[cfg(test)]
            delay: delay.unwrap_or(0).into(),
        });
        if !self.workers.is_empty() {
            lock(&self.shared.queue).jobs.push_back(Arc::downgrade(&job));
            self.shared.work.notify_one();
        }
        Place::Away(job)
    }
}

impl Drop for MaskPool {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.work.notify_all();
        for worker in self.workers.drain(..) {
            // Whatever panics in a worker is caught there.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn work(&self) {
        while let Some(job) = self.next() {
            let Some(job) = job.upgrade() else { continue };
            let Some(state) = job.begin() else { continue };
            let built = self.build(state);
            *lock(&job.progress) = Progress::Done(built);
            job.done.notify_all();
        }
    }

    /// Waits for a job. None when the pool is closed.
    fn next(&self) -> Option<Weak<Job>> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.closed {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn build(&self, mut state: ConstraintState) -> Built {
        let start = self.clock.monotonic();
        let state = catch_unwind(AssertUnwindSafe(move || {
            #[cfg(test)]
            {
                use Ordering::Relaxed;
                assert!(!self.panics.swap(false, Relaxed), "planted");
                std::thread::sleep(Duration::from_micros(self.stall.load(Relaxed)));
            }
            let mask = state.mask();
            (state, mask)
        }));
        let took = self.clock.monotonic().saturating_sub(start);
        self.metrics.mask_time.observe(took.as_secs_f64());
        Built { state: state.ok(), took }
    }
}

impl Job {
    /// The state, if nobody has begun.
    fn begin(&self) -> Option<ConstraintState> {
        let mut progress = lock(&self.progress);
        match std::mem::replace(&mut *progress, Progress::Begun) {
            Progress::Waiting(state) => Some(state),
            other => {
                *progress = other;
                None
            }
        }
    }

    /// What came of it, if it is done within `patience`.
    fn wait(&self, patience: Duration) -> Option<Built> {
        let progress = lock(&self.progress);
        let unfinished = |progress: &mut Progress| !matches!(progress, Progress::Done(_));
        let waited = self.done.wait_timeout_while(progress, patience, unfinished);
        let mut progress = waited.unwrap_or_else(PoisonError::into_inner).0;
        match std::mem::replace(&mut *progress, Progress::Begun) {
            Progress::Done(built) => Some(built),
            other => {
                *progress = other;
                None
            }
        }
    }

    /// Whether a test wants it to be late still.
    fn is_held(&self) -> bool {
        #[cfg(test)]
        {
            use Ordering::Relaxed;
            self.delay.fetch_update(Relaxed, Relaxed, |delay| delay.checked_sub(1)).is_ok()
        }
        #[cfg(not(test))]
        false
    }
}

/// A constraint's state between two tokens, wherever it is.
#[derive(Debug)]
pub(crate) struct Constrained {
    place: Place,
    /// Masks in a row that were no slower than [`GRACE`], of all outputs under the constraint.
    in_time: Arc<AtomicU32>,
    /// The last mask of this output was slower.
    slow: bool,
}

#[derive(Debug)]
enum Place {
    /// With the mask of what may come next, if that was built.
    Here(ConstraintState, Option<Arc<TokenMask>>),
    Away(Arc<Job>),
    /// Building a mask panicked.
    Lost,
}

impl Constrained {
    pub(crate) fn new(constraint: &Constraint) -> Self {
        let in_time = Arc::clone(constraint.notes());
        Self { place: Place::Here(constraint.start(), None), in_time, slow: false }
    }

    fn is_trusted(&self) -> bool {
        self.in_time.load(Ordering::Relaxed) >= TRUSTED_AFTER
    }

    /// The state, to go on with: the mask is none of the next token's. No job may be under way, as none is after the mask
    /// was asked for.
    pub(crate) fn state(&mut self) -> &mut ConstraintState {
        match &mut self.place {
            Place::Here(state, mask) => {
                *mask = None;
                state
            }
            Place::Away(_) | Place::Lost => unreachable!("a token was sampled without its mask"),
        }
    }

    /// Has the mask built that follows the output so far, unless it is known.
    pub(crate) fn start(&mut self, pool: &mut MaskPool) {
        let Place::Here(state, mask) = &mut self.place else { return };
        if mask.is_some() {
            return;
        }
        #[cfg(test)]
        let ask = pool.delays.is_none();
        #[cfg(not(test))]
        let ask = true;
        if ask {
            // What is remembered is not worth a hop to another thread.
            *mask = state.known_mask();
        }
        if mask.is_none() && (!ask || pool.runs_ahead || !self.is_trusted()) {
            self.hand_over(pool);
        }
    }

    /// Leaves it to the workers, if there are any.
    pub(crate) fn hand_over(&mut self, pool: &mut MaskPool) {
        if matches!(self.place, Place::Here(_, None))
            && let Place::Here(state, _) = std::mem::replace(&mut self.place, Place::Lost)
        {
            self.place = pool.submit(state);
        }
    }

    /// Builds the mask on this thread if nobody has begun and it is not likely to take long, or if nobody else would.
    pub(crate) fn help(&mut self, pool: &MaskPool) {
        let may_begin = self.is_trusted() || !pool.has_workers();
        match &mut self.place {
            Place::Here(_, Some(_)) | Place::Lost => {}
            Place::Here(_, None) => {
                if let Place::Here(state, _) = std::mem::replace(&mut self.place, Place::Lost) {
                    self.take_back(pool.shared.build(state));
                }
            }
            Place::Away(job) => {
                if may_begin
                    && !job.is_held()
                    && let Some(state) = job.begin()
                {
                    self.take_back(pool.shared.build(state));
                }
            }
        }
    }

    /// Whether the mask is there, or that there is none is known, within `patience`.
    pub(crate) fn is_ready(&mut self, patience: Duration) -> bool {
        if let Place::Away(job) = &self.place
            && let Some(built) = job.wait(if self.slow { Duration::ZERO } else { patience })
        {
            self.take_back(built);
        }
        !matches!(self.place, Place::Away(_))
    }

    /// The same of a mask that was late, which `patience` is for when there is nothing else to do.
    pub(crate) fn has_come(&mut self, pool: &MaskPool, patience: Duration) -> bool {
        if let Place::Away(job) = &self.place {
            let built = if pool.workers.is_empty() {
                // A test's.
                if job.is_held() { None } else { job.begin().map(|state| pool.shared.build(state)) }
            } else {
                job.wait(patience)
            };
            if let Some(built) = built {
                self.take_back(built);
            }
        }
        !matches!(self.place, Place::Away(_))
    }

    fn take_back(&mut self, built: Built) {
        self.slow = built.took > GRACE;
        let in_time = self.in_time.load(Ordering::Relaxed);
        // Lost updates are no loss: there are thousands.
        self.in_time.store(if self.slow { 0 } else { (in_time + 1).min(TRUSTED_AFTER) }, Ordering::Relaxed);
        self.place = match built.state {
            Some((state, mask)) => Place::Here(state, Some(mask)),
            None => Place::Lost,
        };
    }

    /// The tokens that may come next, which are there.
    ///
    /// # Errors
    /// The constraint admits no token of this vocabulary, or failed.
    pub(crate) fn mask(&mut self) -> Result<Arc<TokenMask>, Error> {
        let Place::Here(state, mask) = &mut self.place else {
            return Err(Error::unavailable("the constraint failed inside the host"));
        };
        let mask = mask.get_or_insert_with(|| state.mask());
        if !mask.is_empty() {
            return Ok(mask.clone());
        }
        Err(state.failure().cloned().unwrap_or_else(|| {
            Error::invalid("the constraint admits no token of this model's vocabulary here; loosen the pattern")
        }))
    }
}

#[cfg(test)]
mod tests;
