//! The store of schedules: its conformance suite on private servers, and what only a server can show.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first error")]

#[path = "../common/mod.rs"]
mod common;
mod faults;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_broker::{Broker, Destination, ExchangeKind, Outgoing, QueueSpec};
use celeriac_core::{EntryName, ErrorKind, ExchangeName, Message, Priority, RoutingKey, Timestamp};
use celeriac_redis::{RedisConfig, RedisStore};
use celeriac_schedule::{
    Advance, Change, Changes, Condition, Lead, Put, Revision, ScheduleStore, Step, Stepped, StoredEntry, Term,
};
use celeriac_testkit::schedule::ScheduleHarness;
use celeriac_testkit::server::RedisServer;
use celeriac_testkit::{PATIENCE, eventually, soon};
use common::*;
use tokio::sync::OnceCell;

/// A server for each behaviour.
struct Harness {
    socket: bool,
    /// What stands behind the URL.
    options: &'static str,
    server: OnceCell<RedisServer>,
}

impl Harness {
    fn new(socket: bool, options: &'static str) -> Self {
        Self { socket, options, server: OnceCell::new() }
    }

    async fn store(&self) -> RedisStore {
        let server = self.server.get_or_init(RedisServer::start).await;
        let url = if self.socket { format!("unix://{}", server.socket().display()) } else { server.url() };
        open(RedisConfig::from_url(&format!("{url}{}", self.options)).unwrap()).await
    }
}

#[async_trait]
impl ScheduleHarness for Harness {
    async fn open(&self) -> Arc<dyn ScheduleStore> {
        self.store().await.schedule()
    }

    async fn reopen(&self) -> Option<Arc<dyn ScheduleStore>> {
        Some(self.store().await.schedule())
    }

    async fn broker(&self) -> Option<Arc<dyn Broker>> {
        Some(self.store().await.broker())
    }
}

mod as_it_comes {
    celeriac_testkit::schedule_conformance!(|| super::Harness::new(false, ""));
}

mod with_resp2 {
    celeriac_testkit::schedule_conformance!(|| super::Harness::new(false, "?protocol=resp2"));
}

mod with_a_prefix_by_a_socket {
    celeriac_testkit::schedule_conformance!(|| super::Harness::new(true, "?global_keyprefix=pre_&db=3"));
}

const LONG: Duration = Duration::from_secs(3_600);
const KEYS: [&str; 6] = [
    "_celeriac.schedule",
    "_celeriac.schedule.definitions",
    "_celeriac.schedule.states",
    "_celeriac.schedule.names",
    "_celeriac.schedule.changes",
    "_celeriac.schedule.removed",
];

fn name(text: impl Into<String>) -> EntryName {
    EntryName::new(text.into()).unwrap()
}

async fn put(schedule: &Arc<dyn ScheduleStore>, name: &EntryName, definition: &'static str) -> Revision {
    match schedule.put(name, definition.into(), Condition::Always).await.unwrap() {
        Put::Done(revision) => revision,
        unmet @ Put::Unmet(_) => panic!("{unmet:?}"),
    }
}

async fn get(schedule: &Arc<dyn ScheduleStore>, name: &EntryName) -> StoredEntry {
    schedule.get(name).await.unwrap().unwrap()
}

async fn lead(schedule: &Arc<dyn ScheduleStore>) -> Term {
    match schedule.lead("me", LONG).await.unwrap() {
        Lead::Leading(term) => term,
        led @ Lead::Led { .. } => panic!("{led:?}"),
    }
}

/// The step that follows, with a message for each of these.
fn step(entry: &StoredEntry, messages: Vec<Outgoing>) -> Step {
    Step::new(entry.name.clone(), entry.revision, entry.steps, "state").publishing(messages)
}

async fn outcomes(schedule: &Arc<dyn ScheduleStore>, term: Term, steps: Vec<Step>) -> Vec<Stepped> {
    match schedule.advance(term, steps).await.unwrap() {
        Advance::Stepped(outcomes) => outcomes,
        Advance::Fenced => panic!("the term is the newest"),
    }
}

/// Where whoever lists everything now goes on.
async fn latest(schedule: &Arc<dyn ScheduleStore>) -> Revision {
    match schedule.changes(Revision::START, ONE).await.unwrap() {
        Changes::Unknown { until } => until,
        known @ Changes::Known { .. } => panic!("{known:?}"),
    }
}

