//! What the store of schedules does beyond the contract of every one.

mod common;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use celeriac_broker::{Outgoing, QueueSpec};
use celeriac_core::{Clock, EntryName, ErrorKind, ExchangeName, QueueName, Timestamp};
use celeriac_schedule::{Advance, Condition, Lead, Put, ScheduleStore, Step, Stepped, Term};
use celeriac_testkit::{ManualClock, soon};
use common::*;

const LONG: Duration = Duration::from_secs(3_600);

fn name(text: impl Into<String>) -> EntryName {
    EntryName::new(text.into()).expect("a valid name")
}

async fn put(store: &Arc<dyn ScheduleStore>, name: &EntryName) -> Step {
    match store.put(name, "definition".into(), Condition::Always).await.expect("an open store writes") {
        Put::Done(revision) => Step::new(name.clone(), revision, 0, "state"),
        unmet @ Put::Unmet(_) => panic!("there is no condition: {unmet:?}"),
    }
}

async fn lead(store: &Arc<dyn ScheduleStore>) -> Term {
    match store.lead("leader", LONG).await.expect("an open store tells who leads") {
        Lead::Leading(term) => term,
        led @ Lead::Led { .. } => panic!("nobody else leads: {led:?}"),
    }
}

async fn advance(store: &Arc<dyn ScheduleStore>, term: Term, steps: Vec<Step>) -> Vec<Stepped> {
    match store.advance(term, steps).await.expect("an open store takes steps") {
        Advance::Stepped(outcomes) => outcomes,
        Advance::Fenced => panic!("the leader is the newest"),
    }
}

fn nowhere(queue: &QueueName) -> Outgoing {
    let mut lost = outgoing("lost", queue);
    lost.destination.exchange = ExchangeName::from_static("nowhere");
    lost
}

#[tokio::test]
async fn a_refused_step_takes_the_queue_that_it_made_along() {
    let place = Place::new();
    let (store, fresh) = (place.open().await, queue("fresh"));
    let schedule = store.schedule();
    let term = lead(&schedule).await;
    let bad = put(&schedule, &name("bad")).await.publishing(vec![outgoing("bad", &fresh), nowhere(&fresh)]);
    let good = put(&schedule, &name("good")).await.publishing(vec![outgoing("good", &fresh)]);
    let outcomes = advance(&schedule, term, vec![bad.clone()]).await;
    assert!(matches!(&outcomes[..], [Stepped::Refused(error)] if error.kind() == ErrorKind::NotFound), "{outcomes:?}");
    let count = |sql| raw(&place.path()).query_row(sql, [], |row| row.get::<_, i64>(0));
    assert_eq!(count("SELECT (SELECT count(*) FROM queue) + (SELECT count(*) FROM message)"), Ok(0));
    // Nor does the next step of the same transaction believe in it.
    let outcomes = advance(&schedule, term, vec![bad, good]).await;
    assert!(matches!(outcomes[..], [Stepped::Refused(_), Stepped::Done]), "{outcomes:?}");
    assert_eq!(store.broker().depth(&fresh).await.unwrap(), 1, "the queue was made once more");
    let mut consumer = consumer(&store, &fresh).await;
    assert_eq!(text(&one(&mut consumer).await), "good");
    assert_eq!(count("SELECT count(*) FROM message"), Ok(1));
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_with_its_step_alone() {
    let (place, mail) = (Place::new(), queue("mail"));
    let store = open(place.config().max_message_bytes(1000)).await;
    let schedule = store.schedule();
    let term = lead(&schedule).await;
    let large = put(&schedule, &name("large")).await.publishing(vec![outgoing("x".repeat(2000), &mail)]);
    let fits = put(&schedule, &name("fits")).await.publishing(vec![outgoing("x", &mail)]);
    let mut stale = large.clone();
    stale.steps = 7;
    let outcomes = advance(&schedule, term, vec![large, fits, stale]).await;
    let [Stepped::Refused(error), Stepped::Done, Stepped::Stale] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(store.broker().depth(&mail).await.unwrap(), 1);
}

#[tokio::test]
async fn a_step_publishes_as_a_broker_does() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let clock = ManualClock::new();
    let store = open(place.config().clock(Arc::new(clock.clone()))).await;
    let mut spec = QueueSpec::direct(jobs.clone());
    spec.max_priority = Some(9);
    store.broker().declare(&spec).await.unwrap();
    let schedule = store.schedule();
    let term = lead(&schedule).await;
    let mut urgent = outgoing("urgent", &jobs);
    urgent.message.properties.priority = Some(9.into());
    let mut short = outgoing("short", &jobs);
    short.message.properties.expiration = Some(Duration::from_secs(5));
    let late = outgoing("late", &jobs).deliver_at(clock.now() + Duration::from_secs(60));
    let step = put(&schedule, &name("entry")).await;
    let step = step.publishing(vec![outgoing("plain", &jobs), urgent, short, late]);
    assert!(matches!(advance(&schedule, term, vec![step]).await[..], [Stepped::Done]));
    clock.advance(Duration::from_secs(10));
    let mut consumer = consumer(&store, &jobs).await;
    let taken = take(&mut consumer, 2).await;
    assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), ["urgent", "plain"]);
    assert_eq!(store.broker().depth(&jobs).await.unwrap(), 0, "one has expired, and one is not due");
    clock.advance(LONG);
    assert_eq!(store.broker().depth(&jobs).await.unwrap(), 1);
}

