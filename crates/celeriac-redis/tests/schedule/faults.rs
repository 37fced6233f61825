//! When connections break and servers cannot: a tick is sent once, and what is wrong is said.

use std::time::Duration;

use celeriac_core::{ErrorKind, QueueName, Timestamp};
use celeriac_redis::{RedisConfig, RedisStore};
use celeriac_schedule::{Advance, Changes, Condition, Lead, Put, Revision, Step, Stepped};
use celeriac_testkit::proxy::{Cut, FaultProxy};
use celeriac_testkit::server::{Fsync, RedisServer};
use celeriac_testkit::{PATIENCE, eventually, soon};

use crate::common::*;
use crate::{KEYS, LONG, get, latest, lead, name, outcomes, put, step};

/// A store behind a proxy, which has called every script it needs.
async fn behind(proxy: &FaultProxy) -> RedisStore {
    let store = open(RedisConfig::from_url(&format!("redis://{}/0", proxy.address())).unwrap()).await;
    latest(&store.schedule()).await;
    store
}

#[tokio::test]
async fn wherever_the_connection_is_cut_a_tick_is_published_once_and_told_as_taken() {
    let (server, jobs, entry) = (RedisServer::start().await, queue("jobs"), name("entry"));
    let proxy = FaultProxy::start(server.address()).await;
    let store = behind(&proxy).await;
    let schedule = store.schedule();
    put(&schedule, &entry, "definition").await;
    let term = lead(&schedule).await;
    let cuts = [
        Cut::before(1),
        Cut::inside(1),
        Cut::after(1),
        Cut::before_reply(1),
        Cut::inside_reply(1),
        Cut::after_reply(1),
    ];
    for (count, cut) in (1..).zip(cuts) {
        let next = step(&get(&schedule, &entry).await, vec![outgoing("tick", &jobs)]);
        proxy.cut_at(cut.clone().of("EVALSHA"));
        let taken = soon(outcomes(&schedule, term, vec![next])).await;
        assert!(matches!(taken[..], [Stepped::Done]), "{cut:?}: {taken:?}");
        assert_eq!(proxy.cuts(), count, "{cut:?}");
        assert_eq!(ask(&server, &["LLEN", "jobs"]).await, count.to_string(), "{cut:?}");
        assert_eq!(get(&schedule, &entry).await.steps, count, "{cut:?}");
    }
}

#[tokio::test]
async fn while_connections_break_at_random_each_tick_is_published_once_in_order() {
    const TICKS: usize = 200;
    let (server, jobs, entry) = (RedisServer::start().await, queue("jobs"), name("entry"));
    let proxy = FaultProxy::start(server.address()).await;
    let store = behind(&proxy).await;
    let schedule = store.schedule();
    let revision = put(&schedule, &entry, "definition").await;
    let term = lead(&schedule).await;
    proxy.cut_randomly(7, 150);
    for number in 0..TICKS {
        let tick = outgoing(&number.to_string(), &jobs);
        let next = Step::new(entry.clone(), revision, number as u64, "state").publishing(vec![tick]);
        let taken = soon(outcomes(&schedule, term, vec![next])).await;
        assert!(matches!(taken[..], [Stepped::Done]), "{number}: {taken:?}");
    }
    assert!(proxy.cuts() > 5, "some connections were cut: {}", proxy.cuts());
    let mut consumer = consumer(&open(config(&server)).await, &jobs).await;
    for number in 0..TICKS {
        let delivery = one(&mut consumer).await;
        assert_eq!(text(&delivery), number.to_string());
        delivery.ack().await.unwrap();
    }
    assert_eq!(ask(&server, &["LLEN", "jobs"]).await, "0");
}

