//! What a tenant and the machine take on.

use std::sync::Arc;
use std::time::Duration;

use sglhost_core::{Quotas, TenantId};
use sglhost_server::{Begun, RunHandle, Tenant};
use sglhost_store::{RunStatus, Store};

use crate::house::{House, attack, detached};

#[tokio::test]
async fn a_tenant_has_so_many_runs_and_the_machine_so_many() {
    let house = House::new().await;
    let acme = house.tenant("acme", &Quotas { concurrent_runs_max: 2, ..Quotas::default() }).await;
    let zoo = house.tenant("zoo", &Quotas::default()).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(house.new_run(&acme, attack("gate")).await);
    }
    let error = house.start(&acme, attack("gate")).await.unwrap_err();
    assert_eq!((error.status.as_u16(), error.code), (429, "too-many-requests"));
    let fill = async |tenant: &Arc<Tenant>, held: &mut Vec<RunHandle>| loop {
        match house.start(tenant, attack("gate")).await {
            Ok(Begun::New(handle)) => held.push(handle),
            other => break other.unwrap_err(),
        }
    };
    let error = fill(&zoo, &mut held).await;
    assert_eq!((error.status.as_u16(), error.code), (503, "unavailable"));
    assert!(error.message.contains("kept for other tenants") && held.len() < 24, "{} {error}", held.len());
    // Whoever has none gets in, to the last place.
    let mut error = error;
    for index in 0..30 {
        let other = house.tenant(&format!("other{index}"), &Quotas::default()).await;
        let before = held.len();
        error = fill(&other, &mut held).await;
        if before == 24 {
            break;
        }
        assert!(held.len() > before, "tenant {index} of {before} places taken");
    }
    assert_eq!((error.status.as_u16(), error.code, held.len()), (503, "unavailable", 24));
    drop(held);
    house.settle().await;
    assert_eq!((acme.live_count(), zoo.live_count()), (0, 0));
    // One after the other is never one too many: the place is back before the end is heard of.
    let sole = house.tenant("sole", &Quotas { concurrent_runs_max: 1, ..Quotas::default() }).await;
    for _ in 0..50 {
        house.new_run(&sole, attack("nothing")).await.ended().await;
    }
}

#[tokio::test]
async fn tokens_and_cpu_time_are_spent() {
    let house = House::new().await;
    let acme = house.tenant("acme", &House::tokens(5)).await;
    house.new_run(&acme, attack("answer")).await.ended().await;
    let error = house.start(&acme, attack("answer")).await.unwrap_err();
    assert_eq!(error.status.as_u16(), 429);
    assert!(error.message.contains("tokens_per_minute"), "{error}");
    assert!(error.retry_after.unwrap() > Duration::from_secs(1));
    let zoo = house.tenant("zoo", &Quotas { cpu_ms_per_minute: 1, ..Quotas::default() }).await;
    house.new_run(&zoo, attack("loop")).await.ended().await;
    let error = house.start(&zoo, attack("answer")).await.unwrap_err();
    assert!(error.message.contains("cpu_ms_per_minute"), "{error}");
}

#[tokio::test]
async fn a_tenants_contexts_are_those_of_its_runs() {
    let house = House::new().await;
    for (name, contexts_max, left) in [("acme", 3, "3"), ("zoo", 1000, "20")] {
        let tenant = house.tenant(name, &Quotas { contexts_max, ..Quotas::default() }).await;
        let row = house.new_run(&tenant, attack("left")).await.ended().await;
        let json = row.record.unwrap();
        assert!(json.contains(&format!(", {left}]")), "{json}");
    }
}

#[tokio::test]
async fn a_tenant_that_is_removed_takes_its_runs_with_it() {
    let house = House::new().await;
    let acme = house.tenant("acme", &Quotas::default()).await;
    let run = Arc::clone(house.new_run(&acme, detached("endless")).await.run());
    house.store.remove_tenant(&TenantId("acme".into())).await.unwrap();
    house.tenants.refresh().await.unwrap();
    assert_eq!(run.ended().await.status, RunStatus::Cancelled);
    house.settle().await;
    // Whoever still holds it gets nothing more done.
    let late = house.start(&acme, detached("endless")).await;
    drop(late);
    house.settle().await;
    assert_eq!(house.engine.active(), 0);
}
