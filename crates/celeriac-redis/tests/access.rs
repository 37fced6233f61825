//! The user of access control that `docs/redis.md` describes can do all that a store does.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first error")]

mod common;

use std::time::Duration;

use celeriac_broker::{Completion, Destination, ExchangeKind, Outgoing, QueueSpec, Requeue};
use celeriac_core::{
    ContentType, EntryName, ErrorKind, ExchangeName, Message, Payload, QueueName, RoutingKey, StoreResult, TaskId,
    TaskMeta, TaskState, Timestamp,
};
use celeriac_redis::{Protocol, RedisConfig, RedisStore};
use celeriac_schedule::{Advance, Changes, Condition, Lead, Put, Step, Stepped};
use celeriac_testkit::server::RedisServer;
use celeriac_testkit::soon;
use common::*;

/// The rules of the documentation's `ACL SETUSER` for this user, behind name and password.
fn documented_for(user: &str) -> String {
    let docs = include_str!("../../../docs/redis.md");
    let (_, rules) =
        docs.split_once(&format!("ACL SETUSER {user} on >secret")).expect("docs/redis.md says how to make a user");
    let (rules, _) = rules.split_once("```").unwrap();
    rules.split_whitespace().filter(|word| *word != "\\").collect::<Vec<_>>().join(" ")
}

fn documented() -> String {
    documented_for("celeriac")
}

async fn server() -> RedisServer {
    RedisServer::builder().user("celeriac", "secret", &documented()).start().await
}

fn success(id: &TaskId) -> StoreResult {
    let payload = Payload { content_type: ContentType::JSON, data: "1".into() };
    StoreResult::new(TaskMeta::new(id.clone(), TaskState::Success).with_result(payload))
}

async fn everything(protocol: Protocol, db: u32) {
    let server = server().await;
    let config = || {
        let config = RedisConfig::from_url(&server.url_as("celeriac", "secret")).unwrap();
        config.lease(LEASE).protocol(protocol).db(db)
    };
    let (store, other) = (open(config()).await, open(config()).await);
    let (broker, backend, jobs) = (store.broker(), store.backend(), queue("jobs"));
    broker.declare(&QueueSpec::direct(jobs.clone())).await.unwrap();
    let news = QueueSpec::unbound(queue("news")).bound_to(
        ExchangeName::from_static("all"),
        ExchangeKind::Fanout,
        RoutingKey::from_static(""),
    );
    broker.declare(&news).await.unwrap();
    let mut hearing = consumer(&store, &queue("news")).await;
    let destination =
        Destination { exchange: ExchangeName::from_static("all"), routing_key: RoutingKey::from_static("") };
    let message = Message { body: "news".into(), ..Message::default() };
    broker.publish(vec![Outgoing::new(message, destination)]).await.unwrap();
    let heard = one(&mut hearing).await;
    assert_eq!(text(&heard), "news");
    heard.ack().await.unwrap();

    let mut taking = consumer(&store, &jobs).await;
    publish(&other, &jobs, &["first"]).await;
    one(&mut taking).await.ack().await.unwrap();
    // To several lists.
    let elsewhere = queue("elsewhere");
    broker.publish(vec![outgoing("again", &jobs), outgoing("elsewhere", &elsewhere)]).await.unwrap();
    one(&mut taking).await.reject(Requeue::Yes).await.unwrap();
    one(&mut taking).await.park(Timestamp::now() + Duration::from_millis(50)).await.unwrap();
    one(&mut taking).await.reject(Requeue::No).await.unwrap();
    let due = Timestamp::now() + Duration::from_millis(50);
    broker.publish(vec![outgoing("later", &jobs).deliver_at(due)]).await.unwrap();
    let later = one(&mut taking).await;
    assert_eq!(text(&later), "later");

    let (id, second) = (TaskId::random(), TaskId::random());
    let mut watch = backend.watch(&id).await.unwrap();
    let followed = outgoing("followed", &jobs);
    later.complete(Completion::new().result(success(&id)).then(followed)).await.unwrap();
    let seen = soon(watch.next()).await.unwrap();
    assert_eq!(seen.state, TaskState::Success);
    one(&mut taking).await.ack().await.unwrap();
    backend.store(vec![success(&second)]).await.unwrap();
    assert!(backend.fetch(&[id.clone(), second.clone()]).await.unwrap().iter().all(Option::is_some));
    backend.forget(&[id, second]).await.unwrap();
    backend.sweep().await.unwrap();

    everything_of_schedules(&store, &other).await;
    one(&mut taking).await.ack().await.unwrap();
    drop(watch);
    taking.cancel().await.unwrap();
    let far = Timestamp::now() + Duration::from_secs(3600);
    broker.publish(vec![outgoing("x", &jobs), outgoing("y", &jobs).deliver_at(far)]).await.unwrap();
    assert!(broker.depth(&jobs).await.unwrap() >= 1);
    assert!(broker.purge(&jobs).await.unwrap() >= 1);
    // What a dead worker held comes back: its connections are cut, and its lease ends.
    publish(&other, &jobs, &["held"]).await;
    let mut taking = consumer(&store, &jobs).await;
    let held = one(&mut taking).await;
    tokio::time::sleep(LEASE * 2).await; // wait: leases are renewed, and lost ones are looked for
    held.ack().await.unwrap();
    store.close().await.unwrap();
    other.close().await.unwrap();
    // Whatever was refused, is in the server's own list, even where a store did without.
    let refused = server.command(&["ACL", "LOG"]).await;
    assert!(!format!("{refused:?}").contains("celeriac"), "{refused:?}");
}