#[tokio::test]
async fn a_step_publishes_as_the_broker_does() {
    let server = RedisServer::start().await;
    let store = open(config(&server)).await;
    let (broker, schedule, entry) = (store.broker(), store.schedule(), name("entry"));
    for (exchange, kind, key, to) in [
        ("all", ExchangeKind::Fanout, "", "heard"),
        ("all", ExchangeKind::Fanout, "", "heard too"),
        ("topics", ExchangeKind::Topic, "a.*", "topical"),
    ] {
        let exchange = ExchangeName::from_static(exchange);
        let spec = QueueSpec::unbound(queue(to)).bound_to(exchange, kind, RoutingKey::from_static(key));
        broker.declare(&spec).await.unwrap();
    }
    let to = |exchange, key| {
        let destination =
            Destination { exchange: ExchangeName::from_static(exchange), routing_key: RoutingKey::from_static(key) };
        Outgoing::new(Message { body: "x".into(), ..Message::default() }, destination)
    };
    let far = Timestamp::now() + LONG;
    let mut urgent = outgoing("x", &queue("jobs"));
    urgent.message.properties.priority = Some(Priority(9));
    put(&schedule, &entry, "definition").await;
    let term = lead(&schedule).await;
    let messages = vec![urgent, outgoing("x", &queue("later")).deliver_at(far), to("all", ""), to("topics", "a.b")];
    let taken = outcomes(&schedule, term, vec![step(&get(&schedule, &entry).await, messages)]).await;
    assert!(matches!(taken[..], [Stepped::Done]), "{taken:?}");
    let counts = [
        ["LLEN", "jobs\u{6}\u{16}9"],
        ["ZCARD", "_celeriac.parked.later"],
        ["LLEN", "heard"],
        ["LLEN", "heard too"],
        ["LLEN", "topical"],
    ];
    for count in counts {
        assert_eq!(ask(&server, &count).await, "1", "{count:?}");
    }
    // What may not be published is said as the broker says it, of its step alone.
    let unbound = || vec![outgoing("x", &queue("jobs")), to("topics", "b")];
    let expected = broker.publish(unbound()).await.unwrap_err();
    server.command(&["SET", "occupied", "x"]).await;
    let steps = vec![
        step(&get(&schedule, &entry).await, unbound()),
        step(&get(&schedule, &entry).await, vec![outgoing("x", &queue("jobs")), outgoing("x", &queue("occupied"))]),
        step(&get(&schedule, &entry).await, vec![outgoing("x", &queue("jobs"))]),
    ];
    let taken = outcomes(&schedule, term, steps).await;
    let [Stepped::Refused(unbound), Stepped::Refused(occupied), Stepped::Done] = &taken[..] else {
        panic!("{taken:?}")
    };
    assert_eq!((unbound.kind(), unbound.message()), (expected.kind(), expected.message()));
    assert_eq!(occupied.kind(), ErrorKind::Config, "{occupied}");
    assert!(occupied.to_string().contains("key `occupied`"), "{occupied}");
    assert_eq!(ask(&server, &["LLEN", "jobs"]).await, "1");
}

#[tokio::test]
async fn who_comes_to_wait_after_the_leader_resigned_is_told() {
    let server = RedisServer::start().await;
    let (one, other) = (open(config(&server)).await.schedule(), open(config(&server)).await.schedule());
    put(&one, &name("entry"), "definition").await;
    let term = lead(&one).await;
    assert!(matches!(other.lead("other", LONG).await.unwrap(), Lead::Led { .. }));
    one.resign(term).await.unwrap();
    soon(other.changed(latest(&other).await)).await.unwrap();
}

#[tokio::test]
async fn what_was_removed_long_ago_is_forgotten_and_that_is_told() {
    const REMEMBERED: usize = 10_000;
    let server = RedisServer::start().await;
    let schedule = open(config(&server)).await.schedule();
    // One that came back is not forgotten.
    put(&schedule, &name("stays"), "definition").await;
    schedule.remove(&name("stays")).await.unwrap();
    let known = put(&schedule, &name("stays"), "definition").await;
    let come_and_go = async |range: std::ops::Range<usize>| {
        for start in range.clone().step_by(100) {
            let some = (start..range.end.min(start + 100)).map(|number| {
                let (schedule, name) = (Arc::clone(&schedule), name(number.to_string()));
                tokio::spawn(async move {
                    put(&schedule, &name, "x").await;
                    assert!(schedule.remove(&name).await.unwrap());
                })
            });
            for one in some.collect::<Vec<_>>() {
                one.await.unwrap();
            }
        }
    };
    come_and_go(0..REMEMBERED).await;
    assert!(matches!(schedule.changes(known, ONE).await.unwrap(), Changes::Known { more: true, .. }));
    // What was removed twice is remembered once.
    come_and_go(0..1).await;
    assert!(matches!(schedule.changes(known, ONE).await.unwrap(), Changes::Known { .. }));
    come_and_go(REMEMBERED..REMEMBERED + 1).await;
    let Changes::Unknown { until } = schedule.changes(known, ONE).await.unwrap() else { panic!("half is forgotten") };
    assert_eq!(ask(&server, &["ZCARD", KEYS[5]]).await, (REMEMBERED.div_ceil(2) + 1).to_string());
    come_and_go(0..1).await;
    let Changes::Known { changes, .. } = schedule.changes(until, MANY).await.unwrap() else { panic!("one is known") };
    assert_eq!(changes, [Change::Removed(name("0"))]);
    let lengths = [ask(&server, &["ZCARD", KEYS[4]]).await, ask(&server, &["ZCARD", KEYS[5]]).await];
    let [changes, removed] = lengths.map(|length| length.parse::<usize>().unwrap());
    assert_eq!(changes, removed + 1, "those that are remembered, and `stays`");
    let (term, stays) = (lead(&schedule).await, get(&schedule, &name("stays")).await);
    assert!(matches!(outcomes(&schedule, term, vec![step(&stays, Vec::new())]).await[..], [Stepped::Done]));
}

