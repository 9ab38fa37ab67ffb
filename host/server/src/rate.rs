//! A budget by the minute that refills continuously: what is spent may be known only afterwards, so it can be overdrawn.
//!
//! # Invariants
//! - Exact: after any charges at any times it holds what the minute's amount times the time gives, less what was charged,
//!   never more than one minute's amount. Integers only; nothing is lost to rounding.

use std::time::Duration;

/// Amounts are counted in parts so small that a nanosecond refills a whole number of them.
const PARTS: i128 = 60_000_000_000;

/// How long one waits who may have nothing at all.
const NEVER: Duration = Duration::from_secs(3600);

/// A budget. Times are those of one monotonic clock.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    per_minute: u64,
    /// Parts that are left; below zero, what was spent too much.
    level: i128,
    refilled_at: Duration,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(per_minute: u64, now: Duration) -> Self {
        Self { per_minute, level: full(per_minute), refilled_at: now }
    }

    /// Changes what a minute gives. What is left, or owed, stays.
    pub(crate) fn set_per_minute(&mut self, per_minute: u64, now: Duration) {
        self.refill(now);
        self.per_minute = per_minute;
        self.level = self.level.min(full(per_minute));
    }

    /// Spends, whether or not so much is there.
    pub(crate) fn charge(&mut self, amount: u64, now: Duration) {
        self.refill(now);
        self.level = self.level.saturating_sub(full(amount));
    }

    /// Whether anything is left.
    ///
    /// # Errors
    /// How long until there is.
    pub(crate) fn check(&mut self, now: Duration) -> Result<(), Duration> {
        self.refill(now);
        if self.level > 0 {
            return Ok(());
        }
        if self.per_minute == 0 {
            return Err(NEVER);
        }
        // The first nanosecond at which the level is above zero.
        let nanos = (-self.level / i128::from(self.per_minute)).saturating_add(1);
        Err(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    fn refill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.refilled_at).as_nanos();
        self.refilled_at = self.refilled_at.max(now);
        let gained = i128::try_from(elapsed).unwrap_or(i128::MAX).saturating_mul(i128::from(self.per_minute));
        self.level = self.level.saturating_add(gained).min(full(self.per_minute));
    }
}

/// An amount in parts. The largest is below 2 to the power of 100.
fn full(amount: u64) -> i128 {
    i128::from(amount) * PARTS
}
