//! What is kept of runs that ended.

use super::*;

#[tokio::test(start_paused = true)]
async fn ended_runs_are_forgotten_after_a_while() {
    let house = House::new();
    let run = house.start(1, How { detached: true, ..How::default() }).await;
    let under_way = house.start(2, How { detached: true, ..How::default() }).await;
    run.send(well()).await;
    run.live.ended().await;
    tokio::task::yield_now().await;
    let find = |run: &TestRun, now| house.driver.shelf.get(&house.tenant.id, run.live.id(), now);
    let kept = Duration::from_secs(600);
    assert!(find(&run, kept - Duration::from_nanos(1)).is_some());
    assert!(find(&run, kept).is_none());
    assert!(find(&under_way, kept * 100).is_some());
    assert!(house.driver.shelf.get(&TenantId("other".into()), under_way.live.id(), kept).is_none());
    // Who takes a removed tenant's name is somebody else.
    house.tenant.gone.cancel();
    assert!(find(&under_way, kept).is_none());
}

#[tokio::test(start_paused = true)]
async fn those_that_ended_first_are_forgotten_first() {
    let house = House::new();
    for id in 0..400 {
        let run = house.start(id, How { detached: true, ..How::default() }).await;
        for _ in 0..100 {
            run.send(text()).await;
        }
        run.send(well()).await;
        run.live.ended().await;
        tokio::task::yield_now().await;
    }
    let mut kept: Vec<u64> = house.driver.shelf.all().iter().map(|run| run.id().0).collect();
    kept.sort_unstable();
    let bytes: usize = house.driver.shelf.all().iter().map(|run| run.bytes()).sum();
    assert!(kept.iter().copied().eq(400 - kept.len() as u64..400), "{kept:?}");
    assert!(((1 << 20) - 10_000..=1 << 20).contains(&bytes), "{bytes}");
}
