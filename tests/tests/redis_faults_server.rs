//! The Redis server is away for a while, killed or halted: nothing is lost, nothing hangs for ever, and work goes on by itself.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test tells its figures, and may fail")]

use std::time::Duration;

use celeriac::prelude::*;
use celeriac::{AppBuilder, ErrorKind, QueueName};
use celeriac_testkit::server::{Fsync, RedisServer};
use celeriac_tests::load::under_load;
use celeriac_tests::redis::undone;
use celeriac_tests::runs::{PATIENCE, Runs, Worker, builder, twice};
use celeriac_tests::scenario::Site;
use celeriac_tests::{Place, signal, through_gate, until};
use rustix::process::Signal;
use tokio::time::Instant;

async fn durable() -> RedisServer {
    RedisServer::builder().append_only(Fsync::Always).start().await
}

/// An app over the server, with a short lease, that sends as long as it takes.
async fn app(server: &RedisServer, runs: &Runs) -> App {
    Busy(server).app(runs).build().await.unwrap()
}

#[tokio::test]
async fn sending_without_a_server_fails_in_time_and_works_again_with_it() {
    let (server, runs) = (durable().await, Runs::default());
    let limit = Duration::from_millis(500);
    let app = builder(&server.url(), &runs).publish_timeout(limit).build().await.unwrap();
    until("the app is connected", async || app.send(twice::s(1)).await.is_ok()).await;
    server.kill();
    for _ in 0..3 {
        let began = Instant::now();
        let error = app.send(twice::s(2)).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{}", error.report());
        assert!(began.elapsed() < limit * 10, "{:?}", began.elapsed());
    }
    server.restart().await;
    until("sending works again", async || app.send(twice::s(3)).await.is_ok()).await;
    assert!(app.broker().depth(&QueueName::DEFAULT).await.unwrap() >= 2);
    app.close().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_away_is_said_and_so_is_its_return() {
    celeriac_tests::log::keep("info");
    let (server, runs) = (durable().await, Runs::default());
    let app = app(&server, &runs).await;
    let worker = Worker::start(&app, 2);
    assert_eq!(app.send(twice::s(1)).await.unwrap().get_timeout(PATIENCE).await.unwrap(), 2);
    let lines = |part: &str| {
        let address = server.address().to_string();
        celeriac_tests::log::kept().lines().filter(|line| line.contains(part) && line.contains(&address)).count()
    };
    server.kill();
    until("it is said", async || lines("WARN") > 0).await;
    server.restart().await;
    assert_eq!(app.send(twice::s(2)).await.unwrap().get_timeout(PATIENCE).await.unwrap(), 4);
    until("its return is said", async || lines("is there again") > 0).await;
    worker.stop().await;
    app.close().await.unwrap();
    // Now and then one connection is made while another fails.
    assert!(lines("WARN") <= 3 && lines("is there again") <= 3, "{}", celeriac_tests::log::kept());
}

#[tokio::test]
async fn who_waits_for_a_result_waits_through_a_restart() {
    let (server, runs) = (durable().await, Runs::default());
    let app = app(&server, &runs).await;
    let result = app.send(twice::s(1)).await.unwrap();
    let waiting = tokio::spawn(async move { result.get().await });
    until("the server knows who waits", async || {
        server.command(&["PUBSUB", "CHANNELS", "celery-task-meta-*"]).await.texts().len() == 1
    })
    .await;
    server.kill();
    server.restart().await;
    let worker = Worker::start(&app, 1);
    assert_eq!(tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap(), 2);
    worker.stop().await;
    app.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_without_a_server_gives_up_and_what_was_held_comes_back() {
    for halted in [false, true] {
        let (server, runs) = (durable().await, Runs::default());
        let holder = app(&server, &runs).await;
        let result = holder.send(twice::s(1)).await.unwrap();
        let mut consumer =
            holder.broker().consume(celeriac::broker::ConsumeOptions::new([QueueName::DEFAULT])).await.unwrap();
        let held = consumer.recv(std::num::NonZeroUsize::MIN).await.unwrap();
        assert_eq!(held.len(), 1);
        if halted {
            server.pause()
        } else {
            server.kill()
        }
        let began = Instant::now();
        let closed = tokio::time::timeout(PATIENCE, holder.close()).await.expect("closing does not hang");
        let error = closed.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
        assert!(error.report().contains("could not be handed back"), "{}", error.report());
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        assert!(holder.send(twice::s(2)).await.is_err(), "it is closed all the same");
        drop((consumer, held, holder));

        if halted {
            server.resume()
        } else {
            server.restart().await
        }
        let other = app(&server, &runs).await;
        let worker = Worker::start(&other, 1);
        assert_eq!(other.result::<u64>(result.id().clone()).get_timeout(PATIENCE).await.unwrap(), 2);
        worker.stop().await;
        other.close().await.unwrap();
        assert_eq!(undone(&server, 0, "").await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_worker_that_is_told_twice_ends_without_a_server_and_what_it_held_comes_back() {
    let (server, place) = (durable().await, Place::new());
    let url = format!("{}?lease=1", server.url());
    let app = celeriac_tests::app(&url, place.path()).await.unwrap();
    let results = app.send_batch((0..4).map(through_gate::s)).await.unwrap();
    let mut worker = place.worker_of(env!("CARGO_BIN_EXE_actor"), &url, 4);
    let traces = place.traces();
    until("they run", async || traces.lines("started").len() == 4).await;
    server.kill();
    signal(&worker, Signal::TERM);
    place.until_a_worker_stops().await;
    assert!(worker.try_wait().unwrap().is_none(), "it finishes what runs");
    signal(&worker, Signal::INT);
    tokio::time::timeout(Duration::from_secs(30), worker.wait()).await.expect("it ends").unwrap();

    server.restart().await;
    place.open_gate();
    let mut other = place.worker_of(env!("CARGO_BIN_EXE_actor"), &url, 4);
    for (n, result) in results.into_iter().enumerate() {
        assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), n as u64);
    }
    signal(&other, Signal::TERM);
    assert!(other.wait().await.unwrap().success());
    app.close().await.unwrap();
    assert_eq!(undone(&server, 0, "").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_without_a_server_stores_what_has_ended_once_it_is_there() {
    let (server, place) = (durable().await, Place::new());
    let url = format!("{}?lease=1", server.url());
    let app = celeriac_tests::app(&url, place.path()).await.unwrap();
    let results = app.send_batch((0..4).map(through_gate::s)).await.unwrap();
    let mut worker = place.worker_of(env!("CARGO_BIN_EXE_actor"), &url, 4);
    let traces = place.traces();
    until("they run", async || traces.lines("started").len() == 4).await;
    server.kill();
    signal(&worker, Signal::TERM);
    place.open_gate();
    until("they have ended", async || traces.lines("ended").len() == 4).await;
    assert!(worker.try_wait().unwrap().is_none(), "there is still something to store");
    server.restart().await;
    assert!(tokio::time::timeout(PATIENCE, worker.wait()).await.unwrap().unwrap().success());
    for (n, result) in results.into_iter().enumerate() {
        assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), n as u64);
    }
    app.close().await.unwrap();
    assert_eq!(traces.lines("started").len(), 4, "none ran twice");
    assert_eq!(undone(&server, 0, "").await, Vec::<String>::new());
}

/// A server under load, by apps that send as long as it takes.
struct Busy<'a>(&'a RedisServer);

impl Site for Busy<'_> {
    fn app(&self, runs: &Runs) -> AppBuilder {
        let url = format!("{}?lease=1&response_timeout=5", self.0.url());
        builder(&url, runs).publish_timeout(PATIENCE)
    }

    async fn undone(&self) -> Vec<String> {
        undone(self.0, 0, "").await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_under_load_loses_nothing() {
    let server = durable().await;
    under_load(&[Busy(&server)], 5, async || {
        server.kill();
        server.restart().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_halts_for_longer_than_the_lease_loses_nothing() {
    let server = RedisServer::start().await;
    under_load(&[Busy(&server)], 2, async || {
        server.pause();
        tokio::time::sleep(Duration::from_millis(1_700)).await; // wait: longer than the lease
        server.resume();
    })
    .await;
}
