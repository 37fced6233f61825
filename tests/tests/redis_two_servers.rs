//! Tasks on one server, their results on another: a result is stored before its message is acknowledged, and whoever has one to store
//! waits for its server.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use celeriac::prelude::*;
use celeriac_testkit::server::{Fsync, RawRedis, RedisServer};
use celeriac_tests::redis::undone;
use celeriac_tests::runs::{PATIENCE, Runs, Worker, builder, early, fails, progresses, second_time, twice};
use celeriac_tests::{log, until};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const LEASE: Duration = Duration::from_secs(1);
const PASSWORD: &str = "hunter2-secret";

/// Where tasks wait.
#[derive(Debug, Clone)]
struct Gate {
    permits: Arc<Semaphore>,
    /// How often a task came here.
    came: Arc<AtomicUsize>,
}

impl Gate {
    fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(0)), came: Arc::default() }
    }

    async fn pass(&self) {
        self.came.fetch_add(1, Ordering::Relaxed);
        self.permits.acquire().await.unwrap().forget();
    }

    fn came(&self) -> usize {
        self.came.load(Ordering::Relaxed)
    }

    /// Lets so many through.
    async fn open(&self, count: usize) {
        self.permits.add_permits(count);
        until("they pass the gate", async || self.permits.available_permits() == 0).await;
    }
}

#[celeriac::task]
async fn gated(gate: State<Gate>, n: u64) -> u64 {
    gate.pass().await;
    n * 2
}

/// As `gated`; acknowledged before it runs.
#[celeriac::task(acks_late = false)]
async fn gated_early(gate: State<Gate>, n: u64) -> u64 {
    gate.pass().await;
    n * 2
}

/// Two servers that keep what they were told, and an app over both.
struct Two {
    tasks: RedisServer,
    results: RedisServer,
    runs: Runs,
    gate: Gate,
    app: App,
}

async fn app(tasks: &str, results: &str, runs: &Runs, gate: &Gate) -> App {
    let app = builder(&format!("{tasks}?lease=1&response_timeout=5"), runs).publish_timeout(PATIENCE);
    let app = app.result_backend(format!("{results}?response_timeout=5")).state(gate.clone());
    app.tasks(tasks![gated, gated_early]).build().await.unwrap()
}

impl Two {
    async fn new() -> Self {
        log::keep("info");
        let durable = || RedisServer::builder().append_only(Fsync::Always).password(PASSWORD).start();
        let (tasks, results) = tokio::join!(durable(), durable());
        let (runs, gate) = (Runs::default(), Gate::new());
        let app = app(&tasks.url(), &results.url(), &runs, &gate).await;
        Self { tasks, results, runs, gate, app }
    }

    /// Another app over the same servers.
    async fn other(&self) -> App {
        app(&self.tasks.url(), &self.results.url(), &self.runs, &self.gate).await
    }

    /// How many messages are taken and not acknowledged.
    async fn held(&self) -> String {
        self.tasks.command(&["HLEN", "unacked"]).await.text()
    }

    /// Sends two tasks that wait at the gate, the second acknowledged before, and waits until they do.
    async fn begin(&self) -> [AsyncResult<u64>; 2] {
        let results = [self.app.send(gated::s(1)).await.unwrap(), self.app.send(gated_early::s(2)).await.unwrap()];
        until("both run", async || self.gate.came() == 2 && self.held().await == "1").await;
        results
    }

    /// Sees to it that both have their results, without running again, and nothing else is left.
    async fn have_ended(self, results: [AsyncResult<u64>; 2]) {
        for (result, n) in results.into_iter().zip(1..) {
            assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), n * 2);
        }
        until("the message is acknowledged", async || self.held().await == "0").await;
        assert_eq!(self.gate.came(), 2, "none runs twice");
        self.app.close().await.unwrap();
        assert_eq!(undone(&self.tasks, 0, "").await, Vec::<String>::new());
        assert_eq!(undone(&self.results, 0, "").await, Vec::<String>::new());
        assert!(!log::kept().contains(PASSWORD), "{}", log::kept());
    }
}

