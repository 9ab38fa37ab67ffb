//! Threads that carry out programs: of low priority, so that what they compute does not slow the engine, which serves all
//! of them.

use tokio::runtime::{Builder, Handle, Runtime};

use crate::failure::Failure;

/// How much nicer they are than the engine: as far behind it as can be. On two cores, a stream of the default model beside
/// eight programs that spin keeps 74 % of its speed at 10 and all of it at 19 (tests/perf `neighbour.py`; beside four, by
/// `guests_beside`: 94 % at 10). From the end of a call to the program's next takes 0.5 ms at either, also while the model
/// streams; 1 in 100 then waits 11 ms at 10, 60 ms at 19.
#[cfg(target_os = "linux")]
const NICE: i32 = 19;

/// The threads, as long as this lives.
pub(crate) struct Guests(Option<Runtime>);

impl Guests {
    /// Starts a thread for each core.
    ///
    /// # Errors
    /// There is none to be had.
    pub(crate) fn start() -> Result<Self, Failure> {
        let mut builder = Builder::new_multi_thread();
        builder.thread_name("guests").enable_all();
        // Of each thread alone; on other systems a priority is a whole process's.
        #[cfg(target_os = "linux")]
        builder.on_thread_start(|| {
            // Where it is refused they are as important as all others.
            let _ = rustix::process::nice(NICE);
        });
        Ok(Self(Some(builder.build().map_err(Failure::other)?)))
    }

    /// To start runs on them.
    pub(crate) fn handle(&self) -> Handle {
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        // A runtime may not be waited for within another.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