#[tokio::test]
async fn a_step_wakes_those_who_consume_here_and_elsewhere() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let (store, other) = (place.open().await, place.open().await);
    let schedule = store.schedule();
    let (term, mut step) = (lead(&schedule).await, put(&schedule, &name("entry")).await);
    for consuming in [&store, &other] {
        let mut consumer = consumer(consuming, &jobs).await;
        let mut quickest = Duration::MAX;
        for _ in 0..20 {
            let start = std::time::Instant::now();
            let one_step = step.clone().publishing(vec![outgoing("tick", &jobs)]);
            let (delivery, outcomes) = tokio::join!(one(&mut consumer), advance(&schedule, term, vec![one_step]));
            assert!(matches!(outcomes[..], [Stepped::Done]));
            quickest = quickest.min(start.elapsed());
            delivery.ack().await.unwrap();
            step.steps += 1;
        }
        assert!(quickest < Duration::from_millis(100), "woken, not polled: {quickest:?}");
        consumer.cancel().await.unwrap();
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_no_lease_longer() {
    let place = Place::new();
    let clock = ManualClock::at(Timestamp::from_micros(100_000_000_000));
    let config = || place.config().clock(Arc::new(clock.clone()));
    let (first, second) = (open(config()).await.schedule(), open(config()).await.schedule());
    let lease = Duration::from_secs(10);
    let Lead::Leading(term) = first.lead("first", lease).await.unwrap() else { panic!("nobody else leads") };
    clock.set(Timestamp::from_micros(0));
    let led = Lead::Led { by: "first".to_owned(), remaining: lease };
    assert_eq!(second.lead("second", lease).await.unwrap(), led);
    clock.advance(Duration::from_secs(11));
    let Lead::Leading(next) = second.lead("second", lease).await.unwrap() else { panic!("the lease has ended") };
    assert!(next > term);
}

#[tokio::test]
async fn an_entry_over_the_limit_is_named_with_its_size() {
    let place = Place::new();
    let least = 1024 * 1024;
    for (limit, expected) in [(1, least), (2 * least, 2 * least)] {
        let store = open(place.config().max_message_bytes(limit)).await;
        let (schedule, entry) = (store.schedule(), name(format!("limit-{limit}")));
        let term = schedule.lead("leader", Duration::ZERO).await.unwrap();
        let Lead::Leading(term) = term else { panic!("nobody else leads") };
        let step = put(&schedule, &entry).await;
        let refused = |error: celeriac_core::Error| {
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            let said = format!("entry `{entry}` has {} bytes and is over the limit of {expected}", expected + 1);
            assert!(error.to_string().contains(&said), "{error}");
        };
        let large = |size| Step::new(entry.clone(), step.revision, 0, vec![7; size]);
        refused(schedule.put(&entry, vec![7; expected + 1].into(), Condition::Always).await.unwrap_err());
        refused(schedule.advance(term, vec![step.clone(), large(expected + 1)]).await.unwrap_err());
        assert_eq!(schedule.get(&entry).await.unwrap().unwrap().steps, 0, "nothing was done");
        assert!(matches!(advance(&schedule, term, vec![large(expected)]).await[..], [Stepped::Done]));
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_hundred_thousand_entries_are_listed_page_by_page() {
    const ENTRIES: usize = 100_000;
    let place = Place::new();
    let schedule = place.open().await.schedule();
    let sql = "WITH RECURSIVE number (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n < 99999)
               INSERT INTO entry (name, revision, steps, definition)
                   SELECT CAST(printf('entry-%06d', n * 37 % 100000) AS BLOB), n + 2, 0, zeroblob(200) FROM number;
               UPDATE schedule SET revision = 100001";
    raw(&place.path()).execute_batch(sql).unwrap();
    let page = NonZeroUsize::new(1000).unwrap();
    let (mut after, mut count) = (None, 0);
    loop {
        let entries = schedule.list(after.as_ref(), page).await.unwrap();
        for (number, entry) in entries.iter().enumerate() {
            assert_eq!(entry.name.as_str(), format!("entry-{:06}", count + number));
        }
        count += entries.len();
        if entries.len() < page.get() {
            break;
        }
        after = entries.last().map(|entry| entry.name.clone());
    }
    assert_eq!(count, ENTRIES);
}

#[cfg(unix)]
#[tokio::test]
async fn without_a_socket_what_another_store_does_is_noticed_all_the_same() {
    let place = Place::new();
    let (one, other) = (place.open().await.schedule(), place.open().await.schedule());
    let entry = name("entry");
    let mut latest = put(&one, &entry).await.revision;
    let mut waiting = one.changed(latest);
    tokio::time::timeout(Duration::from_millis(100), &mut waiting).await.expect_err("nothing changes");
    let beside = std::fs::read_dir(place.directory.path().join("jobs.db.d")).unwrap();
    let sockets =
        beside.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "sock"));
    assert_eq!(sockets.map(|path| std::fs::remove_file(path).unwrap()).count(), 1, "it waits");
    let changed = other.put(&entry, "changed".into(), Condition::Always).await.unwrap();
    soon(waiting).await.unwrap();
    match changed {
        Put::Done(revision) => latest = revision,
        Put::Unmet(_) => panic!("there is no condition"),
    }
    // So that the store would have stopped looking, if it looked only while somebody waits.
    tokio::time::sleep(Duration::from_millis(2500)).await; // wait: that a store looks cannot be seen
    let mut waiting = one.changed(latest);
    tokio::time::timeout(Duration::from_millis(100), &mut waiting).await.expect_err("nothing changes");
    let term = lead(&other).await;
    other.resign(term).await.unwrap();
    soon(waiting).await.unwrap();
}

#[tokio::test]
async fn who_waits_sees_that_the_file_is_gone() {
    let place = Place::new();
    let schedule = place.open().await.schedule();
    let revision = put(&schedule, &name("entry")).await.revision;
    let waits = async {
        loop {
            if let Err(error) = schedule.changed(revision).await {
                break error;
            }
        }
    };
    let removes = async {
        // Now and then before the waiting begins, which is no matter.
        tokio::task::yield_now().await;
        std::fs::remove_file(place.path()).unwrap();
    };
    let (error, ()) = tokio::join!(soon(waits), removes);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("deleted"), "{error}");
}
