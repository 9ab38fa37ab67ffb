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

#[cfg(test)]
mod tests {
    use super::*;

    /// A generator of odd numbers enough for a test: Steele and Vigna's splitmix64.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (mixed ^ (mixed >> 31)) % bound
        }
    }

    const NANOSECOND: Duration = Duration::from_nanos(1);

    /// What is left in parts, by going through all that ever happened.
    fn naive(history: &[(Duration, Option<u64>, u64)]) -> i128 {
        let (mut rate, mut left, mut at) = (history[0].2, full(history[0].2), history[0].0);
        for &(now, charge, per_minute) in history {
            left = (left + (now - at).as_nanos() as i128 * i128::from(rate)).min(full(rate));
            left = (left - full(charge.unwrap_or(0))).min(full(per_minute));
            (rate, at) = (per_minute, now);
        }
        left
    }

    #[test]
    fn a_bucket_is_what_its_history_says() {
        for seed in 0..200 {
            let mut random = Random(seed);
            let mut per_minute = random.below(5000) + 1;
            let mut now = Duration::from_nanos(random.below(1 << 40));
            let mut bucket = Bucket::new(per_minute, now);
            let mut history = vec![(now, None, per_minute)];
            for _ in 0..60 {
                now += Duration::from_nanos(random.below(20_000_000_000));
                match random.below(8) {
                    0 => {
                        per_minute = random.below(5000) + 1;
                        bucket.set_per_minute(per_minute, now);
                        history.push((now, None, per_minute));
                    }
                    1 => history.push((now, None, per_minute)),
                    _ => {
                        let amount = random.below(1200);
                        bucket.charge(amount, now);
                        history.push((now, Some(amount), per_minute));
                    }
                }
                let left = naive(&history);
                match bucket.check(now) {
                    Ok(()) => assert!(left > 0, "seed {seed}"),
                    Err(wait) => {
                        assert!(left <= 0, "seed {seed}");
                        // The first moment at which something is left, to the nanosecond.
                        let at = |moment| naive(&[history.as_slice(), &[(moment, None, per_minute)]].concat());
                        assert!(at(now + wait) > 0 && at(now + wait - NANOSECOND) <= 0, "seed {seed}");
                    }
                }
            }
        }
    }

    #[test]
    fn extremes_do_not_overflow() {
        let late = Duration::from_secs(1 << 40);
        let mut endless = Bucket::new(u64::MAX, Duration::ZERO);
        endless.charge(u64::MAX - 1, Duration::ZERO);
        assert_eq!(endless.check(Duration::ZERO), Ok(()));
        for _ in 0..1000 {
            endless.charge(u64::MAX, Duration::ZERO);
        }
        assert!(endless.check(Duration::ZERO).is_err());
        assert_eq!(endless.check(late), Ok(()));
        let mut nothing = Bucket::new(0, Duration::ZERO);
        assert_eq!(nothing.check(late), Err(NEVER));
        let mut indebted = Bucket::new(1, Duration::ZERO);
        indebted.charge(u64::MAX, Duration::ZERO);
        assert!(indebted.check(Duration::ZERO).is_err_and(|wait| wait > late / 1000));
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let mut bucket = Bucket::new(60, Duration::from_secs(10));
        bucket.charge(60, Duration::from_secs(10));
        assert!(bucket.check(Duration::from_secs(5)).is_err());
        assert_eq!(bucket.check(Duration::from_secs(10)), Err(NANOSECOND));
    }
}