async fn everything_of_schedules(store: &RedisStore, other: &RedisStore) {
    let (schedule, entry) = (store.schedule(), EntryName::from_static("entry"));
    let Put::Done(revision) = schedule.put(&entry, "definition".into(), Condition::Always).await.unwrap() else {
        panic!("it is written")
    };
    let Lead::Leading(term) = schedule.lead("me", LEASE * 60).await.unwrap() else { panic!("nobody leads") };
    let step = Step::new(entry.clone(), revision, 0, "state").publishing(vec![outgoing("tick", &queue("jobs"))]);
    let Advance::Stepped(taken) = schedule.advance(term, vec![step]).await.unwrap() else { panic!("it leads") };
    assert!(matches!(taken[..], [Stepped::Done]), "{taken:?}");
    assert_eq!(schedule.list(None, ONE).await.unwrap(), [schedule.get(&entry).await.unwrap().unwrap()]);
    let waiting = tokio::spawn({
        let schedule = other.schedule();
        async move { schedule.changed(revision).await }
    });
    assert!(schedule.remove(&entry).await.unwrap());
    soon(waiting).await.unwrap().unwrap();
    assert!(matches!(schedule.changes(revision, ONE).await.unwrap(), Changes::Known { .. }));
    schedule.resign(term).await.unwrap();
}

#[tokio::test]
async fn the_documented_user_can_do_everything() {
    everything(Protocol::Resp3, 0).await;
}

#[tokio::test]
async fn the_documented_user_can_do_everything_in_resp2_and_another_database() {
    everything(Protocol::Resp2, 2).await;
}

