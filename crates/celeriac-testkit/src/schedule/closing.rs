//! The end of a handle, and what others on the same store see of it.

use std::sync::Arc;

use celeriac_core::{Error, ErrorKind};
use celeriac_schedule::{Condition, Lead, Revision, Term};
use tokio::time::timeout;

use super::kit::{LONG, ScheduleKit, limit, name, state, step};

pub(super) async fn calls_after_close_are_unavailable(kit: &ScheduleKit) {
    let (store, name) = (&kit.store, name("entry"));
    kit.put(&name, "definition").await;
    store.close().await.expect("a store is closed");
    store.close().await.expect("a closed store is closed again");
    let changed = timeout(kit.patience(), store.changed(Revision::START)).await;
    let outcomes = [
        ("put", store.put(&name, "x".into(), Condition::Always).await.err()),
        ("remove", store.remove(&name).await.err()),
        ("get", store.get(&name).await.err()),
        ("list", store.list(None, limit(1)).await.err()),
        ("changes", store.changes(Revision::START, limit(1)).await.err()),
        ("changed", changed.expect("`changed` on a closed store does not wait").err()),
        ("lead", store.lead("me", LONG).await.err()),
        ("resign", store.resign(Term(1)).await.err()),
        ("advance", store.advance(Term(1), Vec::new()).await.err()),
    ];
    for (call, error) in outcomes {
        let kind = error.as_ref().map(Error::kind);
        assert_eq!(kind, Some(ErrorKind::Unavailable), "`{call}` after `close`: {error:?}");
    }
}

pub(super) async fn close_ends_a_pending_wait(kit: &ScheduleKit) {
    let latest = kit.latest().await;
    let store = Arc::clone(&kit.store);
    let waiting = tokio::spawn(async move {
        loop {
            if let Err(error) = store.changed(latest).await {
                break error;
            }
        }
    });
    // So that it waits, most likely; the contract holds either way.
    tokio::task::yield_now().await;
    kit.store.close().await.expect("a store is closed");
    let error = timeout(kit.patience(), waiting).await.expect("`close` ends a pending `changed`");
    let error = error.expect("waiting does not panic");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

pub(super) async fn closing_one_handle_leaves_the_others(kit: &ScheduleKit) {
    let Some(other) = kit.reopen().await else { return };
    let name = name("entry");
    kit.put(&name, "definition").await;
    let term = kit.lead("me").await;
    kit.store.close().await.expect("a store is closed");
    let entry = other.get(&name).await.expect("the other handle is open").expect("the entry is there");
    let led = other.lead("other", LONG).await.expect("the other handle is open");
    assert!(matches!(led, Lead::Led { .. }), "the lease goes on until it ends: {led:?}");
    other.advance(term, vec![step(&entry, "state")]).await.expect("the other handle is open");
    let entry = other.get(&name).await.expect("the other handle is open").expect("the entry is there");
    assert_eq!(state(&entry).as_deref(), Some("state"));
    other.close().await.expect("a store is closed");
}

pub(super) async fn entries_and_terms_survive_a_reopening(kit: &ScheduleKit) {
    let (kept, removed) = (name("kept"), name("removed"));
    kit.put(&kept, "definition").await;
    kit.put(&removed, "definition").await;
    let term = kit.lead("me").await;
    assert!(kit.advances(term, step(&kit.get(&kept).await, "state")).await);
    kit.remove(&removed).await;
    let (entry, latest) = (kit.get(&kept).await, kit.latest().await);
    kit.store.resign(term).await.expect("an open store lets go");
    kit.store.close().await.expect("a store is closed");
    let Some(other) = kit.reopen().await else { return };
    assert_eq!(other.get(&kept).await.expect("an open store reads"), Some(entry), "what was written survived");
    assert_eq!(other.get(&removed).await.expect("an open store reads"), None, "what was removed stays gone");
    let again = other.put(&kept, "changed".into(), Condition::Always).await.expect("an open store writes");
    assert!(matches!(again, celeriac_schedule::Put::Done(revision) if revision > latest), "revisions go on");
    let lead = other.lead("me", LONG).await.expect("an open store tells who leads");
    assert!(matches!(lead, Lead::Leading(next) if next > term), "terms go on: {lead:?}");
    other.close().await.expect("a store is closed");
}
