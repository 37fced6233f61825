//! Who leads, and for how long.

use std::sync::Arc;
use std::time::Duration;

use celeriac_schedule::{Lead, Term};
use tokio::time::timeout;

use super::kit::{LONG, ScheduleKit, name};

/// Long enough to be renewed in time on a slow machine.
const LEASE: Duration = Duration::from_secs(2);

pub(super) async fn one_of_many_leads(kit: &ScheduleKit) {
    let candidates: Vec<_> = (0..8)
        .map(|number| {
            let store = Arc::clone(&kit.store);
            tokio::spawn(async move { store.lead(&format!("candidate {number}"), LONG).await })
        })
        .collect();
    let mut answers = Vec::new();
    for candidate in candidates {
        answers.push(candidate.await.expect("leading does not panic").expect("an open store tells who leads"));
    }
    let leader = answers.iter().position(|answer| matches!(answer, Lead::Leading(_))).expect("one of them leads");
    for (number, answer) in answers.iter().enumerate().filter(|(number, _)| *number != leader) {
        let Lead::Led { by, remaining } = answer else { panic!("{number} and {leader} both lead") };
        assert_eq!(by, &format!("candidate {leader}"), "the others are told who leads");
        assert!(*remaining <= LONG && *remaining > LONG / 2, "and for how long: {remaining:?}");
    }
}

pub(super) async fn the_leader_renews_its_lease_and_keeps_its_term(kit: &ScheduleKit) {
    let Lead::Leading(term) = kit.try_lead("leader", LEASE).await else { panic!("nobody else leads") };
    for _ in 0..4 {
        kit.pass(LEASE / 2).await;
        assert_eq!(kit.try_lead("leader", LEASE).await, Lead::Leading(term), "the leader keeps its term");
        assert!(matches!(kit.try_lead("other", LEASE).await, Lead::Led { .. }), "the lease was renewed");
    }
}

pub(super) async fn when_the_lease_ends_another_leads(kit: &ScheduleKit) {
    let lease = Duration::from_millis(300);
    let mut last = Term(0);
    for who in ["first", "second", "first"] {
        let Lead::Leading(term) = kit.try_lead(who, lease).await else { panic!("the lease of the other has ended") };
        assert!(term > last, "{term:?} comes after {last:?}");
        last = term;
        kit.pass(lease + Duration::from_millis(100)).await;
    }
}

pub(super) async fn when_the_leader_resigns_another_leads_at_once(kit: &ScheduleKit) {
    let first = kit.lead("first").await;
    let latest = kit.latest().await;
    let stores = [Arc::clone(&kit.store), Arc::clone(&kit.store), kit.another().await];
    let waiting = stores.map(|store| tokio::spawn(async move { store.changed(latest).await }));
    assert!(matches!(kit.try_lead("second", LONG).await, Lead::Led { .. }), "the first leads");
    // So that it waits, most likely; one that returned already is right too.
    tokio::time::sleep(kit.quiet() / 2).await; // wait: that another task waits cannot be seen
    kit.store.resign(first).await.expect("an open store lets go");
    for waiting in waiting {
        let woken = timeout(kit.patience(), waiting).await.expect("all who wait are woken when the leader resigns");
        woken.expect("waiting does not panic").expect("an open store waits");
    }
    let second = kit.lead("second").await;
    assert!(second > first, "{second:?} comes after {first:?}");
    kit.store.resign(second).await.expect("an open store lets go");
    assert!(kit.lead("second").await > second, "who resigned and leads again does so in a new term");
}

pub(super) async fn who_does_not_lead_cannot_resign(kit: &ScheduleKit) {
    let first = kit.lead("first").await;
    kit.store.resign(first).await.expect("an open store lets go");
    let second = kit.lead("second").await;
    for term in [first, Term(second.0 + 1), first] {
        kit.store.resign(term).await.expect("resigning another term is no error");
    }
    assert!(matches!(kit.try_lead("third", LONG).await, Lead::Led { .. }), "the second leads on");
    assert_eq!(kit.try_lead("second", LONG).await, Lead::Leading(second));
    // A leader is no entry.
    assert_eq!(kit.find(&name("second")).await, None);
}