#[tokio::test]
async fn a_user_whose_scripts_may_not_do_all_is_told_what_it_lacks() {
    let rules: Vec<_> = documented().split(' ').filter(|rule| *rule != "+zadd").map(str::to_owned).collect();
    assert_ne!(rules.join(" "), documented(), "the rules name each command");
    let server = RedisServer::builder().user("celeriac", "secret", &rules.join(" ")).start().await;
    let store = open(RedisConfig::from_url(&server.url_as("celeriac", "secret")).unwrap()).await;
    let jobs = queue("jobs");
    let far = Timestamp::now() + Duration::from_secs(3600);
    let error = store.broker().publish(vec![outgoing("x", &jobs).deliver_at(far)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("lacks a permission"), "{error}");
}

#[tokio::test]
async fn the_documented_sender_can_send_and_wait_for_results_and_no_more() {
    let server = RedisServer::builder().user("sender", "secret", &documented_for("sender")).start().await;
    let (store, worker) =
        (open(RedisConfig::from_url(&server.url_as("sender", "secret")).unwrap()).await, open(config(&server)).await);
    let (broker, backend, celery) = (store.broker(), store.backend(), QueueName::DEFAULT);
    let exchange = ExchangeName::from_static("all");
    let news = QueueSpec::unbound(queue("celery-news")).bound_to(
        exchange.clone(),
        ExchangeKind::Fanout,
        RoutingKey::from_static(""),
    );
    worker.broker().declare(&news).await.unwrap();
    let mut taking = consumer(&worker, &celery).await;
    until(&server, &["ZCARD", "_celeriac.workers"], "1").await;
    let far = Timestamp::now() + Duration::from_secs(3600);
    let destination = Destination { exchange, routing_key: RoutingKey::from_static("") };
    let to_all = Outgoing::new(Message { body: "news".into(), ..Message::default() }, destination);
    broker.publish(vec![outgoing("plain", &celery)]).await.unwrap();
    broker.publish(vec![outgoing("one", &celery), outgoing("other", &queue("celery-too"))]).await.unwrap();
    broker
        .publish(vec![outgoing("later", &celery).deliver_at(far), with_eta("eta", &celery, far), to_all])
        .await
        .unwrap();
    let id = TaskId::random();
    let mut watch = backend.watch(&id).await.unwrap();
    for body in ["plain", "one"] {
        let delivery = one(&mut taking).await;
        assert_eq!(text(&delivery), body);
        delivery.complete(Completion::new().result(success(&id))).await.unwrap();
    }
    assert_eq!(soon(watch.next()).await.unwrap().state, TaskState::Success);
    assert!(backend.fetch(&[id]).await.unwrap()[0].is_some());
    let counts = [["LLEN", "celery-too"], ["LLEN", "celery-news"], ["ZCARD", "_celeriac.parked.celery"]];
    for (count, wanted) in counts.iter().zip(["1", "1", "2"]) {
        assert_eq!(ask(&server, count).await, wanted, "{count:?}");
    }
    let refused = server.command(&["ACL", "LOG"]).await;
    assert!(!format!("{refused:?}").contains("sender"), "{refused:?}");
    let mut greedy = consumer(&store, &celery).await;
    broker.publish(vec![outgoing("x", &celery)]).await.unwrap();
    let error = greedy.recv(ONE).await.unwrap_err();
    assert!(error.to_string().contains("lacks a permission"), "{error}");
}

#[tokio::test]
async fn a_user_that_may_only_push_to_one_list_sends_plain_tasks_and_is_told_of_others() {
    let rules = "~celery -@all +auth +hello +lpush";
    let server = RedisServer::builder().user("narrow", "secret", rules).start().await;
    let store = open(RedisConfig::from_url(&server.url_as("narrow", "secret")).unwrap()).await;
    let (broker, celery) = (store.broker(), QueueName::DEFAULT);
    broker.publish(vec![outgoing("x", &celery), outgoing("y", &celery)]).await.unwrap();
    assert_eq!(ask(&server, &["LLEN", "celery"]).await, "2");
    let later = outgoing("x", &celery).deliver_at(Timestamp::now() + Duration::from_secs(3600));
    for (batch, lacks) in [
        (vec![outgoing("x", &queue("other"))], "for a key"),
        (vec![outgoing("x", &celery), outgoing("x", &queue("other"))], "to run a command"),
        (vec![later], "to run a command"),
    ] {
        let error = broker.publish(batch).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(&format!("lacks a permission {lacks}")), "{error}");
    }
    assert_eq!(ask(&server, &["LLEN", "celery"]).await, "2");
}
