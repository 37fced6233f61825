//! Calls whose answers are lost: what they did is done once, and its outcome is told by the next try.
#![allow(clippy::unwrap_used, reason = "a test stops at the first error")]

mod common;

use std::time::Duration;

use celeriac_broker::{Consumer, Settled};
use celeriac_core::{GroupId, TaskId, TaskState};
use celeriac_redis::chord::{Part, Report};
use celeriac_redis::{RedisConfig, RedisStore};
use celeriac_testkit::PATIENCE;
use celeriac_testkit::proxy::{Cut, FaultProxy};
use celeriac_testkit::server::RedisServer;
use common::*;

/// A store behind a proxy, with a lease that does not end within a test.
async fn behind(proxy: &FaultProxy) -> RedisStore {
    let config = RedisConfig::from_url(&format!("redis://{}/0", proxy.address())).unwrap();
    open(config.lease(Duration::from_secs(600))).await
}

/// A consumer that has taken something, so that the server has its scripts, and its keeper has nothing to do for a while.
async fn warm(store: &RedisStore) -> Box<dyn Consumer> {
    let jobs = queue("jobs");
    publish(store, &jobs, &["warm"]).await;
    let mut consumer = consumer(store, &jobs).await;
    one(&mut consumer).await.ack().await.unwrap();
    consumer
}

#[tokio::test]
async fn what_was_taken_when_the_answer_was_lost_is_handed_out_all_the_same() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let proxy = FaultProxy::start(server.address()).await;
    let store = behind(&proxy).await;
    let mut consumer = warm(&store).await;
    until(&server, &["EXISTS", "_celeriac.workers"], "1").await;
    proxy.cut_at(Cut::before_reply(1).of("EVALSHA"));
    let bodies = ["a", "b", "c"];
    // By another way, so that the consumer's is cut.
    publish(&open(config(&server)).await, &jobs, &bodies).await;
    for body in bodies {
        let delivery = one(&mut consumer).await;
        assert_eq!((text(&delivery).as_str(), delivery.delivery_count, delivery.redelivered), (body, Some(1), false));
        assert_eq!(delivery.ack().await.unwrap(), Settled::Done);
    }
    assert_eq!(proxy.cuts(), 1);
    assert_eq!(ask(&server, &["EXISTS", "unacked", "unacked_index", "jobs"]).await, "0");
}

#[tokio::test]
async fn what_was_settled_when_the_answer_was_lost_is_settled_once() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let proxy = FaultProxy::start(server.address()).await;
    let store = behind(&proxy).await;
    let mut consumer = warm(&store).await;
    until(&server, &["EXISTS", "_celeriac.workers"], "1").await;
    publish(&store, &jobs, &["a"]).await;
    let held = one(&mut consumer).await;
    proxy.cut_at(Cut::before_reply(1).of("EVALSHA"));
    assert_eq!(held.ack().await.unwrap(), Settled::Done);
    assert_eq!(proxy.cuts(), 1);
}

#[tokio::test]
async fn the_claim_of_a_chord_is_got_and_its_end_told_though_the_answers_were_lost() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address()).await;
    let (chords, group) = (behind(&proxy).await.chords(), GroupId::random());
    let report =
        |task| Report::new(group.clone(), Some(0), Part::new(TaskId::from_static(task), TaskState::Revoked, None));
    chords.expect(&group, 2, None).await.unwrap();
    assert_eq!(chords.report(&report("a")).await.unwrap(), None);
    proxy.cut_at(Cut::before_reply(1).of("EVALSHA"));
    let claim = chords.report(&report("b").claim(PATIENCE)).await.unwrap().unwrap();
    assert_eq!((proxy.cuts(), chords.parts(&group).await.unwrap().len()), (1, 2));
    proxy.cut_at(Cut::before_reply(1).of("EVALSHA"));
    assert!(chords.finish(&claim).await.unwrap());
    assert_eq!(proxy.cuts(), 2);
    assert_eq!(ask(&server, &["GET", &format!("celery-taskset-meta-{group}.c")]).await, "done");
}
