//! The pool with real threads.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use sglhost_text::Constraint;

use super::*;
use crate::{SystemClock, tests::scripted};

const LONG: Duration = Duration::from_secs(60);

fn pool(threads: usize) -> MaskPool {
    MaskPool::start(Some(threads), true, Arc::new(SystemClock::default()), Arc::default()).unwrap()
}

fn constrained() -> Constrained {
    // A constraint of its own remembers nothing of another's.
    Constrained::new(&Constraint::regex("[a-c]x*", &scripted::tokenizer()).unwrap())
}

/// One whose mask is not known.
fn unknown() -> Constrained {
    let mut constrained = constrained();
    assert!(constrained.state().advance(0));
    constrained
}

/// The same of a constraint whose masks were all in time.
fn trusted() -> Constrained {
    let constrained = unknown();
    constrained.in_time.store(TRUSTED_AFTER, Ordering::Relaxed);
    constrained
}

#[test]
fn a_worker_builds_what_is_not_known() {
    let mut pool = pool(2);
    let mut all: Vec<Constrained> = (0..20).map(|_| unknown()).collect();
    all.iter_mut().for_each(|one| one.start(&mut pool));
    for one in &mut all {
        assert!(one.is_ready(LONG));
        assert_eq!(one.mask().unwrap().iter().collect::<Vec<_>>(), [23, scripted::END]);
    }
}

#[test]
fn what_is_known_is_sent_nowhere() {
    let mut pool = pool(1);
    let mut constrained = constrained();
    constrained.start(&mut pool);
    assert!(matches!(constrained.place, Place::Here(_, Some(_))));
}

#[test]
fn without_workers_this_thread_builds() {
    let mut pool = pool(0);
    let mut constrained = unknown();
    constrained.start(&mut pool);
    constrained.help(&pool);
    assert!(constrained.is_ready(Duration::ZERO));
}

#[test]
fn this_thread_helps_where_nobody_has_begun_and_no_mask_was_slow() {
    let mut pool = pool(1);
    // Keeps the worker from beginning.
    let hold = pool.shared.clone();
    let held = lock(&hold.queue);
    let submit = |constrained: &mut Constrained| {
        let Place::Here(state, _) = std::mem::replace(&mut constrained.place, Place::Lost) else {
            panic!("it is here")
        };
        let (progress, done) = (Mutex::new(Progress::Waiting(state)), Condvar::new());
        constrained.place = Place::Away(Arc::new(Job { progress, done, delay: 0.into() }));
    };
    let (mut usual, mut slow) = (trusted(), unknown());
    slow.slow = true;
    submit(&mut usual);
    submit(&mut slow);
    usual.help(&pool);
    slow.help(&pool);
    assert!(usual.is_ready(Duration::ZERO));
    assert!(!slow.is_ready(LONG), "nobody waits for a call that is slow");
    drop(held);
    // Nor is it begun for nothing: its job was dropped with its call.
    drop(slow);
    let mut next = unknown();
    next.start(&mut pool);
    assert!(next.is_ready(LONG));
}

#[test]
fn a_constraint_is_trusted_when_its_masks_were_in_time() {
    let built = |took| {
        let mut state = unknown().state().clone();
        let mask = state.mask();
        Built { state: Some((state, mask)), took }
    };
    let constraint = Constraint::regex("[a-c]x*", &scripted::tokenizer()).unwrap();
    let (mut one, mut other) = (Constrained::new(&constraint), Constrained::new(&constraint));
    for _ in 0..TRUSTED_AFTER {
        assert!(!one.is_trusted() && !other.is_trusted());
        one.take_back(built(GRACE));
    }
    assert!(one.is_trusted() && other.is_trusted() && !one.slow);
    other.take_back(built(GRACE * 2));
    assert!(other.slow && !one.slow && !one.is_trusted());
}

#[test]
fn what_takes_a_step_too_long_is_left_to_the_workers() {
    let mut pool = MaskPool::start(Some(1), false, Arc::new(SystemClock::default()), Arc::default()).unwrap();
    let mut constrained = trusted();
    constrained.start(&mut pool);
    constrained.hand_over(&mut pool);
    assert!(matches!(constrained.place, Place::Away(_)) && constrained.has_come(&pool, LONG));
}

#[test]
fn workers_are_left_what_is_slow_where_they_share_the_cores_with_the_device() {
    let mut pool = MaskPool::start(Some(1), false, Arc::new(SystemClock::default()), Arc::default()).unwrap();
    let (mut usual, mut slow) = (trusted(), unknown());
    usual.start(&mut pool);
    slow.start(&mut pool);
    assert!(matches!(usual.place, Place::Here(_, None)) && matches!(slow.place, Place::Away(_)));
    usual.help(&pool);
    assert!(usual.mask().is_ok() && slow.has_come(&pool, LONG));
}

#[test]
fn a_panic_fails_its_call_alone() {
    let mut pool = pool(1);
    pool.plant_panic();
    let mut failing = unknown();
    failing.start(&mut pool);
    assert!(failing.is_ready(LONG));
    failing.help(&pool);
    assert_eq!(failing.mask().unwrap_err().code, sglhost_core::ErrorCode::Unavailable);
    let mut other = unknown();
    other.start(&mut pool);
    assert!(other.is_ready(LONG) && other.mask().is_ok());
}