/// Every kind of end; then the keys of both databases.
async fn are_kept_apart((tasks, place): (&RedisServer, u8), (results, other_place): (&RedisServer, u8)) {
    let (queue_url, result_url) = (tasks.url_of(place), results.url_of(other_place));
    let app = app(&queue_url, &result_url, &Runs::default(), &Gate::new()).await;
    let worker = Worker::start(&app, 4);
    let mut sent = vec![
        app.send(twice::s(1)).await.unwrap(),
        app.send(progresses::s(2)).await.unwrap(),
        app.send(early::s(3)).await.unwrap(),
        app.send(second_time::s(4)).await.unwrap(),
        app.send(twice::s(5).countdown(LEASE / 10)).await.unwrap(),
    ];
    sent.extend(app.send_batch((6..20).map(twice::s)).await.unwrap());
    for (result, n) in sent.into_iter().zip(1..) {
        assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), n * 2);
    }
    let failed = app.send(fails::s(20)).await.unwrap().get_timeout(PATIENCE).await.unwrap_err();
    assert_eq!(failed.failure().unwrap().message(), "task 20 always fails");
    worker.stop().await;
    app.close().await.unwrap();
    assert_eq!(undone(tasks, place, "").await, Vec::<String>::new());
    for (server, database, has_results) in [(tasks, place, false), (results, other_place, true)] {
        let mut connection = server.connect().await.unwrap();
        connection.command(&["SELECT", &database.to_string()]).await.unwrap();
        let keys = connection.command(&["KEYS", "*"]).await.unwrap().texts();
        assert!(!keys.is_empty());
        assert!(keys.iter().all(|key| key.starts_with("celery-task-meta-") == has_results), "{keys:?}");
    }
}

#[tokio::test]
async fn messages_and_results_are_kept_apart() {
    let (one, other) = tokio::join!(RedisServer::start(), RedisServer::start());
    are_kept_apart((&one, 0), (&other, 0)).await;
    are_kept_apart((&one, 1), (&one, 2)).await;
}

#[tokio::test]
async fn a_result_is_stored_before_its_message_is_acknowledged() {
    let two = Two::new().await;
    let worker = Worker::start(&two.app, 2);
    let results = two.begin().await;
    // It hears of no acknowledgement any more.
    two.tasks.pause();
    two.gate.open(2).await;
    let stored = async || two.results.command(&["KEYS", "celery-task-meta-*"]).await.texts().len();
    until("both results are stored", async || stored().await == 2).await;
    two.tasks.resume();
    until("it is acknowledged", async || two.held().await == "0").await;
    worker.stop().await;
    two.have_ended(results).await;
}

/// Tasks end after `trouble` with the server of results, and before `cure`: their results are stored in the end, and until then no message is
/// acknowledged, and none goes to the other worker.
async fn are_stored_later(trouble: impl AsyncFn(&RedisServer), cure: impl AsyncFn(&RedisServer)) {
    let two = Two::new().await;
    let other = two.other().await;
    let workers = [Worker::start(&two.app, 1), Worker::start(&other, 1)];
    let results = two.begin().await;
    trouble(&two.results).await;
    two.gate.open(2).await;
    tokio::time::sleep(LEASE * 5).await; // wait: a message whose lease was not renewed would be found by now
    assert_eq!((two.held().await.as_str(), two.gate.came()), ("1", 2));
    cure(&two.results).await;
    for result in &results {
        result.get_timeout(PATIENCE).await.unwrap();
    }
    for worker in workers {
        worker.stop().await;
    }
    other.close().await.unwrap();
    two.have_ended(results).await;
}

#[tokio::test]
async fn results_are_stored_when_their_server_has_come_back() {
    are_stored_later(async |server| server.kill(), async |server| server.restart().await).await;
}

#[tokio::test]
async fn results_are_stored_when_their_server_answers_again() {
    are_stored_later(async |server| server.pause(), async |server| server.resume()).await;
}

#[tokio::test]
async fn results_are_stored_when_their_server_takes_writes_again() {
    let replicas = async |server: &RedisServer, count: &str| {
        server.command(&["CONFIG", "SET", "min-replicas-to-write", count]).await;
    };
    are_stored_later(async |server| replicas(server, "1").await, async |server| replicas(server, "0").await).await;
}

