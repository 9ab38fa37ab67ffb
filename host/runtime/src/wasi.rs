//! What of WASI a program gets: clocks, random, standard output and error, all of them the run's own.
//!
//! All of WASI 0.2 is linked, because toolchains import it whether a program uses it or not; what is not granted
//! answers as on a machine that has none: no files, no environment, no arguments, no network.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sglhost_core::Clock;
use sglhost_core::event::LogStream;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx};

use crate::logs::{LogSource, Logs};

/// Bytes that one call for random bytes may ask for.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// The WASI of one run. All its random numbers come from `random`.
pub(crate) fn context(clock: &Arc<dyn Clock>, random: &mut StdRng, logs: &Arc<Logs>) -> WasiCtx {
    let log = |stream| LogSource { logs: Arc::clone(logs), stream };
    WasiCtx::builder()
        .stdout(log(LogStream::Stdout))
        .stderr(log(LogStream::Stderr))
        .wall_clock(GuestClock(Arc::clone(clock)))
        .monotonic_clock(GuestClock(Arc::clone(clock)))
        .secure_random(StdRng::from_rng(random))
        .insecure_random(StdRng::from_rng(random))
        .insecure_random_seed(u128::from(random.next_u64()) << 64 | u128::from(random.next_u64()))
        .max_random_size(RANDOM_BYTES_MAX)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
}

struct GuestClock(Arc<dyn Clock>);

impl HostWallClock for GuestClock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        self.0.wall()
    }
}

impl HostMonotonicClock for GuestClock {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.monotonic().as_nanos()).unwrap_or(u64::MAX)
    }
}
