//! Servers that refuse: full, with a full disk, without replicas, without permission. Each is told with its cure, and work goes on by itself
//! once it is cured.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::Arc;
use std::time::Duration;

use celeriac::ErrorKind;
use celeriac::prelude::*;
use celeriac_testkit::server::{RedisBuilder, RedisServer};
use celeriac_tests::redis::undone;
use celeriac_tests::refused::{PASSWORD, http_server, names, refusal};
use celeriac_tests::runs::{PATIENCE, Runs, Worker, builder, early, progresses, second_time, twice};
use celeriac_tests::{log, until};
use tokio::sync::Semaphore;

/// A server, an app over it and a worker, which has worked.
struct Place {
    server: RedisServer,
    app: App,
    worker: Worker,
}

impl Place {
    async fn new(server: RedisBuilder, url: impl Fn(&RedisServer) -> String) -> Self {
        log::keep("info");
        let server = server.start().await;
        let app = builder(&format!("{}?lease=1", url(&server)), &Runs::default()).build().await.unwrap();
        let worker = Worker::start(&app, 2);
        let place = Self { server, app, worker };
        place.works(0).await;
        place
    }

    async fn plain() -> Self {
        Self::new(RedisServer::builder().password(PASSWORD), RedisServer::url).await
    }

    async fn tell(&self, words: &[&str]) {
        let answer = self.server.command(words).await.text();
        assert_eq!(answer, "OK", "{words:?}");
    }

    async fn works(&self, n: u64) {
        let sent = self.app.send(twice::s(n)).await.unwrap();
        assert_eq!(sent.get_timeout(PATIENCE).await.unwrap(), n * 2);
    }

    async fn refuses(&self, kind: ErrorKind, says: &str) {
        let error = self.app.send(twice::s(1)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{}", error.report());
        assert!(error.report().contains(says), "{}", error.report());
        assert!(!format!("{error:?} {}", error.report()).contains(PASSWORD));
    }

    async fn close(self) {
        until("nothing is left", async || undone(&self.server, 0, "").await.is_empty()).await;
        self.worker.stop().await;
        self.app.close().await.unwrap();
        assert_eq!(undone(&self.server, 0, "").await, Vec::<String>::new());
        assert!(!log::kept().contains(PASSWORD), "{}", log::kept());
    }
}

#[tokio::test]
async fn a_full_server_takes_nothing_more_and_is_worked_off() {
    log::keep("info");
    let (server, runs) = (RedisServer::start().await, Runs::default());
    let app = builder(&format!("{}?lease=1", server.url()), &runs).build().await.unwrap();
    // Of each kind of end; one that is parked, and one that is no message.
    let mut results = app.send_batch((0..50).map(twice::s)).await.unwrap();
    results.extend(app.send_batch((50..60).map(second_time::s)).await.unwrap());
    results.extend(app.send_batch((60..70).map(early::s)).await.unwrap());
    results.extend(app.send_batch((70..80).map(progresses::s)).await.unwrap());
    results.push(app.send(twice::s(80).countdown(Duration::from_millis(100))).await.unwrap());
    server.command(&["LPUSH", "celery", "garbage"]).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;

    let error = app.send(twice::s(1_000)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.report().contains("`maxmemory`"), "{}", error.report());
    let worker = Worker::start(&app, 4);
    for (result, n) in results.into_iter().zip(0..) {
        assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), n * 2);
    }
    // Leases are renewed all the while, and nothing is taken for lost.
    for n in 0..80 {
        assert_eq!(runs.of(n).all, if (50..60).contains(&n) { 2 } else { 1 }, "task {n}");
    }
    assert!(!log::says(&["leases could not be renewed"]), "{}", log::kept());
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(app.send(twice::s(81)).await.unwrap().get_timeout(PATIENCE).await.unwrap(), 162);
    worker.stop().await;
    app.close().await.unwrap();
    assert_eq!(undone(&server, 0, "").await, ["_celeriac.aside"]);
}

#[tokio::test]
async fn what_a_dead_worker_held_is_found_on_a_full_server_too() {
    let (server, runs) = (RedisServer::start().await, Runs::default());
    let url = format!("{}?lease=1", server.url());
    let dead = celeriac_tests::Place::new();
    let app = builder(&url, &runs).build().await.unwrap();
    let id = app.send(celeriac_tests::through_gate::s(1)).await.unwrap().id().clone();
    let mut holder = dead.worker_of(env!("CARGO_BIN_EXE_actor"), &url, 1);
    until("it is held", async || server.command(&["HLEN", "unacked"]).await.text() == "1").await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    holder.kill().await.unwrap();
    let worker = Worker::start(&app, 1);
    // It does not know that task, and says so.
    let error = app.result::<u64>(id).get_timeout(PATIENCE).await.unwrap_err();
    assert_eq!(error.failure().unwrap().exc_type, "NotRegistered");
    worker.stop().await;
    app.close().await.unwrap();
    assert_eq!(undone(&server, 0, "").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_server_with_a_full_disk_is_waited_for() {
    let place =
        Place::new(RedisServer::builder().password(PASSWORD).config("enable-protected-configs yes"), RedisServer::url)
            .await;
    let results = place.app.send_batch((2..10).map(twice::s)).await.unwrap();
    // A folder that is gone cannot be written to, not even by root.
    let folder = place.server.folder().join("gone");
    std::fs::create_dir(&folder).unwrap();
    place.tell(&["CONFIG", "SET", "dir", &folder.display().to_string()]).await;
    place.tell(&["CONFIG", "SET", "save", "1 1"]).await;
    std::fs::remove_dir(&folder).unwrap();
    until("the server cannot save", async || {
        place.server.command(&["BGSAVE"]).await;
        place.server.command(&["INFO", "persistence"]).await.text().contains("rdb_last_bgsave_status:err")
    })
    .await;
    place.refuses(ErrorKind::Unavailable, "cannot write to its disk").await;
    until("the worker says it", async || log::says(&["WARN", "cannot write to its disk"])).await;
    place.tell(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]).await;
    for (result, n) in results.into_iter().zip(2..) {
        assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), n * 2);
    }
    place.works(20).await;
    place.close().await;
}

