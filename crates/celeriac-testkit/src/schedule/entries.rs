//! What is read is what was written.

use std::sync::Arc;

use celeriac_core::EntryName;
use celeriac_schedule::{Condition, Put, Revision};

use super::kit::{ScheduleKit, limit, name, state, step};

pub(super) async fn a_definition_of_any_bytes_comes_back(kit: &ScheduleKit) {
    let every: Vec<u8> = (0..=u8::MAX).collect();
    for (number, bytes) in [Vec::new(), every.clone(), every.repeat(4096)].into_iter().enumerate() {
        let name = name(format!("entry {number}"));
        let put = kit.store.put(&name, bytes.clone().into(), Condition::Always).await.expect("an open store writes");
        let entry = kit.get(&name).await;
        assert_eq!(put, Put::Done(entry.revision), "the revision is told as it is kept");
        assert_eq!((&entry.name, entry.state, entry.steps), (&name, None, 0), "a new entry has no state");
        assert_eq!(entry.definition.len(), bytes.len(), "the definition keeps its length");
        assert!(entry.definition == bytes, "the definition keeps every byte");
    }
    assert_eq!(kit.find(&name("other")).await, None, "what was never written is not there");
}

pub(super) async fn names_of_any_text_are_kept_apart(kit: &ScheduleKit) {
    let marks = ["(", "[", "-", "+", "(a", "[a"];
    let others = ["a", "A", "a ", " a", "a'%_*?\"\\", "é\u{1f331}", "/../:{}", "a:b", "a\0", "a\0b", "a\nb"];
    let long = "x".repeat(255);
    let texts = [&marks[..], &others, &[long.as_str()]].concat();
    let names: Vec<EntryName> = texts.iter().map(|text| name(*text)).collect();
    for name in &names {
        kit.put(name, name.as_str()).await;
    }
    for name in &names {
        let entry = kit.get(name).await;
        assert_eq!((&entry.name, &entry.definition[..]), (name, name.as_bytes()), "each name has its own entry");
    }
    let listed = kit.store.list(None, limit(100)).await.expect("an open store lists");
    let mut sorted = texts;
    sorted.sort_unstable();
    assert_eq!(listed.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), sorted, "by their bytes");
    for pair in listed.windows(2) {
        let next = kit.store.list(Some(&pair[0].name), limit(1)).await.expect("an open store lists");
        assert_eq!(next, pair[1..], "what comes behind `{}`", pair[0].name);
    }
}

pub(super) async fn each_change_has_a_larger_revision(kit: &ScheduleKit) {
    let (one, other) = (name("one"), name("other"));
    let mut last = Revision::START;
    for definition in ["1", "2", "1"] {
        for name in [&one, &other] {
            let revision = kit.put(name, definition).await;
            assert!(revision > last, "{revision:?} comes after {last:?}");
            last = revision;
        }
    }
    kit.remove(&other).await;
    assert!(kit.latest().await > last, "a removal is a change");
    last = kit.latest().await;
    let again = kit.put(&other, "1").await;
    assert!(again > last, "an entry that comes back is new");
}

pub(super) async fn writing_what_is_there_changes_nothing(kit: &ScheduleKit) {
    let name = name("entry");
    let revision = kit.put(&name, "same").await;
    let latest = kit.latest().await;
    assert_eq!(kit.put(&name, "same").await, revision, "the revision that it has is told");
    assert_eq!(kit.put_if(&name, "same", Condition::At(revision)).await, Put::Done(revision));
    assert_eq!(kit.put_if(&name, "same", Condition::Absent).await, Put::Unmet(Some(revision)));
    assert_eq!(kit.latest().await, latest, "nothing has changed");
}

