//! What a store asks of its server: nothing while there is nothing to do, and little for much.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first error")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use celeriac_broker::{Completion, Verb, settle_all};
use celeriac_core::{StoreResult, TaskId, TaskMeta, TaskState};
use celeriac_testkit::server::RedisServer;
use common::*;

/// How often the server has carried out each command.
async fn calls(server: &RedisServer) -> BTreeMap<String, u64> {
    let stats = ask(server, &["INFO", "commandstats"]).await;
    let lines = stats.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split_once(',')?.0.parse().ok()?))
    });
    lines.collect()
}

#[tokio::test]
async fn an_idle_consumer_asks_the_server_nothing() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    // A lease so long that nothing is renewed meanwhile.
    let store = open(config(&server).lease(LONG)).await;
    let mut consumer = consumer(&store, &jobs).await;
    let mut waiting = std::pin::pin!(consumer.recv(MANY));
    assert!(tokio::time::timeout(Duration::from_secs(2), &mut waiting).await.is_err());
    let before = calls(&server).await;
    assert!(tokio::time::timeout(Duration::from_secs(3), &mut waiting).await.is_err());
    let after = calls(&server).await;
    for of_consuming in ["exists", "blmove", "rpop", "lrange", "llen", "client|tracking"] {
        assert_eq!(before.get(of_consuming), after.get(of_consuming), "{of_consuming}");
    }
    let scripts = |calls: &BTreeMap<String, u64>| calls.get("evalsha").copied().unwrap_or(0);
    // The keeper's renewals, and its searches for what dead workers held: about one a second.
    assert!(scripts(&after) - scripts(&before) <= 8, "{before:?} {after:?}");
    store.close().await.unwrap();
}

#[tokio::test]
async fn acknowledging_many_at_once_takes_few_calls() {
    let server = RedisServer::start().await;
    let (store, held) = holding(&server, 500).await;
    let before = calls(&server).await;
    let batch = held.into_iter().map(|delivery| (delivery.into_receipt(), Verb::Ack)).collect();
    assert!(settle_all(batch).await.unwrap().is_empty());
    let after = calls(&server).await;
    assert_eq!(ask(&server, &["HLEN", "unacked"]).await, "0");
    // Those of the keeper among them.
    assert!(after["evalsha"] - before["evalsha"] <= 5, "{before:?} {after:?}");
    store.close().await.unwrap();
}

#[tokio::test]
async fn storing_many_results_at_once_asks_once_for_earlier_ones() {
    let server = RedisServer::start().await;
    let (store, held) = holding(&server, 500).await;
    let before = calls(&server).await;
    let batch = held.into_iter().map(|delivery| {
        let meta = TaskMeta::new(TaskId::random(), TaskState::Success);
        let result = StoreResult::new(meta).expires(LONG);
        (delivery.into_receipt(), Verb::Complete(Box::new(Completion::new().result(result))))
    });
    assert!(settle_all(batch.collect()).await.unwrap().is_empty());
    let after = calls(&server).await;
    let spent = |command: &str| after.get(command).unwrap_or(&0) - before.get(command).unwrap_or(&0);
    assert_eq!(spent("setex"), 500);
    assert!(spent("getrange") + spent("exists") <= 10, "{before:?} {after:?}");
    store.close().await.unwrap();
}