#[tokio::test]
async fn each_half_is_closed_by_itself_and_the_last_one_disconnects() {
    let server = RedisServer::start().await;
    let store = open(config(&server)).await;
    let (broker, schedule) = (store.broker(), store.schedule());
    let since = latest(&schedule).await;
    let waiting = tokio::spawn({
        let schedule = store.schedule();
        async move { schedule.changed(since).await }
    });
    broker.close().await.unwrap();
    let revision = put(&schedule, &name("entry"), "definition").await;
    soon(waiting).await.unwrap().unwrap();
    let waiting = tokio::spawn({
        let schedule = store.schedule();
        async move { schedule.changed(revision).await }
    });
    schedule.close().await.unwrap();
    assert_eq!(soon(waiting).await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(schedule.get(&name("entry")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    // The one that asks.
    eventually(PATIENCE, async || ask(&server, &["CLIENT", "LIST"]).await.lines().count() == 1).await;
}

/// How long the server has spent on scripts, in microseconds.
async fn busy(server: &RedisServer) -> f64 {
    let stats = ask(server, &["INFO", "commandstats"]).await;
    let stats: BTreeMap<&str, &str> = stats.lines().filter_map(|line| line.split_once(':')).collect();
    let (_, spent) = stats["cmdstat_evalsha"].split_once("usec=").unwrap();
    spent.split_once(',').unwrap().0.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_hundred_thousand_entries_a_call_costs_the_server_no_more_than_with_few() {
    const ALL: usize = 100_000;
    const SOME: usize = 2_000;
    let server = RedisServer::start().await;
    let schedule = open(config(&server)).await.schedule();
    // In an order that is not that of their names.
    let write = async |numbers: std::ops::Range<usize>| {
        let writers = (0..50).map(|writer| {
            let (schedule, numbers) = (Arc::clone(&schedule), numbers.clone().skip(writer).step_by(50));
            tokio::spawn(async move {
                for number in numbers {
                    put(&schedule, &name(format!("entry-{:06}", number * 7 % ALL)), "definition").await;
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    };
    latest(&schedule).await;
    let start = busy(&server).await;
    write(0..SOME).await;
    let few = busy(&server).await - start;
    write(SOME..ALL - SOME).await;
    let before = busy(&server).await;
    write(ALL - SOME..ALL).await;
    let many = busy(&server).await - before;
    assert!(many < few * 5.0, "{SOME} writes took {few} µs at first, and {many} µs at last");

    let page = NonZeroUsize::new(1_000).unwrap();
    let (mut after, mut count, mut spent) = (None, 0, Vec::new());
    loop {
        let before = busy(&server).await;
        let entries = schedule.list(after.as_ref(), page).await.unwrap();
        spent.push(busy(&server).await - before);
        assert!(entries.iter().is_sorted_by(|one, next| one.name < next.name));
        count += entries.len();
        let Some(last) = entries.last() else { break };
        after = Some(last.name.clone());
    }
    assert_eq!(count, ALL);
    let pages = |range: std::ops::Range<usize>| spent[range].iter().sum::<f64>();
    let (first, last) = (pages(0..20), pages(80..100));
    assert!(last < first * 5.0, "20 pages took {first} µs at first, and {last} µs at last");
}

#[tokio::test]
async fn large_definitions_come_by_several_calls() {
    const COUNT: usize = 10;
    let server = RedisServer::start().await;
    let schedule = open(config(&server)).await.schedule();
    let (since, large) = (latest(&schedule).await, "x".repeat(1 << 20));
    for number in 0..COUNT {
        schedule.put(&name(number.to_string()), large.clone().into(), Condition::Always).await.unwrap();
    }
    let listed = schedule.list(None, MANY).await.unwrap();
    assert_eq!(listed.len(), COUNT, "a page that is not full is the last");
    let (mut told, mut since, mut pages) = (Vec::new(), since, 0);
    loop {
        let Changes::Known { changes, until, more } = schedule.changes(since, MANY).await.unwrap() else {
            panic!("they are known")
        };
        told.extend(changes);
        (since, pages) = (until, pages + 1);
        if !more {
            break;
        }
    }
    assert_eq!(told, listed.into_iter().map(Change::Put).collect::<Vec<_>>());
    assert!(pages > 1, "ten mebibytes are not told at once");
}