#[tokio::test]
async fn what_was_written_when_the_answer_was_lost_is_told_as_it_was() {
    let (server, entry) = (RedisServer::start().await, name("entry"));
    let proxy = FaultProxy::start(server.address()).await;
    let store = behind(&proxy).await;
    let schedule = store.schedule();
    let lost = || proxy.cut_at(Cut::before_reply(1).of("EVALSHA"));
    lost();
    let Put::Done(first) = soon(schedule.put(&entry, "1".into(), Condition::Absent)).await.unwrap() else {
        panic!("it was not there")
    };
    lost();
    let second = soon(schedule.put(&entry, "2".into(), Condition::At(first))).await.unwrap();
    assert_eq!(second, Put::Done(get(&schedule, &entry).await.revision));
    lost();
    assert!(soon(schedule.remove(&entry)).await.unwrap(), "it was there");
    lost();
    let term = soon(lead(&schedule)).await;
    assert_eq!(lead(&schedule).await, term);
    assert_eq!(proxy.cuts(), 4);
}

#[tokio::test]
async fn a_killed_server_that_keeps_a_log_has_kept_entries_terms_and_steps() {
    let (server, jobs, entry) =
        (RedisServer::builder().append_only(Fsync::Always).start().await, queue("jobs"), name("entry"));
    let store = open(config(&server)).await;
    let schedule = store.schedule();
    put(&schedule, &entry, "definition").await;
    let term = lead(&schedule).await;
    let first = step(&get(&schedule, &entry).await, vec![outgoing("tick", &jobs)]);
    outcomes(&schedule, term, vec![first.clone()]).await;
    let (before, since) = (get(&schedule, &entry).await, latest(&schedule).await);
    let waiting = tokio::spawn({
        let schedule = store.schedule();
        async move { schedule.changed(since).await }
    });
    server.kill();
    server.restart().await;
    assert_eq!(soon(get(&schedule, &entry)).await, before);
    assert_eq!(lead(&schedule).await, term, "the lease goes on");
    let taken = outcomes(&schedule, term, vec![first]).await;
    assert!(matches!(taken[..], [Stepped::Stale]), "{taken:?}");
    assert_eq!(ask(&server, &["LLEN", "jobs"]).await, "1");
    assert!(put(&schedule, &name("other"), "definition").await > since);
    soon(waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_changed_while_the_connection_was_away_wakes_who_waits() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address()).await;
    let (store, other) = (behind(&proxy).await, open(config(&server)).await);
    let since = latest(&store.schedule()).await;
    let waiting = tokio::spawn({
        let schedule = store.schedule();
        async move { schedule.changed(since).await }
    });
    let heard = async || !server.command(&["PUBSUB", "CHANNELS", "/0._celeriac.schedule"]).await.texts().is_empty();
    eventually(PATIENCE, heard).await;
    proxy.refuse().await;
    put(&other.schedule(), &name("entry"), "definition").await;
    assert!(!waiting.is_finished());
    proxy.heal().await;
    soon(waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn of_a_store_that_was_emptied_nothing_is_taken_for_known() {
    let (server, entry) = (RedisServer::start().await, name("entry"));
    let schedule = open(config(&server)).await.schedule();
    put(&schedule, &entry, "definition").await;
    let (since, term) = (latest(&schedule).await, lead(&schedule).await);
    let old = get(&schedule, &entry).await;
    server.command(&["FLUSHALL"]).await;
    soon(schedule.changed(since)).await.unwrap();
    assert!(matches!(schedule.changes(since, ONE).await.unwrap(), Changes::Unknown { .. }));
    let next = lead(&schedule).await;
    assert!(next > term, "{next:?} comes after {term:?}");
    assert!(put(&schedule, &entry, "definition").await > since);
    assert!(matches!(schedule.changes(since, ONE).await.unwrap(), Changes::Unknown { .. }), "the old ones are gone");
    assert!(matches!(schedule.advance(term, vec![step(&old, Vec::new())]).await.unwrap(), Advance::Fenced));
    let taken = outcomes(&schedule, next, vec![step(&old, Vec::new())]).await;
    assert!(matches!(taken[..], [Stepped::Stale]), "{taken:?}");
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_no_lease_longer() {
    let server = RedisServer::start().await;
    let schedule = open(config(&server)).await.schedule();
    let lease = Duration::from_millis(300);
    let Lead::Leading(first) = schedule.lead("first", lease).await.unwrap() else { panic!("nobody leads") };
    // As after the clock was set back: by it, the lease was to end in an hour.
    let ends = (Timestamp::now() + LONG).as_micros().to_string();
    server.command(&["HSET", KEYS[0], "ends", &ends]).await;
    let Lead::Led { by, remaining } = schedule.lead("second", lease).await.unwrap() else { panic!("the first leads") };
    assert_eq!(by, "first");
    assert!(remaining <= lease, "{remaining:?}");
    tokio::time::sleep(lease * 2).await; // wait: a lease ends by the server's clock
    let led = schedule.lead("second", lease).await.unwrap();
    assert!(matches!(led, Lead::Leading(term) if term > first), "{led:?}");
}

#[tokio::test]
async fn a_key_that_holds_something_else_is_named_and_nothing_is_written() {
    for key in KEYS {
        let (server, jobs, entry) = (RedisServer::start().await, queue("jobs"), name("entry"));
        let schedule = open(config(&server)).await.schedule();
        put(&schedule, &entry, "definition").await;
        let (before, term) = (get(&schedule, &entry).await, lead(&schedule).await);
        server.command(&["SET", key, "another program's"]).await;
        let errors = [
            schedule.put(&entry, "x".into(), Condition::Always).await.unwrap_err(),
            schedule.remove(&entry).await.unwrap_err(),
            schedule.get(&entry).await.unwrap_err(),
            schedule.list(None, ONE).await.unwrap_err(),
            schedule.changes(Revision(2), ONE).await.unwrap_err(),
            soon(schedule.changed(before.revision)).await.unwrap_err(),
            schedule.lead("me", LONG).await.unwrap_err(),
            schedule.resign(term).await.unwrap_err(),
            schedule.advance(term, vec![step(&before, vec![outgoing("x", &jobs)])]).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert!(error.to_string().contains(&format!("key `{key}`")), "{error}");
        }
        assert_eq!(ask(&server, &["EXISTS", "jobs"]).await, "0");
        if key != KEYS[1] {
            let kept = ask(&server, &["HGET", KEYS[1], "entry"]).await;
            assert_eq!(kept, format!("{}:definition", before.revision.0), "with something else at {key}");
        }
    }
}

#[tokio::test]
async fn a_schedule_of_another_version_is_refused_by_key_and_versions() {
    let (server, entry) = (RedisServer::start().await, name("entry"));
    let schedule = open(config(&server)).await.schedule();
    put(&schedule, &entry, "definition").await;
    server.command(&["HSET", KEYS[0], "version", "7"]).await;
    for error in [
        schedule.get(&entry).await.unwrap_err(),
        schedule.put(&entry, "x".into(), Condition::Always).await.unwrap_err(),
        schedule.lead("me", LONG).await.unwrap_err(),
        soon(schedule.changed(Revision(2))).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        for part in ["key `_celeriac.schedule`", "version 7", "version 1"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    server.command(&["HDEL", KEYS[0], "version"]).await;
    let error = schedule.get(&entry).await.unwrap_err();
    assert!(error.to_string().contains("version ?"), "a hash of another program: {error}");
}

#[tokio::test]
async fn a_full_server_takes_no_steps_and_lets_the_leader_lead() {
    let (server, jobs, entry, other) = (RedisServer::start().await, queue("jobs"), name("entry"), name("other"));
    let schedule = open(config(&server)).await.schedule();
    put(&schedule, &entry, "definition").await;
    put(&schedule, &other, "definition").await;
    let (before, term) = (get(&schedule, &entry).await, lead(&schedule).await);
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let tick = step(&before, vec![outgoing("tick", &jobs)]);
    for error in [
        schedule.put(&entry, "x".into(), Condition::Always).await.unwrap_err(),
        schedule.advance(term, vec![tick.clone()]).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("Redis is full"), "{error}");
    }
    assert_eq!((get(&schedule, &entry).await, ask(&server, &["EXISTS", "jobs"]).await), (before, "0".to_owned()));
    assert_eq!(lead(&schedule).await, term, "the lease is renewed");
    assert!(schedule.remove(&other).await.unwrap(), "what is removed makes room");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert!(matches!(outcomes(&schedule, term, vec![tick]).await[..], [Stepped::Done]));
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    schedule.resign(term).await.unwrap();
    assert!(lead(&schedule).await > term);
}

#[tokio::test]
async fn a_server_that_takes_no_writes_says_why_and_can_be_read() {
    let (server, entry) = (RedisServer::builder().config("min-replicas-to-write 1").start().await, name("entry"));
    let schedule = open(config(&server)).await.schedule();
    for error in [
        schedule.put(&entry, "x".into(), Condition::Always).await.unwrap_err(),
        schedule.lead("me", LONG).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("replicas"), "{error}");
    }
    assert_eq!(schedule.get(&entry).await.unwrap(), None, "it can be read");
}

#[tokio::test]
async fn a_user_that_may_not_push_to_a_list_takes_no_step_for_it() {
    let rules = "~_celeriac.* ~jobs &* +@all";
    let server = RedisServer::builder().user("narrow", "secret", rules).start().await;
    let schedule = open(RedisConfig::from_url(&server.url_as("narrow", "secret")).unwrap()).await.schedule();
    let entry = name("entry");
    put(&schedule, &entry, "definition").await;
    let term = lead(&schedule).await;
    let before = get(&schedule, &entry).await;
    let to = |list: QueueName| step(&before, vec![outgoing("x", &list)]);
    let taken = outcomes(&schedule, term, vec![to(queue("others")), to(queue("jobs"))]).await;
    let [Stepped::Refused(error), Stepped::Done] = &taken[..] else { panic!("{taken:?}") };
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("lacks a permission"), "{error}");
    assert_eq!(get(&schedule, &entry).await.steps, 1);
}

#[tokio::test]
async fn a_user_that_may_look_at_lists_but_not_push_leaves_every_entry_as_it_was() {
    let server = RedisServer::builder().user("narrow", "secret", "~* &* +@all -lpush").start().await;
    let schedule = open(RedisConfig::from_url(&server.url_as("narrow", "secret")).unwrap()).await.schedule();
    let entry = name("entry");
    put(&schedule, &entry, "definition").await;
    let term = lead(&schedule).await;
    for silent in [false, true] {
        if silent {
            outcomes(&schedule, term, vec![step(&get(&schedule, &entry).await, Vec::new())]).await;
        }
        let before = get(&schedule, &entry).await;
        let taken = outcomes(&schedule, term, vec![step(&before, vec![outgoing("x", &queue("jobs"))])]).await;
        let [Stepped::Refused(error)] = &taken[..] else { panic!("{taken:?}") };
        assert!(error.to_string().contains("lacks a permission"), "{error}");
        assert_eq!(get(&schedule, &entry).await, before);
    }
    assert_eq!(ask(&server, &["EXISTS", "jobs"]).await, "0");
}

#[tokio::test]
async fn while_the_server_is_a_replica_a_step_waits_and_is_taken_once_it_is_none() {
    let (server, jobs, entry) = (RedisServer::start().await, queue("jobs"), name("entry"));
    let schedule = open(config(&server)).await.schedule();
    put(&schedule, &entry, "definition").await;
    let term = lead(&schedule).await;
    let before = get(&schedule, &entry).await;
    server.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let mut taken = Box::pin(outcomes(&schedule, term, vec![step(&before, vec![outgoing("tick", &jobs)])]));
    let waited = tokio::time::timeout(Duration::from_millis(300), &mut taken).await;
    assert!(waited.is_err(), "a replica takes no changes: {waited:?}");
    assert_eq!(ask(&server, &["EXISTS", "jobs"]).await, "0");
    server.command(&["REPLICAOF", "NO", "ONE"]).await;
    let taken = soon(taken).await;
    assert!(matches!(taken[..], [Stepped::Done]), "{taken:?}");
    assert_eq!(ask(&server, &["LLEN", "jobs"]).await, "1");
}
