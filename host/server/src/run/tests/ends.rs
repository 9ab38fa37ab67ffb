//! A run that began ends once, whatever happens.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_run_ends_once_for_all_its_readers_and_in_the_store() {
    let house = House::new();
    let mut run = house.start(1, How::default()).await;
    let mut owner = run.handle.take().unwrap().into_follower();
    let mut other = run.follow(0);
    run.send(call_finished(90, 10)).await;
    house.clock.advance(Duration::from_millis(1500));
    run.send(finished(Ok("\"be kind\"".to_owned()), 100)).await;
    let expect = vec![(1, "call.finished"), (2, "run.finished")];
    assert_eq!((rest(&mut owner).await, rest(&mut other).await), (expect.clone(), expect));
    assert_eq!((owner.next().await, rest(&mut run.follow(1)).await), (None, vec![(2, "run.finished")]));
    let row = house.stored(&run).await;
    assert_eq!((&row, row.status), (&run.live.ended().await, RunStatus::Succeeded));
    assert_eq!((row.started_ms, row.finished_ms), (1_000_000_000, Some(1_000_001_500)));
    assert_eq!(house.admission.live(), 0);
    assert_eq!(house.metric("sglhost_ended_runs_total{status=\"succeeded\"}"), 1.0);
    let usage = house.store.usage(&house.tenant.id, 0).await.unwrap();
    for (name, value) in [
        ("runs_total", usage[0].runs as f64),
        ("prompt_tokens_total", usage[0].usage.prompt_tokens as f64),
        ("cached_tokens_total", usage[0].usage.cached_tokens as f64),
        ("completion_tokens_total", usage[0].usage.completion_tokens as f64),
        ("cpu_seconds_total", usage[0].cpu_time_us as f64 / 1e6),
        ("wall_seconds_total", usage[0].wall_time_ms as f64 / 1e3),
    ] {
        assert!(value > 0.0);
        assert_eq!(house.metric(&format!("sglhost_tenant_{name}{{tenant=\"acme\"}}")), value, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_a_while_takes_the_end_down_later() {
    let house = House::new();
    let mut run = house.start(1, How::default()).await;
    let handle = run.handle.take().unwrap();
    house.store.fail(6);
    run.send(finished(Ok("1".to_owned()), 100)).await;
    // The client is told; the place is held until it is stored.
    assert_eq!(handle.ended().await.status, RunStatus::Succeeded);
    assert_eq!((house.admission.live(), house.store.ends()), (1, 0));
    assert_eq!(run.live.row().status, RunStatus::Succeeded);
    assert!(house.admission.vacant(Duration::from_secs(10)).await);
    assert_eq!((house.stored(&run).await, house.store.ends()), (run.live.row(), 1));
    assert_eq!(house.metric("sglhost_store_failures_total"), 6.0);
    assert_eq!(house.metric("sglhost_tenant_runs_total{tenant=\"acme\"}"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_could_not_be_stored_ends_in_the_store_if_it_is_there_after_all() {
    let house = House::new();
    let run = house.start(1, How { detached: true, ..How::default() }).await;
    house.store.fail(3);
    let place = house.admission.admit(&house.tenant).unwrap();
    Arc::clone(&house.driver).abandon(Arc::clone(&run.live), Some(place)).await;
    let row = house.stored(&run).await;
    assert_eq!((row.status, row.error.as_ref().unwrap().code), (RunStatus::Failed, ErrorCode::Unavailable));
    assert!(house.driver.shelf.all().is_empty());
}

/// What was used until then counts.
async fn fails(house: &House, run: &TestRun, usage: Usage) {
    let row = run.live.ended().await;
    assert_eq!((row.status, row.error.as_ref().unwrap().code), (RunStatus::Failed, ErrorCode::Unavailable));
    assert_eq!(rest(&mut run.follow(0)).await.last().unwrap().1, "run.finished");
    assert_eq!(house.stored(run).await, row);
    assert_eq!(house.store.usage(&house.tenant.id, 0).await.unwrap()[0].usage, usage);
    assert_eq!(house.admission.live(), 0);
}

#[tokio::test(start_paused = true)]
async fn events_that_stop_short_end_the_run() {
    let house = House::new();
    let mut run = house.start(1, How::default()).await;
    run.send(call_finished(90, 10)).await;
    run.send(call_finished(50, 5)).await;
    run.events = mpsc::channel(1).0;
    fails(&house, &run, Usage { prompt_tokens: 140, cached_tokens: 2, completion_tokens: 15 }).await;
}

#[tokio::test(start_paused = true)]
async fn a_bug_in_the_task_ends_the_run() {
    let house = House::new();
    let run = house.start(1, How { broken: true, ..How::default() }).await;
    fails(&house, &run, Usage::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_bug_in_the_store_is_a_failure_of_it() {
    let house = House::new();
    let run = house.start(1, How { detached: true, ..How::default() }).await;
    house.store.panic(2);
    run.send(well()).await;
    assert_eq!(run.live.ended().await.status, RunStatus::Succeeded);
    assert!(house.admission.vacant(Duration::from_secs(10)).await);
    assert_eq!((house.stored(&run).await, house.store.ends()), (run.live.row(), 1));
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_tenant_is_removed_is_cancelled() {
    let house = House::new();
    let run = house.start(1, How { detached: true, ..How::default() }).await;
    house.store.put_tenant(&house.tenant.id, &Quotas::default(), 0).await.unwrap();
    house.store.remove_tenant(&house.tenant.id).await.unwrap();
    house.tenant.gone.cancel();
    run.obey().await;
    let row = run.live.ended().await;
    assert_eq!(row.status, RunStatus::Cancelled);
    assert_eq!(row.error.as_ref().unwrap().message, "the run's tenant was removed");
    assert_eq!((house.admission.live(), house.store.ends()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_program_may_end_with_the_code_of_cancellation() {
    let house = House::new();
    let run = house.start(1, How::default()).await;
    run.send(finished(Err(Error::new(ErrorCode::Cancelled, "I gave up")), 0)).await;
    let row = run.live.ended().await;
    assert_eq!((row.status, row.error.as_ref().unwrap().message.as_str()), (RunStatus::Failed, "I gave up"));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ends_well_although_it_was_cancelled_ended_well() {
    let house = House::new();
    let mut run = house.start(1, How::default()).await;
    drop(run.handle.take());
    run.cancelled.cancelled().await;
    run.send(well()).await;
    assert_eq!(run.live.ended().await.status, RunStatus::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn what_a_run_used_is_charged_once() {
    let quotas = Quotas { tokens_per_minute: 600, cpu_ms_per_minute: 1000, ..Quotas::default() };
    let house = House::with(quotas);
    let run = house.start(1, How { detached: true, ..How::default() }).await;
    run.send(call_finished(500, 99)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    house.tenant.enter(Duration::ZERO).unwrap();
    // A call that was cancelled is in the end's sum alone. 800 tokens are 200 too many: 20 seconds.
    run.send(finished(Ok("1".to_owned()), 800)).await;
    run.live.ended().await;
    let error = house.tenant.enter(Duration::ZERO).unwrap_err();
    assert_eq!((error.status.as_u16(), error.retry_after), (429, Some(Duration::from_nanos(20_000_000_001))));
}