pub(super) async fn a_definition_is_written_only_if_its_condition_holds(kit: &ScheduleKit) {
    let name = name("entry");
    let absent = kit.put_if(&name, "0", Condition::At(Revision(1))).await;
    assert_eq!(absent, Put::Unmet(None), "what is not there has no revision");
    let Put::Done(first) = kit.put_if(&name, "1", Condition::Absent).await else { panic!("it is not there") };
    assert_eq!(kit.put_if(&name, "2", Condition::Absent).await, Put::Unmet(Some(first)));
    let Put::Done(second) = kit.put_if(&name, "3", Condition::At(first)).await else { panic!("it has not changed") };
    assert_eq!(kit.put_if(&name, "4", Condition::At(first)).await, Put::Unmet(Some(second)));
    assert_eq!(kit.get(&name).await.definition, "3", "what was refused is not written");
    kit.remove(&name).await;
    assert_eq!(kit.put_if(&name, "5", Condition::At(second)).await, Put::Unmet(None), "it has gone");
    assert!(matches!(kit.put_if(&name, "6", Condition::Absent).await, Put::Done(_)), "it has gone");
}

pub(super) async fn of_writers_at_once_one_succeeds(kit: &ScheduleKit) {
    let name = name("entry");
    let revision = kit.put(&name, "start").await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (store, name) = (Arc::clone(&kit.store), name.clone());
            tokio::spawn(async move {
                let definition = format!("by {writer}");
                let put = store.put(&name, definition.clone().into(), Condition::At(revision)).await;
                (definition, put.expect("an open store writes"))
            })
        })
        .collect();
    let mut done = Vec::new();
    for writer in writers {
        let (definition, put) = writer.await.expect("one of those who wrote at once failed");
        if let Put::Done(revision) = put {
            done.push((definition, revision));
        }
    }
    let entry = kit.get(&name).await;
    let definition = String::from_utf8_lossy(&entry.definition).into_owned();
    assert_eq!(done, [(definition, entry.revision)], "one succeeded, and its definition is kept");
}

pub(super) async fn a_removed_entry_is_gone_with_its_state(kit: &ScheduleKit) {
    let (gone, stays) = (name("gone"), name("stays"));
    kit.put(&gone, "same").await;
    kit.put(&stays, "same").await;
    let term = kit.lead("me").await;
    assert!(kit.advances(term, step(&kit.get(&gone).await, "state")).await);
    assert!(kit.advances(term, step(&kit.get(&stays).await, "state")).await);
    assert!(kit.remove(&gone).await, "it was there");
    assert!(!kit.remove(&gone).await, "it is gone");
    assert_eq!(kit.find(&gone).await, None);
    assert_eq!(state(&kit.get(&stays).await).as_deref(), Some("state"), "no other entry is touched");
    kit.put(&gone, "same").await;
    let entry = kit.get(&gone).await;
    assert_eq!((entry.state, entry.steps), (None, 0), "it begins without a state");
}

pub(super) async fn entries_are_listed_by_name_page_by_page(kit: &ScheduleKit) {
    let names: Vec<EntryName> = (0..25).map(|number| name(format!("entry-{number:02}"))).collect();
    for name in names.iter().rev() {
        kit.put(name, name.as_str()).await;
    }
    for size in [1, 7, 25, 100] {
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let page = kit.store.list(after.as_ref(), limit(size)).await.expect("an open store lists");
            assert!(page.len() <= size, "a page is not longer than its limit");
            let is_last = page.len() < size;
            after = page.last().map(|entry| entry.name.clone()).or(after);
            listed.extend(page);
            if is_last {
                break;
            }
        }
        assert_eq!(listed.iter().map(|entry| entry.name.clone()).collect::<Vec<_>>(), names, "each once, in order");
        assert!(listed.iter().all(|entry| entry.definition == entry.name.as_str()), "each with its definition");
    }
    // As when it is removed while others are listed.
    kit.remove(&names[7]).await;
    let page = kit.store.list(Some(&names[7]), limit(1)).await.expect("an open store lists");
    assert_eq!(page.first().map(|entry| &entry.name), Some(&names[8]), "behind a name that is not there");
}
