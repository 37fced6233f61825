//! How changes are told.

use std::sync::Arc;

use celeriac_core::EntryName;
use celeriac_schedule::{Change, Changes, Revision};
use tokio::time::timeout;

use super::kit::{ScheduleKit, limit, name, step};

fn told(changes: &[Change]) -> Vec<String> {
    let one = |change: &Change| match change {
        Change::Put(entry) => format!("{}={}", entry.name, String::from_utf8_lossy(&entry.definition)),
        Change::Removed(name) => format!("-{name}"),
    };
    changes.iter().map(one).collect()
}

pub(super) async fn from_the_start_changes_are_unknown(kit: &ScheduleKit) {
    let empty = kit.latest().await;
    let (changes, until, more) = kit.changes(empty, 10).await;
    assert_eq!((changes, until, more), (Vec::new(), empty, false), "nothing has come since");
    kit.put(&name("a"), "1").await;
    let latest = kit.latest().await;
    kit.put(&name("b"), "1").await;
    let (changes, _, _) = kit.changes(latest, 10).await;
    assert_eq!(told(&changes), ["b=1"], "what comes while everything is listed is told behind it");
}

pub(super) async fn changes_come_in_the_order_of_their_revisions(kit: &ScheduleKit) {
    let names = ["a", "b", "c", "d"].map(name);
    let [a, b, c, d] = &names;
    kit.put(d, "1").await;
    let since = kit.latest().await;
    kit.put(c, "1").await;
    kit.put(b, "1").await;
    kit.put(a, "1").await;
    kit.put(c, "2").await;
    kit.remove(b).await;
    kit.remove(d).await;
    let (changes, until, more) = kit.changes(since, 100).await;
    assert_eq!(told(&changes), ["a=1", "c=2", "-b", "-d"], "each once, as it is now, in order");
    assert!(!more && until == kit.latest().await, "that is all");
    kit.put(b, "3").await;
    let (changes, _, _) = kit.changes(since, 100).await;
    assert_eq!(told(&changes), ["a=1", "c=2", "-d", "b=3"], "what came back is there");
    let (changes, _, _) = kit.changes(until, 100).await;
    assert_eq!(told(&changes), ["b=3"], "what was told is not told again");
    let Change::Put(entry) = &changes[0] else { panic!("it is there") };
    assert_eq!(entry, &kit.get(b).await, "it is told whole");
}

pub(super) async fn changes_come_page_by_page(kit: &ScheduleKit) {
    let first = kit.latest().await;
    let names: Vec<EntryName> = (0..25).map(|number| name(format!("entry-{number}"))).collect();
    for name in &names {
        kit.put(name, "1").await;
    }
    kit.remove(&names[3]).await;
    let (mut all, mut since) = (Vec::new(), first);
    loop {
        let (changes, until, more) = kit.changes(since, 7).await;
        assert!(changes.len() <= 7, "no more than asked for");
        assert!(!changes.is_empty() && until > since, "each page goes on");
        all.extend(changes);
        since = until;
        if !more {
            break;
        }
    }
    let (whole, _, _) = kit.changes(first, 100).await;
    assert_eq!(told(&all), told(&whole), "the pages make up the whole");
    assert_eq!(all.len(), 25);
}

pub(super) async fn a_step_is_no_change(kit: &ScheduleKit) {
    let name = name("entry");
    kit.put(&name, "1").await;
    let (term, latest) = (kit.lead("me").await, kit.latest().await);
    let (store, entry) = (Arc::clone(&kit.store), kit.get(&name).await);
    let waiting = tokio::spawn(async move { store.changed(latest).await });
    assert!(kit.advances(term, step(&entry, "state")).await);
    assert_eq!(kit.latest().await, latest, "no definition has changed");
    let (changes, ..) = kit.changes(latest, 10).await;
    assert_eq!(changes, [], "no definition has changed");
    assert_eq!(kit.get(&name).await.revision, entry.revision, "the definition keeps its revision");
    // It may return for nothing: but a store that does so for each step would keep its leader busy with itself.
    if !waiting.is_finished() {
        assert!(timeout(kit.quiet(), waiting).await.is_err(), "nobody is woken by a step");
    }
}

pub(super) async fn who_waits_is_woken_by_a_change(kit: &ScheduleKit) {
    let another = kit.another().await;
    for round in 0..20 {
        let store = if round < 10 { &kit.store } else { &another };
        let latest = kit.latest().await;
        let waiting = {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                loop {
                    store.changed(latest).await.expect("an open store waits");
                    let changes = store.changes(latest, limit(10)).await.expect("an open store reads");
                    if !matches!(&changes, Changes::Known { changes, .. } if changes.is_empty()) {
                        break changes;
                    }
                }
            })
        };
        // Now and then the change comes first.
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        let name = name("entry");
        if round % 5 == 4 {
            kit.remove(&name).await;
        } else {
            kit.put(&name, round.to_string()).await;
        }
        let woken = timeout(kit.patience(), waiting).await.expect("who waits is woken by a change");
        let Changes::Known { changes, .. } = woken.expect("waiting does not panic") else {
            panic!("a few changes are remembered")
        };
        assert_eq!(changes.len(), 1, "the change is told");
    }
}

pub(super) async fn a_dropped_wait_loses_no_change(kit: &ScheduleKit) {
    let latest = kit.latest().await;
    for _ in 0..3 {
        // It may return for nothing, at most.
        let _ = timeout(kit.quiet() / 3, kit.store.changed(latest)).await;
    }
    kit.put(&name("entry"), "1").await;
    let woken = timeout(kit.patience(), kit.store.changed(latest)).await;
    woken.expect("the change was before").expect("an open store waits");
    let first = timeout(kit.patience(), kit.store.changed(Revision::START)).await;
    first.expect("there are changes after the start").expect("an open store waits");
}