#[tokio::test]
async fn a_server_without_replicas_that_wants_some_is_waited_for() {
    let place = Place::plain().await;
    place.tell(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    place.refuses(ErrorKind::Unavailable, "`min-replicas-to-write`").await;
    until("the worker says it", async || log::says(&["WARN", "too few of its replicas"])).await;
    place.tell(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    place.works(2).await;
    place.close().await;
}

#[tokio::test]
async fn a_server_that_is_a_replica_for_a_while_is_waited_for() {
    let place = Place::plain().await;
    place.tell(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let sending = {
        let app = place.app.clone();
        tokio::spawn(async move { app.send(twice::s(2)).await })
    };
    until("it is said", async || log::says(&["WARN", "is a replica, and takes no changes"])).await;
    place.tell(&["REPLICAOF", "NO", "ONE"]).await;
    let sent = sending.await.unwrap();
    place.works(3).await;
    if let Ok(sent) = sent {
        assert_eq!(sent.get_timeout(PATIENCE).await.unwrap(), 4);
    }
    place.close().await;
}

/// Lets a task end.
#[derive(Clone)]
struct Gate(Arc<Semaphore>);

#[celeriac::task]
async fn gated(gate: State<Gate>, n: u64) -> u64 {
    gate.0.0.acquire().await.unwrap().forget();
    n
}

/// A task ends after `trouble` and before `cure`: its result is neither lost nor replaced, and it does not run again.
async fn ends_in_trouble(says: &str, trouble: impl AsyncFn(&RedisServer), cure: impl AsyncFn(&RedisServer)) {
    log::keep("info");
    for late in [true, false] {
        let server = RedisServer::builder().password(PASSWORD).start().await;
        let gate = Gate(Arc::new(Semaphore::new(0)));
        let app = App::builder("gated").read_env(false).broker_url(format!("{}?lease=1", server.url()));
        let app = app.state(gate.clone()).tasks(tasks![gated]).build().await.unwrap();
        let worker = app.worker().concurrency(1).acks_late(late).build().unwrap();
        let stop = worker.handle();
        let working = tokio::spawn(worker.run());
        let result = app.send(gated::s(7)).await.unwrap();
        until("it runs", async || {
            let held = server.command(&["HLEN", "unacked"]).await.text();
            let count = server.command(&["GET", "_celeriac.taken"]).await.text();
            !count.is_empty() && held == if late { "1" } else { "0" }
        })
        .await;
        trouble(&server).await;
        let before = log::kept().len();
        gate.0.add_permits(1);
        until("it is said", async || {
            log::kept()[before..].lines().any(|line| line.contains(says) && line.contains("trying again"))
        })
        .await;
        cure(&server).await;
        assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), 7, "late: {late}");
        until("nothing is left", async || undone(&server, 0, "").await.is_empty()).await;
        stop.shutdown();
        working.await.unwrap().unwrap();
        app.close().await.unwrap();
        assert_eq!(undone(&server, 0, "").await, Vec::<String>::new());
        assert!(!log::kept().contains(PASSWORD), "{}", log::kept());
    }
}

#[tokio::test]
async fn what_ends_while_nothing_can_be_written_is_stored_later() {
    ends_in_trouble(
        "too few of its replicas",
        async |server| drop(server.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await),
        async |server| drop(server.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await),
    )
    .await;
}

#[tokio::test]
async fn what_ends_while_the_password_is_another_is_stored_later() {
    ends_in_trouble(
        "no such user with this password",
        async |server| {
            let mut admin = server.connect().await.unwrap();
            admin.command(&["CONFIG", "SET", "requirepass", "another"]).await.unwrap();
            admin.command(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap();
            admin.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap();
        },
        async |server| {
            let mut admin = celeriac_testkit::server::RawRedis::connect_unix(&server.socket()).await.unwrap();
            admin.command(&["AUTH", "another"]).await.unwrap();
            admin.command(&["CONFIG", "SET", "requirepass", PASSWORD]).await.unwrap();
        },
    )
    .await;
}

#[tokio::test]
async fn what_ends_while_permissions_lack_is_stored_later() {
    ends_in_trouble(
        "lacks a permission",
        async |server| drop(server.command(&["ACL", "SETUSER", "default", "-evalsha"]).await),
        async |server| drop(server.command(&["ACL", "SETUSER", "default", "+evalsha"]).await),
    )
    .await;
    ends_in_trouble(
        "lacks a permission",
        async |server| drop(server.command(&["ACL", "SETUSER", "default", "-hdel", "-setex"]).await),
        async |server| drop(server.command(&["ACL", "SETUSER", "default", "+hdel", "+setex"]).await),
    )
    .await;
}

/// A user of the server with these rules, as the URL of an app.
fn user(rules: &str) -> RedisBuilder {
    RedisServer::builder().user("worker", PASSWORD, rules)
}

#[tokio::test]
async fn a_user_without_key_tracking_works_all_the_same() {
    let rules = "~* &* +@all -client|tracking";
    let place = Place::new(user(rules), |server| server.url_as("worker", PASSWORD)).await;
    place.works(1).await;
    place.close().await;
}

#[tokio::test]
async fn a_user_without_scripts_is_named_with_the_cure() {
    let place = Place::new(user("~* &* +@all"), |server| server.url_as("worker", PASSWORD)).await;
    place.tell(&["ACL", "SETUSER", "worker", "-evalsha"]).await;
    let result = place.app.send(twice::s(1)).await.unwrap();
    let error = place.app.send(twice::s(2).countdown(Duration::from_millis(10))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    for part in ["lacks a permission to run a command", "+@all", "evalsha"] {
        assert!(error.report().contains(part), "`{part}` is not named in: {}", error.report());
    }
    until("the worker says it", async || log::says(&["WARN", "cannot fetch", "evalsha"])).await;
    place.tell(&["ACL", "SETUSER", "worker", "+evalsha"]).await;
    assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), 2);
    place.close().await;
}

#[tokio::test]
async fn a_user_without_keys_or_channels_is_named_with_the_cure() {
    let server = user("~mine:* resetchannels &mine:* +@all").start().await;
    let url = server.url_as("worker", PASSWORD);
    let app = builder(&url, &Runs::default()).build().await.unwrap();
    for error in [
        app.send(twice::s(1)).await.unwrap_err(),
        app.send(twice::s(2).countdown(Duration::from_millis(10))).await.unwrap_err(),
        app.broker().depth(&celeriac::QueueName::DEFAULT).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
        assert!(error.report().contains("for a key; `ACL SETUSER ... ~*`"), "{}", error.report());
    }
    let error = app.worker().build().unwrap().run().await.unwrap_err();
    assert!(error.report().contains("for a channel; `ACL SETUSER ... &*`"), "{}", error.report());
    let unknown = celeriac::TaskId::new("unknown").unwrap();
    let error = app.result::<u64>(unknown).get_timeout(PATIENCE).await.unwrap_err();
    assert!(error.to_string().contains("lacks a permission"), "{error}");
    app.close().await.unwrap();
    // Under a prefix of its own it has all it needs.
    let url = format!("{url}?global_keyprefix=mine:&result_keyprefix=mine:");
    let app = builder(&url, &Runs::default()).build().await.unwrap();
    let worker = Worker::start(&app, 1);
    assert_eq!(app.send(twice::s(1)).await.unwrap().get_timeout(PATIENCE).await.unwrap(), 2);
    worker.stop().await;
    app.close().await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_the_url_or_its_server_is_said_at_the_start() {
    let server = RedisServer::builder().password("right").start().await;
    let at = server.address();
    names(&refusal(&format!("redis://{at}/0")).await, ErrorKind::Config, "redis://:password@host");
    names(&refusal(&format!("redis://:{PASSWORD}@{at}/0")).await, ErrorKind::Config, "no such user with this password");
    names(
        &refusal(&format!("redis://who:{PASSWORD}@{at}/0")).await,
        ErrorKind::Config,
        "no such user with this password",
    );
    names(&refusal(&format!("redis://:right@{at}/99")).await, ErrorKind::Config, "no database of that number");
    names(&refusal(&format!("redis://:right@{at}/x?password={PASSWORD}")).await, ErrorKind::Config, "database");
    names(&refusal(&format!("redis://:{PASSWORD}@{at}/0?lese=1")).await, ErrorKind::Config, "`lese`");
    names(&refusal(&format!("redis://:{PASSWORD}@{at}/0?lease=0")).await, ErrorKind::Config, "`lease`");

    let replica = RedisServer::start().await;
    replica.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    names(&refusal(&replica.url()).await, ErrorKind::Unavailable, "is a replica");
    let gone = replica.address();
    drop(replica);
    names(&refusal(&format!("redis://:{PASSWORD}@{gone}/0")).await, ErrorKind::Unavailable, &gone.to_string());
}

#[tokio::test]
async fn a_server_that_is_no_redis_is_named() {
    let address = http_server().await;
    let error = refusal(&format!("redis://:{PASSWORD}@{address}/0")).await;
    names(&error, ErrorKind::Unavailable, "is not Redis");
    names(&error, ErrorKind::Unavailable, &address.to_string());
}
