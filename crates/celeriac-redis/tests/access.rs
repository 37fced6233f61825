//! The user of access control that `docs/redis.md` describes can do all that a store does.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first error")]

mod common;

use std::time::Duration;

use celeriac_broker::{Completion, Destination, ExchangeKind, Outgoing, QueueSpec, Requeue};
use celeriac_core::{
    ContentType, ErrorKind, ExchangeName, Message, Payload, RoutingKey, StoreResult, TaskId, TaskMeta, TaskState,
    Timestamp,
};
use celeriac_redis::{Protocol, RedisConfig};
use celeriac_testkit::server::RedisServer;
use celeriac_testkit::soon;
use common::*;

/// The rules of the one `ACL SETUSER` in the documentation, behind name and password.
fn documented() -> String {
    let docs = include_str!("../../../docs/redis.md");
    let (_, rules) = docs.split_once("ACL SETUSER celeriac on >secret").expect("docs/redis.md says how to make a user");
    let (rules, _) = rules.split_once("```").unwrap();
    rules.split_whitespace().filter(|word| *word != "\\").collect::<Vec<_>>().join(" ")
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
    publish(&other, &jobs, &["again"]).await;
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
