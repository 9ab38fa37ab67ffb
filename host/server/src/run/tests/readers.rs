//! Who reads a run's events, and who owns it.

use super::*;

/// Sends as many events as are taken in a minute of the test's time.
async fn flood(run: &TestRun, events: usize) -> usize {
    for sent in 0..events {
        if tokio::time::timeout(Duration::from_secs(50), run.events.send(text())).await.is_err() {
            return sent;
        }
    }
    events
}

#[tokio::test(start_paused = true)]
async fn whoever_owns_a_run_cancels_it_by_going_away() {
    for as_follower in [false, true] {
        let house = House::new();
        let mut run = house.start(1, How::default()).await;
        let mut other = run.follow(0);
        let handle = run.handle.take().unwrap();
        if as_follower {
            drop(handle.into_follower());
        } else {
            drop(handle);
        }
        run.obey().await;
        let row = run.live.ended().await;
        assert_eq!(row.status, RunStatus::Cancelled);
        assert!(row.error.as_ref().unwrap().message.contains("\"detach\": true"));
        let (_, kind, json) = other.next().await.unwrap();
        assert_eq!(kind, "run.finished");
        assert!(std::str::from_utf8(&json).unwrap().contains("went away"));
        assert_eq!(house.stored(&run).await, row);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_only_follows_changes_nothing() {
    let house = House::new();
    let mut run = house.start(1, How::default()).await;
    let ended = tokio::spawn(run.handle.take().unwrap().ended());
    drop(run.follow(0));
    let detached = house.start(2, How { detached: true, ..How::default() }).await;
    drop(detached.handle);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!run.cancelled.is_cancelled() && !detached.cancelled.is_cancelled());
    run.send(well()).await;
    assert_eq!(ended.await.unwrap().status, RunStatus::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_run_waits_for_its_owner_and_loses_nothing() {
    let house = House::new();
    let mut run = house.start(1, How::default()).await;
    let mut owner = run.handle.take().unwrap().into_follower();
    let sent = flood(&run, 1000).await;
    assert!((20..100).contains(&sent), "{sent}");
    let reading = tokio::spawn(async move { rest(&mut owner).await });
    assert_eq!(flood(&run, 500).await, 500);
    run.send(well()).await;
    let read = reading.await.unwrap();
    assert!(read.iter().map(|&(id, _)| id).eq(1..=(sent as u64 + 501)), "{read:?}");
    assert_eq!(run.live.ended().await.status, RunStatus::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_takes_nothing_loses_its_run() {
    let house = House::new();
    let mut run = house.start(1, How::default()).await;
    let mut owner = run.handle.take().unwrap().into_follower();
    flood(&run, 1000).await;
    owner.next().await.unwrap();
    tokio::time::sleep(SLOW_READER * 2).await;
    run.obey().await;
    let row = run.live.ended().await;
    assert_eq!(row.status, RunStatus::Cancelled);
    assert!(row.error.as_ref().unwrap().message.contains("for 60 s (slow_reader)"), "{row:?}");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_waits_for_the_end_alone_holds_nothing_up() {
    let house = House::new();
    let mut run = house.start(1, How::default()).await;
    let ended = tokio::spawn(run.handle.take().unwrap().ended());
    assert_eq!(flood(&run, 1000).await, 1000);
    run.send(well()).await;
    assert_eq!(ended.await.unwrap().status, RunStatus::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_its_owner_can_be_cancelled() {
    let house = House::new();
    let mut run = house.start(1, How::default()).await;
    let _owner = run.handle.take().unwrap().into_follower();
    flood(&run, 1000).await;
    run.live.cancel(super::super::live::CancelReason::Asked);
    run.obey().await;
    let row = run.live.ended().await;
    assert_eq!(row.error.as_ref().unwrap().message, "the run was cancelled by its caller");
}

#[tokio::test(start_paused = true)]
async fn a_detached_run_waits_for_nobody() {
    let house = House::new();
    let run = house.start(1, How { detached: true, ..How::default() }).await;
    let mut slow = run.follow(0);
    assert_eq!(flood(&run, 1000).await, 1000);
    run.send(well()).await;
    run.live.ended().await;
    // One that was too slow is sent away rather than shown a gap.
    assert_eq!(slow.next().await, None);
    let error = run.live.follow(0).unwrap_err();
    assert_eq!(error.status.as_u16(), 410);
    let after = error.message.rsplit('=').next().unwrap().parse().unwrap();
    let read = rest(&mut run.follow(after)).await;
    assert_eq!((read[0].0, *read.last().unwrap()), (after + 1, (1001, "run.finished")));
    assert_eq!(rest(&mut run.follow(u64::MAX)).await, []);
}

#[tokio::test(start_paused = true)]
async fn an_event_is_serialised_once_for_all() {
    let house = House::new();
    let run = house.start(1, How::default()).await;
    run.send(text()).await;
    let (mut first, mut second) = (run.follow(0), run.follow(0));
    let (first, second) = (first.next().await.unwrap().2, second.next().await.unwrap().2);
    assert_eq!(first.as_ptr(), second.as_ptr());
    assert_eq!(serde_json::from_slice::<Event>(&first).unwrap(), text());
}