#[tokio::test]
async fn results_are_stored_when_their_server_has_its_password_again() {
    are_stored_later(
        async |server| {
            let mut admin = server.connect().await.unwrap();
            admin.command(&["CONFIG", "SET", "requirepass", "another"]).await.unwrap();
            admin.command(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap();
            admin.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap();
        },
        async |server| {
            let mut admin = RawRedis::connect_unix(&server.socket()).await.unwrap();
            admin.command(&["AUTH", "another"]).await.unwrap();
            admin.command(&["CONFIG", "SET", "requirepass", PASSWORD]).await.unwrap();
        },
    )
    .await;
}

#[tokio::test]
async fn results_are_stored_when_their_user_may_again() {
    let rule = async |server: &RedisServer, rule: &str| {
        server.command(&["ACL", "SETUSER", "default", rule]).await;
    };
    are_stored_later(async |server| rule(server, "-setex").await, async |server| rule(server, "+setex").await).await;
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_waits_for_the_server_of_results() {
    let two = Two::new().await;
    let worker = Worker::start(&two.app, 2);
    let results = two.begin().await;
    two.results.kill();
    two.gate.open(2).await;
    let mut stopping = tokio::spawn(worker.stop());
    let early = tokio::time::timeout(LEASE * 2, &mut stopping).await;
    assert!(early.is_err(), "there are results to store");
    two.results.restart().await;
    stopping.await.unwrap();
    two.have_ended(results).await;
}

#[tokio::test]
async fn a_worker_that_is_told_twice_leaves_what_has_no_result_to_the_next() {
    let two = Two::new().await;
    let worker = two.app.worker().concurrency(2).build().unwrap();
    let stop = worker.handle();
    let running = tokio::spawn(worker.run());
    let [late, _early] = two.begin().await;
    two.results.kill();
    two.gate.open(2).await;
    stop.shutdown();
    stop.shutdown();
    tokio::time::timeout(PATIENCE, running).await.expect("it ends").unwrap().unwrap();
    // Of the second message nothing is left: it was acknowledged before its task ran.
    until("the message is back", async || two.tasks.command(&["LLEN", "celery"]).await.text() == "1").await;
    two.results.restart().await;
    let worker = Worker::start(&two.app, 2);
    two.gate.open(1).await;
    assert_eq!(late.get_timeout(PATIENCE).await.unwrap(), 2);
    assert_eq!(two.gate.came(), 3);
    worker.stop().await;
    two.app.close().await.unwrap();
    assert_eq!(undone(&two.tasks, 0, "").await, Vec::<String>::new());
}

#[tokio::test]
async fn results_go_to_a_full_server_too_so_that_what_waits_is_worked_off() {
    let two = Two::new().await;
    let worker = Worker::start(&two.app, 2);
    let results = two.begin().await;
    two.results.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    two.gate.open(2).await;
    for result in &results {
        result.get_timeout(PATIENCE).await.unwrap();
    }
    worker.stop().await;
    two.have_ended(results).await;
}

/// Sends tasks, alone and in batches, until `enough`; their number and their results.
async fn send(app: App, enough: Arc<AtomicBool>) -> Vec<(u64, AsyncResult<u64>)> {
    let (mut results, mut next) = (Vec::new(), 0);
    while !enough.load(Ordering::Relaxed) {
        results.push((next, app.send(twice::s(next)).await.unwrap()));
        let batch = next + 1..next + 20;
        let sent = app.send_batch(batch.clone().map(twice::s)).await.unwrap();
        next = batch.end;
        results.extend(batch.zip(sent));
    }
    results
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_results_that_is_killed_under_load_costs_no_result_and_no_second_run() {
    let two = Two::new().await;
    let others = [two.other().await, two.other().await];
    let workers = [Worker::start(&others[0], 8), Worker::start(&others[1], 8)];
    let enough = Arc::new(AtomicBool::new(false));
    let sending = tokio::spawn(send(two.app.clone(), Arc::clone(&enough)));
    for _ in 0..4 {
        let more = two.runs.done() + 300;
        until("more tasks are done", async || two.runs.done() >= more).await;
        two.results.kill();
        tokio::time::sleep(LEASE * 2).await; // wait: longer than the leases of what cannot be acknowledged meanwhile
        two.results.restart().await;
    }
    enough.store(true, Ordering::Relaxed);
    let results = sending.await.unwrap();
    let count = results.len();
    let mut waiting = JoinSet::new();
    for (n, result) in results {
        waiting.spawn(async move { (n, result.get_timeout(PATIENCE).await) });
    }
    while let Some(ended) = waiting.join_next().await {
        let (n, outcome) = ended.unwrap();
        assert_eq!(outcome.unwrap_or_else(|error| panic!("task {n} of {count} has no result: {error}")), n * 2);
    }
    assert_eq!((two.runs.done(), two.runs.all()), (count, count as u64), "each ran once");
    until("nothing is left", async || undone(&two.tasks, 0, "").await.is_empty()).await;
    for (worker, app) in workers.into_iter().zip(others) {
        worker.stop().await;
        app.close().await.unwrap();
    }
    two.app.close().await.unwrap();
}
