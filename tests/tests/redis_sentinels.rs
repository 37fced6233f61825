//! Servers and sentinels with users and passwords: what was under way goes on with the successor, and no secret is told.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::Arc;

use celeriac::prelude::*;
use celeriac_testkit::server::{RedisSentinel, RedisServer};
use celeriac_tests::redis::undone;
use celeriac_tests::runs::{PATIENCE, Worker};
use celeriac_tests::{log, until};
use tokio::sync::Semaphore;

/// Of the servers' administrator, of their user, of the sentinels, and of their user.
const SECRETS: [&str; 4] = ["hunter2-admin", "hunter2-worker", "hunter2-guard", "hunter2-asker"];

/// Lets a task end.
#[derive(Debug, Clone)]
struct Gate(Arc<Semaphore>);

#[celeriac::task]
async fn gated(gate: State<Gate>, n: u64) -> u64 {
    gate.0.0.acquire().await.unwrap().forget();
    n
}

#[tokio::test]
async fn work_goes_on_with_the_successor_and_no_secret_is_told() {
    log::keep("trace");
    let [admin, worker, guard, asker] = SECRETS;
    let server = || {
        let server = RedisServer::builder().password(admin).user("worker", worker, "~* &* +@all");
        server.config("repl-diskless-sync-delay 0")
    };
    let first = server().start().await;
    let second = server().replica_of(&first).start().await;
    let sentinel = RedisSentinel::builder("main", &first, 1).password(guard);
    let sentinel = sentinel.user("asker", asker, "+sentinel|get-master-addr-by-name");
    let (one, other) = tokio::join!(sentinel.clone().start(), sentinel.start());
    tokio::join!(one.knows(1, 1), other.knows(1, 1));

    let url = format!(
        "sentinel://worker:{worker}@{};{}/0?master_name=main&sentinel_username=asker&sentinel_password={asker}&lease=1",
        one.address(),
        other.address()
    );
    let gate = Gate(Arc::new(Semaphore::new(0)));
    let app = App::builder("tests").read_env(false).broker_url(url).publish_timeout(PATIENCE);
    let app = app.state(gate.clone()).tasks(tasks![gated]).build().await.unwrap();
    let working = Worker::start(&app, 1);
    let mut results = app.send_batch([gated::s(0), gated::s(1)]).await.unwrap();
    // The successor knows of the one that runs, and of the one that waits.
    until("the replica has what was sent", async || {
        let count = async |words: &[&str]| second.command(words).await.text();
        count(&["HLEN", "unacked"]).await == "1" && count(&["LLEN", "celery"]).await == "1"
            || count(&["HLEN", "unacked"]).await == "2"
    })
    .await;
    first.kill();
    results.push(app.send(gated::s(2)).await.unwrap());
    until("both sentinels name it", async || [one.master().await, other.master().await] == [second.address(); 2]).await;
    gate.0.add_permits(results.len());
    for (result, n) in results.into_iter().zip(0..) {
        assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), n);
    }

    // The first one comes back without its data, and is told to follow.
    first.restart().await;
    until("it follows", async || first.command(&["ROLE"]).await.texts().first().is_some_and(|role| role == "slave"))
        .await;
    gate.0.add_permits(1);
    assert_eq!(app.send(gated::s(3)).await.unwrap().get_timeout(PATIENCE).await.unwrap(), 3);

    let shown = format!("{app:?} {:?} {working:?} {gate:?}", app.broker());
    working.stop().await;
    app.close().await.unwrap();
    assert_eq!(undone(&second, 0, "").await, Vec::<String>::new());
    let said = log::kept();
    assert!(said.contains("Redis cannot be reached") && said.contains("Redis is there again"));
    for secret in SECRETS {
        assert_eq!(said.lines().find(|line| line.contains(secret)), None);
        assert!(!shown.contains(secret), "`{secret}` is in {shown}");
    }
}
